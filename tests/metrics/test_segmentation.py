"""J and F of masks: what AVSBench's public functions return (measured once), and the same formulas written out."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from avpea.metrics.segmentation import (
    ClassOverlap,
    Overlap,
    batched_f,
    batched_j,
    class_figures,
    class_overlap,
    f_at_half,
    f_of_one_curve,
    frame_iou,
    overlap,
)

UPPER = torch.zeros(1, 4, 4, dtype=torch.bool)
UPPER[:, :2] = True
ROW = torch.zeros(1, 4, 4, dtype=torch.bool)
ROW[:, :1] = True
FULL, NONE = torch.ones_like(UPPER), torch.zeros_like(UPPER)


def counted(predicted: Tensor, truth: Tensor) -> Overlap:
    """Of masks as logits of 20 and -20."""
    return overlap((40.0 * predicted - 20.0).sigmoid(), truth)


@pytest.mark.parametrize(
    ("predicted", "truth", "j", "f"),
    [
        (UPPER, UPPER, 1.0, 1.0),
        (~UPPER, UPPER, 0.0, 0.56522),
        (FULL, UPPER, 0.5, 0.56522),
        (ROW, UPPER, 0.5, 0.81250),
        (NONE, NONE, 1.0, 0.0),
        (FULL, NONE, 0.0, 0.0),
        (ROW, NONE, 0.75, 0.0),
        (torch.cat((UPPER, NONE)), torch.cat((UPPER, NONE)), 1.0, 1.0),
    ],
)
def test_figures_are_those_of_the_public_functions(predicted: Tensor, truth: Tensor, j: float, f: float) -> None:
    found = counted(predicted, truth)
    assert batched_j([found], 4) == pytest.approx(j, abs=5e-6)
    assert batched_f([found], 4) == pytest.approx(f, abs=5e-6)
    assert f_of_one_curve([found]) == pytest.approx(f, abs=5e-6)


def public_j(logits: Tensor, truth: Tensor) -> float:
    """The formula written out, frame by frame."""
    values = []
    for one, mask in zip(logits.sigmoid() > 0.5, truth, strict=True):
        if mask.any():
            values.append(float((one & mask).sum()) / (float((one | mask).sum()) + 1e-7))
        else:
            values.append(float((~one).sum()) / (mask.numel() + 1e-7))
    return sum(values) / len(values)


def public_f(logits: Tensor, truth: Tensor) -> float:
    """The formula written out, threshold by threshold."""
    curves = []
    for one, mask in zip(logits.sigmoid(), truth, strict=True):
        if not mask.any():
            continue
        curve = []
        for threshold in torch.linspace(0, 1 - 1e-10, 255):
            called = one >= threshold
            hits = float((called & mask).sum())
            precision, recall = hits / (float(called.sum()) + 1e-20), hits / (float(mask.sum()) + 1e-20)
            curve.append(1.3 * precision * recall / (0.3 * precision + recall) if hits else 0.0)
        curves.append(torch.tensor(curve, dtype=torch.float64))
    return float(torch.stack(curves).mean(dim=0).max()) if curves else 0.0


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_random_masks_as_by_the_formulas_written_out(batch: int) -> None:
    torch.manual_seed(batch)
    logits, truth = torch.randn(5, 2, 6, 5), torch.rand(5, 2, 6, 5) < 0.4
    truth[0, 1] = truth[3] = False
    videos = [overlap(one.sigmoid(), mask) for one, mask in zip(logits, truth, strict=True)]
    parts = [(logits[i : i + batch].flatten(0, 1), truth[i : i + batch].flatten(0, 1)) for i in range(0, 5, batch)]
    assert batched_j(videos, batch) == pytest.approx(sum(public_j(*one) for one in parts) / len(parts), abs=1e-6)
    assert batched_f(videos, batch) == pytest.approx(sum(public_f(*one) for one in parts) / len(parts), abs=1e-6)
    assert f_of_one_curve(videos) == pytest.approx(public_f(logits.flatten(0, 1), truth.flatten(0, 1)), abs=1e-6)


def test_f_of_batches_grows_as_they_get_smaller_and_the_sound_figures_do_not() -> None:
    torch.manual_seed(0)
    videos = [overlap(torch.rand(1, 16, 16), torch.rand(1, 16, 16) < 0.4) for _ in range(6)]
    whole, pairs, single = (batched_f(videos, batch) for batch in (6, 2, 1))
    assert whole == f_of_one_curve(videos) < pairs < single
    assert len({round(batched_j(videos, batch), 12) for batch in (1, 2, 3, 6)}) == 1


def test_a_batch_without_any_object_counts_as_zero() -> None:
    right, silent = counted(UPPER, UPPER), counted(NONE, NONE)
    assert batched_f([right, silent], 1) == 0.5
    assert batched_f([right, silent], 2) == f_at_half([right, silent]) == 1.0
    assert f_of_one_curve([silent]) == f_at_half([silent]) == 0.0


def test_a_video_without_an_annotated_second_has_no_figure() -> None:
    right = counted(UPPER, UPPER)
    parts = [getattr(right, one.name) for one in fields(right)]
    without: Any = [part[:0] if isinstance(part, Tensor) else part for part in parts]
    nothing = Overlap(*without)
    assert not len(nothing)
    for batch in (1, 2):
        assert batched_j([nothing, right], batch) == batched_j([right], batch)
        assert batched_f([nothing, right], batch) == batched_f([right], batch)
    assert batched_j([nothing], 1) == batched_f([nothing], 1) == 0.0
    empty = class_overlap(torch.zeros(0, 2, 2, dtype=torch.int64), torch.zeros(0, 2, 2, dtype=torch.int64), 3)
    assert not len(empty.padded(5))


def test_f_at_half_by_hand() -> None:
    assert f_at_half([counted(ROW, UPPER), counted(NONE, UPPER)]) == pytest.approx((1.3 * 0.5 / 0.8) / 2)
    assert frame_iou(counted(ROW, UPPER)).tolist() == pytest.approx([0.5])


def halves(*classes: int) -> Tensor:
    """Frames whose upper half has a class, the lower one background."""
    frames = torch.zeros(len(classes), 4, 4, dtype=torch.int64)
    frames[:, :2] = torch.tensor(classes)[:, None, None]
    return frames


@pytest.mark.parametrize(
    ("predicted", "frames", "ious", "fs"),
    [
        ((1, 2), 2, (1, 1, 1, 0), 0.75),
        ((1, 3), 2, (1, 1, 0, 0), 0.5),
        ((0, 0), 2, (0.5, 0, 0, 0), 0.1413),
        ((0, 0), 4, (0.75, 0, 0, 0), None),
    ],
)
def test_semantic_figures_are_those_of_the_public_functions(
    predicted: tuple[int, ...], frames: int, ious: tuple[float, ...], fs: float | None
) -> None:
    found = class_overlap(halves(*predicted), halves(1, 2), 4).padded(frames)
    iou, f = class_figures(found)
    assert iou.tolist() == pytest.approx(list(ious))
    if fs is not None:
        assert float(f.mean()) == pytest.approx(fs, abs=5e-5)


def test_frames_of_several_videos_are_joined() -> None:
    one, other = (class_overlap(halves(c), halves(1), 3) for c in (1, 2))
    both = ClassOverlap.joined([one, other])
    assert len(both) == 2
    assert class_figures(both)[0].tolist() == pytest.approx([1.0, 0.5, 0.0])
