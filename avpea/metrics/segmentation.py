"""Figures of audio-visual segmentation: J and F of masks, as AVSBench's public code computes them, and without traps.

J is the mean intersection over union of masks at 0.5, and F the F-measure with beta² = 0.3. The public code computes F
as the maximum, over 255 thresholds, of the mean curve of a *batch*, and takes the mean over batches: it grows as
batches get smaller, so that figures from batches of 1 and of 4 videos cannot be compared. `batched_f` needs the size of
the batch, therefore; `f_of_one_curve` and `f_at_half` do not depend on it. A frame without an object has as its
intersection over union the share of pixels that are predicted empty, and no F.

Everything is computed from counts of pixels, so that no probability has to be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "ClassOverlap",
    "Overlap",
    "batched_f",
    "batched_j",
    "class_figures",
    "class_overlap",
    "f_at_half",
    "f_of_one_curve",
    "frame_iou",
    "overlap",
]

THRESHOLDS = 255
BETA_SQUARED = 0.3
_IOU_EPSILON, _RATE_EPSILON = 1e-7, 1e-20  # of the public code


@dataclass(frozen=True)
class Overlap:
    """How the predicted masks of frames overlap with the annotated ones, in pixels.

    Attributes:
        hits: Pixels of the object whose probability is at least each of 255 thresholds from 0 to 1.
        called: All such pixels.
        hits_at_half: Pixels of the object with a probability above 0.5.
        called_at_half: All such pixels.
        object: Pixels of the annotated mask.
        pixels: Pixels of a frame.
    """

    hits: Int[Tensor, "frames thresholds"]
    called: Int[Tensor, "frames thresholds"]
    hits_at_half: Int[Tensor, " frames"]
    called_at_half: Int[Tensor, " frames"]
    object: Int[Tensor, " frames"]
    pixels: int

    def __len__(self) -> int:
        return len(self.object)

    @classmethod
    def joined(cls, some: "Sequence[Overlap]") -> "Overlap":
        """The frames of several, in order; all must have the same size."""
        names = ("hits", "called", "hits_at_half", "called_at_half", "object")
        joined = {name: torch.cat([getattr(one, name) for one in some]) for name in names}
        return cls(**joined, pixels=some[0].pixels)


def overlap(probabilities: Float[Tensor, "frames height width"], masks: Bool[Tensor, "frames height width"]) -> Overlap:
    """Count pixels.

    Args:
        probabilities: Probability of the object in each pixel; compared in float32, as in the public code.
        masks: Where the object is annotated.
    """
    values, truth = probabilities.float().flatten(1), masks.flatten(1)
    thresholds = torch.linspace(0, 1 - 1e-10, THRESHOLDS, device=values.device)
    reached = torch.bucketize(values, thresholds, right=True)  # how many thresholds are not above the value
    above = values > 0.5
    return Overlap(
        hits=_at_least(reached, truth),
        called=_at_least(reached, torch.ones_like(truth)),
        hits_at_half=(above & truth).sum(dim=1),
        called_at_half=above.sum(dim=1),
        object=truth.sum(dim=1),
        pixels=values.shape[1],
    )


def _at_least(reached: Int[Tensor, "frames pixels"], counted: Bool[Tensor, "frames pixels"]) -> Tensor:
    """Number of the counted pixels that reach each threshold."""
    found = torch.zeros(len(reached), THRESHOLDS + 1, dtype=torch.int64, device=reached.device)
    found.scatter_add_(1, reached, counted.long())
    return found.flip(1).cumsum(1).flip(1)[:, 1:]


def frame_iou(found: Overlap) -> Float[Tensor, " frames"]:
    """Intersection over union at 0.5 of each frame; without an object, the share of pixels that are predicted empty."""
    union = found.called_at_half + found.object - found.hits_at_half
    empty = found.object == 0
    shared = torch.where(empty, found.pixels - found.called_at_half, found.hits_at_half).double()
    return shared / (torch.where(empty, found.pixels, union) + _IOU_EPSILON)


def _curves(found: Overlap) -> Float[Tensor, "frames thresholds"]:
    """F by threshold, of the frames with an object."""
    some = found.object > 0
    return _f(found.hits[some], found.called[some], found.object[some, None])


def _f(hits: Tensor, called: Tensor, annotated: Tensor) -> Tensor:
    precision, recall = hits / (called.double() + _RATE_EPSILON), hits / (annotated.double() + _RATE_EPSILON)
    return ((1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)).nan_to_num(0.0)


def _batches(videos: Sequence[Overlap], size: int) -> list[Overlap]:
    some = [video for video in videos if len(video)]  # one without an annotated second has no figure
    return [Overlap.joined(some[start : start + size]) for start in range(0, len(some), size)]


def batched_j(videos: Sequence[Overlap], batch: int) -> float:
    """The public code's J: the mean over batches of the mean over their frames.

    Args:
        videos: The frames of each video.
        batch: Number of videos in a batch. With batches of equally many frames, J does not depend on it.
    """
    return _mean([float(frame_iou(one).mean()) for one in _batches(videos, batch)])


def batched_f(videos: Sequence[Overlap], batch: int) -> float:
    """The public code's F: the mean over batches of the maximum of their mean curve; 0 for one without any object.

    Args:
        videos: The frames of each video.
        batch: Number of videos in a batch, on which the figure depends (AVSBench: 4; AVMoE and CoLA: 1).
    """
    return _mean([f_of_one_curve([one]) for one in _batches(videos, batch)])


def f_of_one_curve(videos: Sequence[Overlap]) -> float:
    """The maximum of the mean curve of all frames with an object; 0 if there are none."""
    curves = _curves(Overlap.joined(videos))
    return float(curves.mean(dim=0).max()) if len(curves) else 0.0


def f_at_half(videos: Sequence[Overlap]) -> float:
    """The mean F of the masks at 0.5, over all frames with an object; 0 if there are none."""
    found = Overlap.joined(videos)
    some = found.object > 0
    values = _f(found.hits_at_half[some], found.called_at_half[some], found.object[some])
    return float(values.mean()) if len(values) else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@dataclass(frozen=True)
class ClassOverlap:
    """How predicted and annotated classes overlap in frames, in pixels.

    Attributes:
        hits: Pixels of each class that are predicted as it.
        called: Pixels that are predicted as each class.
        annotated: Pixels that are annotated as each class.
    """

    hits: Int[Tensor, "frames classes"]
    called: Int[Tensor, "frames classes"]
    annotated: Int[Tensor, "frames classes"]

    def __len__(self) -> int:
        return len(self.hits)

    @classmethod
    def joined(cls, some: "Sequence[ClassOverlap]") -> "ClassOverlap":
        """The frames of several, in order."""
        return cls(*(torch.cat([getattr(one, name) for one in some]) for name in ("hits", "called", "annotated")))

    def padded(self, frames: int) -> "ClassOverlap":
        """With frames at the end that are annotated and predicted as class 0, as the public code pads videos."""
        if not len(self):  # nothing is annotated
            return self
        pixels = int(self.annotated[0].sum())
        blank = torch.zeros(max(0, frames - len(self)), self.hits.shape[1], dtype=self.hits.dtype)
        blank[:, 0] = pixels
        return ClassOverlap(*(torch.cat((one, blank)) for one in (self.hits, self.called, self.annotated)))


def class_overlap(
    predicted: Int[Tensor, "frames height width"], annotated: Int[Tensor, "frames height width"], classes: int
) -> ClassOverlap:
    """Count pixels of each class, background (class 0) included."""
    rows = torch.arange(len(predicted), device=predicted.device)[:, None] * classes
    theirs, ours = annotated.flatten(1), predicted.flatten(1)

    def counted(values: Tensor, some: Tensor) -> Tensor:
        return torch.bincount((rows + values)[some], minlength=len(predicted) * classes).view(-1, classes)

    every = torch.ones_like(ours, dtype=torch.bool)
    return ClassOverlap(counted(ours, ours == theirs), counted(ours, every), counted(theirs, every))


def class_figures(found: ClassOverlap) -> tuple[Float[Tensor, " classes"], Float[Tensor, " classes"]]:
    """Intersection over union and F of each class, as AVSBench's public code computes them for semantic masks.

    Both are means over the frames in which the class is predicted or annotated; 0 for a class that never is.
    """
    union = found.called + found.annotated - found.hits
    ious = found.hits.double() / (union + torch.finfo(torch.float64).eps)
    precision, recall = found.hits.double() / found.called, found.hits.double() / found.annotated
    fs = ((1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)).nan_to_num(0.0)
    frames = (union > 0).sum(dim=0)
    return tuple((one.sum(dim=0) / frames).nan_to_num(0.0) for one in (ious, fs))  # type: ignore[return-value]
