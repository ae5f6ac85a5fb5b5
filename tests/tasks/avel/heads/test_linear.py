"""LAVISH's head: counts, both layers by hand, and its loss against PyTorch's own."""

import pytest
import torch

from avpea.labels import EventLabels
from avpea.tasks import Dims
from avpea.tasks.avel.heads._weighted import WeightedOptions
from avpea.tasks.avel.heads.linear import LinearHead
from tests.tasks.avel.heads.test_event_head_contract import CLASSES, DIM, labels_for, tokens


@pytest.mark.parametrize(("dim", "parameters"), [(768, 801_821), (1024, 1_063_965)])
def test_counts(dim: int, parameters: int) -> None:
    head = LinearHead(dim, 28)
    assert sum(p.numel() for p in head.parameters()) == parameters
    assert head.registered_but_unused() == {}


@torch.no_grad()
def test_is_one_affine_map_of_both_cls_tokens_sound_first() -> None:
    head = LinearHead(DIM, CLASSES).double()
    visual, visual_cls, audio_cls = tokens(dtype=torch.float64)
    logits = head(visual, visual_cls, audio_cls)
    for b in range(2):
        for t in range(5):
            both = torch.tensor([*audio_cls[b, t].tolist(), *visual_cls[b, t].tolist()], dtype=torch.float64)
            hidden = head.hidden.weight @ both + head.hidden.bias
            expected = head.classes.weight @ hidden + head.classes.bias
            assert (logits[b, t] - expected).abs().max() < 1e-12


@torch.no_grad()
def test_on_the_visual_stream_alone_it_is_the_whole_head_given_zeros_for_the_sound() -> None:
    """As the probe had it that the recipe mini/exchange-probe stands for, without the weights that nothing moves."""
    whole, alone = LinearHead(DIM, CLASSES, 10).double(), LinearHead(DIM, CLASSES, 10, reads="visual").double()
    state = whole.state_dict()
    alone.load_state_dict({**state, "hidden.weight": state["hidden.weight"][:, 10:]})
    visual, visual_cls, audio_cls = tokens(dtype=torch.float64)
    expected = whole(visual, visual_cls, torch.zeros(2, 5, 10, dtype=torch.float64))
    torch.testing.assert_close(alone(visual, visual_cls, audio_cls[..., :10]), expected, rtol=0, atol=1e-12)
    assert sum(p.numel() for p in LinearHead(768, 28, reads="visual").parameters()) == 801_821 - 512 * 768


def test_loss_is_bceloss_of_the_softmax() -> None:
    torch.manual_seed(0)
    logits = 4 * torch.randn(2, 5, CLASSES + 1, dtype=torch.float64)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    head, labels = LinearHead(DIM, CLASSES), labels_for()
    loss = head.loss(ours, labels)["cross_entropy"]
    rows = torch.zeros(10, CLASSES + 1, dtype=torch.float64)
    rows[range(10), labels.flatten().tolist()] = 1
    expected = torch.nn.BCELoss()(theirs.softmax(dim=-1).view(10, -1), rows)
    assert abs(loss.item() - expected.item()) < 1e-12
    loss.backward()
    expected.backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


def test_loss_keeps_its_gradient_where_the_softmax_saturates() -> None:
    logits = torch.tensor([[[500.0, 0.0, 0.0, -500.0]]], requires_grad=True)
    loss = LinearHead(DIM, CLASSES).loss(logits, torch.tensor([[3]]))["cross_entropy"]
    loss.backward()
    assert loss.item() == pytest.approx((1000 + 500) / 4, rel=1e-3)
    assert logits.grad is not None
    assert logits.grad[0, 0, 0] > 0
    assert logits.grad[0, 0, 3] < 0


def test_decides_each_segment_by_itself() -> None:
    logits = torch.tensor([[[0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 3.0]]])
    head = LinearHead(DIM, CLASSES)
    assert head.decide(logits).tolist() == [[1, 3]]
    assert torch.equal(head.probabilities(logits), logits.softmax(dim=-1))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    names = EventLabels(tuple("abc"))
    head = LinearHead.build(WeightedOptions(class_weights="balanced"), Dims(DIM, DIM), names)
    seconds = torch.tensor([10, 0, 40, 150])  # `b` has none
    head.prepare(seconds)
    # sklearn.utils.class_weight.compute_class_weight("balanced", ...): N / (classes * n)
    assert head.weights[[0, 2, 3]].tolist() == pytest.approx([200 / (3 * n) for n in (10, 40, 150)])
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 4, dtype=torch.float64), torch.tensor([[0, 2, 3, 3, 3], [3, 2, 2, 0, 3]])
    plain = LinearHead(DIM, 3)
    each = torch.zeros(2, 5)
    for b in range(2):
        for t in range(5):
            each[b, t] = plain.loss(logits[b : b + 1, t : t + 1], labels[b : b + 1, t : t + 1])["cross_entropy"]
    expected = (each * head.weights[labels]).mean()
    assert float(head.loss(logits, labels)["cross_entropy"]) == pytest.approx(float(expected), rel=1e-6)
    assert "weights" not in head.state_dict()
