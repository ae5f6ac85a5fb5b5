"""What holds for every head for event localization, asked of each file in `avpea/tasks/*/heads/` without naming any."""

import pytest
import torch
from torch import Tensor

from avpea import registry
from avpea.tasks import Dims
from avpea.tasks.avel.heads import EventHead
from tests.tiny import event_labels, section

NAMES = [name for name in registry.names("head") if issubclass(registry.load("head", name), EventHead)]
DIM, CLASSES = 16, 3


def make(name: str, audio_dim: int = DIM) -> EventHead:
    torch.manual_seed(0)
    labels = event_labels("bark", "flute", "train")
    head = registry.load("head", name).build(section("head", name), Dims(DIM, audio_dim), labels)
    assert isinstance(head, EventHead)
    return head


def tokens(
    batch: int = 2, segments: int = 5, patches: int = 6, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (batch, segments, patches, DIM), (batch, segments, DIM), (batch, segments, DIM)
    visual, visual_cls, audio_cls = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    return visual, visual_cls, audio_cls


def labels_for(batch: int = 2, segments: int = 5) -> Tensor:
    labels = torch.full((batch, segments), CLASSES)
    labels[0, : segments // 2 + 1] = 1
    return labels


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("batch", "segments", "patches"), [(2, 5, 6), (1, 1, 6), (1, 10, 1), (3, 2, 4)])
def test_any_number_of_videos_segments_and_patches(name: str, batch: int, segments: int, patches: int) -> None:
    head = make(name)
    output = head(*tokens(batch, segments, patches))
    probabilities, answers = head.probabilities(output), head.decide(output)
    assert probabilities.shape == (batch, segments, CLASSES + 1)
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(batch, segments))
    assert answers.shape == (batch, segments)
    assert bool(((answers >= 0) & (answers <= CLASSES)).all())
    terms = head.loss(output, labels_for(batch, segments))
    assert all(term.shape == () and term.isfinite() for term in terms.values())


@pytest.mark.parametrize("name", NAMES)
def test_streams_of_unequal_width(name: str) -> None:
    head = make(name, 10)
    visual, visual_cls, _ = tokens()
    output = head(visual, visual_cls, torch.randn(2, 5, 10))
    assert head.probabilities(output).shape == (2, 5, CLASSES + 1)
    unsaid = registry.load("head", name)(DIM, CLASSES)  # as wide as the visual stream
    assert {key: p.shape for key, p in unsaid.named_parameters()} == {
        key: p.shape for key, p in make(name).named_parameters()
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_gradient(name: str) -> None:
    head = make(name).double()
    terms = head.loss(head(*tokens(dtype=torch.float64)), labels_for())
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in head.parameters())
    # A bias of attention keys moves all logits of a query alike, which the softmax does not see.
    size = {key: float(p.grad.abs().max()) for key, p in head.named_parameters() if p.grad is not None}
    assert not [key for key, value in size.items() if value < 1e-12 and not key.endswith("key.bias")]


@pytest.mark.parametrize("name", NAMES)
def test_videos_do_not_see_each_other(name: str) -> None:
    head = make(name).double().eval()
    visual, visual_cls, audio_cls = tokens(dtype=torch.float64)
    together = head.probabilities(head(visual, visual_cls, audio_cls))
    alone = head.probabilities(head(visual[1:], visual_cls[1:], audio_cls[1:]))
    torch.testing.assert_close(together[1:], alone)


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_same_with_and_without_gradients(name: str) -> None:
    head = make(name).double().eval()
    inputs = tokens(dtype=torch.float64)
    with_gradients = head.probabilities(head(*inputs))
    with torch.inference_mode():
        without = head.probabilities(head(*inputs))
    assert (with_gradients - without).abs().max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_runs_in_bfloat16_autocast(name: str) -> None:
    head = make(name).eval()
    exact = head.probabilities(head(*tokens()))
    head.train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = head.loss(head(*tokens()), labels_for())
    torch.stack(list(terms.values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in head.parameters() if p.grad is not None)
    with torch.autocast("cpu", torch.bfloat16):
        rough = head.probabilities(head.eval()(*tokens())).float()
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_background_alone_still_trains(name: str) -> None:
    head = make(name)
    terms = head.loss(head(*tokens()), torch.full((2, 5), CLASSES))
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in head.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_learns_a_small_task(name: str) -> None:
    head, inputs, labels = make(name), tokens(), labels_for()
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    for _ in range(6):
        for _ in range(10):
            optimizer.zero_grad()
            torch.stack(list(head.loss(head(*inputs), labels).values())).sum().backward()
            optimizer.step()
        if torch.equal(head.eval().decide(head(*inputs)), labels):
            return
        head.train()
    raise AssertionError("it has not learned the labels")
