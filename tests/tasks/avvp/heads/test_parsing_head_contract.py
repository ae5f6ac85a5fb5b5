"""What holds for every head for video parsing, asked of each file in `avpea/tasks/*/heads/` without naming any."""

from typing import Any

import pytest
import torch
from torch import Tensor

from avpea import registry
from avpea.labels import LaneLabels
from avpea.tasks import Dims
from avpea.tasks.avvp.heads import LaneTargets, Parsed, ParsingHead
from tests.tiny import section

NAMES = [name for name in registry.names("head") if issubclass(registry.load("head", name), ParsingHead)]
DIM, CLASSES = 16, 3


def make(name: str, audio_dim: int = DIM) -> ParsingHead:
    torch.manual_seed(0)
    labels = LaneLabels(("bark", "flute", "train"))
    head = registry.load("head", name).build(section("head", name), Dims(DIM, audio_dim), labels)
    assert isinstance(head, ParsingHead)
    return head


def tokens(batch: int = 2, segments: int = 5, dtype: torch.dtype = torch.float32, audio: int = DIM) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, segments, dim, generator=generator, dtype=dtype) for dim in (DIM, DIM, audio)]


def targets(batch: int = 2, segments: int = 5, timed: bool = True) -> LaneTargets:
    """Class 1 is seen in the first half, class 2 heard in the other, in the first video only."""
    seen, heard = torch.zeros(batch, segments, CLASSES), torch.zeros(batch, segments, CLASSES)
    seen[0, : segments // 2 + 1, 1] = 1
    heard[0, segments // 2 :, 2] = 1
    classes = torch.maximum(seen, heard).amax(dim=1)
    real = torch.ones(batch, segments, dtype=torch.bool)
    return LaneTargets(classes, seen, heard, torch.full((batch,), timed), real)


def parsed(head: ParsingHead, inputs: list[Tensor]) -> Parsed:
    return head.parsed(head(*inputs))


def total(head: ParsingHead, output: Any, wanted: LaneTargets) -> Tensor:
    return torch.stack(list(head.loss(output, wanted).values())).sum()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("batch", "segments"), [(2, 5), (1, 1), (3, 10)])
def test_probabilities_for_any_number_of_videos_and_segments(name: str, batch: int, segments: int) -> None:
    head = make(name, 10)
    output = head(*tokens(batch, segments, audio=10))
    found = head.parsed(output)
    assert found.seen.shape == found.heard.shape == (batch, segments, CLASSES)
    assert found.video.shape == found.video_seen.shape == found.video_heard.shape == (batch, CLASSES)
    assert all(bool(((each >= 0) & (each <= 1)).all()) for each in vars(found).values())
    assert total(head, output, targets(batch, segments)).isfinite()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("timed", [True, False])
def test_every_weight_gets_a_gradient(name: str, timed: bool) -> None:
    head = make(name).double().eval()  # without dropout, which may drop all that a weight sees
    with torch.no_grad():
        for weight in head.parameters():  # some start where others get no gradient
            weight.add_(0.05 * torch.randn_like(weight))
    wanted = targets(timed=timed)
    total(head, head(*tokens(dtype=torch.float64)), wanted).backward()
    missing = [key for key, p in head.named_parameters() if p.grad is None or not float(p.grad.abs().max())]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_videos_do_not_see_each_other(name: str) -> None:
    head, inputs = make(name).double().eval(), tokens(dtype=torch.float64)
    together, alone = parsed(head, inputs), parsed(head, [one[1:] for one in inputs])
    torch.testing.assert_close(together.seen[1:], alone.seen)
    torch.testing.assert_close(together.video[1:], alone.video)


@pytest.mark.parametrize("name", NAMES)
def test_seconds_of_padding_and_of_weak_videos_count_in_no_loss_of_seconds(name: str) -> None:
    head = make(name).eval()
    output = head(*tokens())
    plain = targets()
    short = LaneTargets(plain.classes, plain.seen, plain.heard, plain.timed, plain.real.clone())
    short.real[:, 3:] = False
    other = LaneTargets(plain.classes, plain.seen.clone(), plain.heard, plain.timed, short.real)
    other.seen[:, 3:] = 1 - other.seen[:, 3:]
    one, two = head.loss(output, short), head.loss(output, other)
    weak = head.loss(output, targets(timed=False))
    assert ("seconds_seen" in one) == head.tells_seconds
    if head.tells_seconds:
        assert torch.equal(one["seconds_seen"], two["seconds_seen"])
        assert weak["seconds_seen"] == weak["seconds_heard"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_same_with_and_without_gradients(name: str) -> None:
    head, inputs = make(name).double().eval(), tokens(dtype=torch.float64)
    with_gradients = parsed(head, inputs).seen
    with torch.inference_mode():
        assert (parsed(head, inputs).seen - with_gradients).abs().max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_runs_in_bfloat16_autocast(name: str) -> None:
    head = make(name).eval()
    exact = parsed(head, tokens())
    with torch.autocast("cpu", torch.bfloat16):
        output = head(*tokens())
        loss = total(head, output, targets())
    loss.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in head.parameters())
    torch.testing.assert_close(head.parsed(output).seen, exact.seen, rtol=0, atol=0.03)
    assert head.parsed(output).seen.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_learns_a_small_task(name: str) -> None:
    head, inputs, wanted = make(name), tokens(), targets()
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    for _ in range(20):  # a linear head needs more steps than HAN
        for _ in range(40):
            optimizer.zero_grad()
            total(head, head(*inputs), wanted).backward()
            optimizer.step()
        found = parsed(head.eval(), inputs)
        learned = torch.equal((found.video >= 0.5).float(), wanted.classes)
        if head.tells_seconds:
            pairs = ((found.seen, wanted.seen), (found.heard, wanted.heard))
            learned = learned and all(torch.equal((one >= 0.5).float(), truth) for one, truth in pairs)
        head.train()
        if learned:
            return
    raise AssertionError("it has not learned")
