"""The pooled head: what it reads, its loss against PyTorch's, and its options."""

from typing import Any

import pytest
import torch

from avpea.errors import ExperimentError
from avpea.labels import EventLabels
from avpea.tasks import Dims, Encoded
from avpea.tasks.avel.heads.pooled import PooledHead, PooledOptions
from tests.tasks.avel.heads.test_event_head_contract import CLASSES, DIM, labels_for, tokens
from tests.tiny import section


def encoded(audio_tokens: int = 7) -> Encoded:
    """Two videos of five seconds, with a CLS token and six patches."""
    generator = torch.Generator().manual_seed(2)
    visual = torch.randn(10, 7, DIM, generator=generator)
    return Encoded(visual, torch.randn(10, audio_tokens, DIM, generator=generator), 5, 1, True)


@torch.no_grad()
def test_reads_cls_and_mean_of_the_patches_of_both_streams() -> None:
    head, some = PooledHead(DIM, CLASSES).eval(), encoded()
    assert some.audio is not None
    assert some.visual is not None
    logits = head.read(some)
    for video, second in ((0, 0), (1, 3)):
        image = video * 5 + second
        sound, frame = some.audio[image], some.visual[image]
        parts = [sound[0], sound[1:].mean(dim=0), frame[0], frame[1:].mean(dim=0)]
        normed = torch.cat([(x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() for x in parts])
        expected = head.classes.weight @ (head.hidden.weight @ normed + head.hidden.bias) + head.classes.bias
        torch.testing.assert_close(logits[video, second], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_on_the_visual_stream_alone_it_reads_two_vectors() -> None:
    options, some = PooledOptions(reads="visual", hidden=8), encoded()
    head = PooledHead.build(options, Dims(DIM, 10), EventLabels(tuple("abc"))).eval()
    assert some.visual is not None
    frame = some.visual[8]
    normed = torch.cat([torch.nn.functional.layer_norm(x, (DIM,)) for x in (frame[0], frame[1:].mean(dim=0))])
    expected = head.classes.weight @ (head.hidden.weight @ normed + head.hidden.bias) + head.classes.bias
    torch.testing.assert_close(head.read(some)[1, 3], expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in head.parameters()) == 4 * DIM + (2 * DIM * 8 + 8) + (8 * 4 + 4)


@torch.no_grad()
def test_a_stream_of_a_single_token_has_no_patches() -> None:
    assert bool(PooledHead(DIM, CLASSES).read(encoded(audio_tokens=1)).isfinite().all())


def test_the_loss_is_cross_entropy_smoothed_and_weighted() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, CLASSES + 1, dtype=torch.float64), labels_for()
    options = PooledOptions(label_smoothing=0.1, class_weights="balanced")
    head = PooledHead.build(options, Dims(DIM, DIM), EventLabels(tuple("abc"))).double()
    head.prepare(torch.tensor([10, 20, 30, 140]))
    weights = torch.tensor([200 / (4 * n) for n in (10, 20, 30, 140)], dtype=torch.float64)
    target = 0.9 * torch.nn.functional.one_hot(labels, CLASSES + 1) + 0.1 / (CLASSES + 1)
    each = -(target * logits.log_softmax(dim=-1)).sum(dim=-1)
    torch.testing.assert_close(head.loss(logits, labels)["cross_entropy"], (weights[labels] * each).mean())


def test_dropout_is_that_of_the_recipe_and_only_in_training() -> None:
    inputs = tokens()
    head = PooledHead.build(PooledOptions(dropout=0.9), Dims(DIM, DIM), EventLabels(tuple("abc")))
    assert not torch.equal(head(*inputs), head(*inputs))
    head.eval()
    assert torch.equal(head(*inputs), head(*inputs))


@pytest.mark.parametrize(("name", "value"), [("dropout", 1.0), ("label_smoothing", -0.1), ("hidden", 0)])
def test_values_that_cannot_work_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ExperimentError, match=rf"head.{name} is {value}; expected"):
        section("head", "pooled", **{name: value})


def test_only_heads_that_can_do_without_the_sound_read_the_visual_stream_alone() -> None:
    assert section("head", "pooled", reads="visual").reads == "visual"
    message = (
        r"head.reads is an option of the head 'lane_readout' and the head 'linear' and the head 'pooled', but "
        r"head.name is 'cmbs'; leave it out"
    )
    with pytest.raises(ExperimentError, match=message):
        section("head", "cmbs", reads="visual")
    with pytest.raises(ExperimentError, match=r"head.reads is 'audio'; expected one of 'both' or 'visual'"):
        section("head", "linear", reads="audio")


def test_only_heads_that_can_weigh_categories_take_the_option() -> None:
    assert section("head", "linear", class_weights="balanced").class_weights == "balanced"
    with pytest.raises(ExperimentError, match=r"class_weights is an option of the head 'linear' and the head 'pooled'"):
        section("head", "cmbs", class_weights="balanced")
