"""The figures of an evaluation of masks, each with how it is computed."""

from collections.abc import Sequence
from typing import Any

import torch

from avpea.labels import MaskSample
from avpea.metrics.segmentation import (
    ClassOverlap,
    Overlap,
    batched_f,
    batched_j,
    class_figures,
    f_at_half,
    f_of_one_curve,
    frame_iou,
)

__all__ = ["class_summary", "object_summary"]


def object_summary(samples: Sequence[MaskSample], answers: Sequence[Any], batch: int) -> dict[str, Any]:
    """The figures of masks without classes.

    Args:
        samples: The samples of the split, in order.
        answers: What was found for each.
        batch: Number of videos in a batch, by which the public code computes its figures.
    """
    videos = [answer.overlap for answer in answers]
    every = Overlap.joined(videos)
    ious, sounding = frame_iou(every), every.object > 0
    right = torch.cat([answer.right for answer in answers])
    judged = right[right >= 0]
    batches = f"AVSBench's code, in batches of {batch}"
    found: dict[str, Any] = {
        "miou": batched_j(videos, batch),
        "f_score": batched_f(videos, batch),
        "miou_of_all_seconds": float(ious.mean()),
        "f_of_one_curve": f_of_one_curve(videos),
        "f_at_half": f_at_half(videos),
    }
    told = {
        "miou": ("J (mIoU)", f"{batches} videos; an empty mask counts by the share of pixels left empty"),
        "f_score": ("F", f"{batches} videos: the best threshold of each batch, so it depends on their size"),
        "miou_of_all_seconds": ("J", "mean over all seconds alike"),
        "f_of_one_curve": ("F", "one curve over all seconds with an object, one threshold"),
        "f_at_half": ("F", "at 0.5"),
    }
    if sounding.any():
        found["miou_with_object"] = float(ious[sounding].mean())
        told["miou_with_object"] = ("J", "mean over the seconds with an object")
    if len(judged):
        found["right_object"] = float(judged.mean())
        # Whoever does not hear is right in half of the seconds on average; on these, by one side alone, in so many.
        sides = torch.cat([answer.left for answer in answers])
        left = float(sides[sides >= 0].mean())
        found["right_object_left"], found["right_object_right"] = left, 1 - left
        told["right_object"] = (
            "right object",
            "what sounds is likelier than what is silent, by mean probability; chance is 50, always the left one "
            f"{100 * left:.1f}, always the right one {100 - 100 * left:.1f}",
        )
    return {
        **found,
        "test_batch": batch,
        "annotated_seconds": len(every),
        "seconds_without_object": int((~sounding).sum()),
        "miou_by": _by_part(samples, videos),
        "constant": {
            "nothing anywhere": float((~sounding).double().mean()),
            "everything everywhere": float((every.object.double() / every.pixels).mean()),
        },
        "conventions": {name: list(one) for name, one in told.items()},
    }


def _by_part(samples: Sequence[MaskSample], videos: Sequence[Overlap]) -> dict[str, float | None]:
    """J by category; without categories, of the seconds with an object and of those without."""
    categories = sorted({sample.category for sample in samples} - {""})
    if categories:
        own = [(sample.category, frame_iou(one)) for sample, one in zip(samples, videos, strict=True)]
        return {name: float(torch.cat([ious for of, ious in own if of == name]).mean()) for name in categories}
    every = Overlap.joined(videos)
    ious, sounding = frame_iou(every), every.object > 0
    parts = {"seconds with an object": sounding, "seconds without": ~sounding}
    return {name: float(ious[some].mean()) if some.any() else None for name, some in parts.items()}


def class_summary(videos: Sequence[ClassOverlap], names: Sequence[str], frames: int) -> dict[str, Any]:
    """The figures of masks with classes.

    Args:
        videos: What was found in each video.
        names: Names of the classes, background first.
        frames: Number of frames to which the public code pads a video.
    """
    padded, plain = (
        class_figures(ClassOverlap.joined(some)) for some in ([one.padded(frames) for one in videos], list(videos))
    )
    (iou, f), (own_iou, own_f) = padded, plain
    code = "AVSBench's code: mean over all classes, background and those that never occur included"
    last = f"AVSBench's 'without background', which leaves out the last class ({names[-1]}) instead"
    told = {
        "miou": ("J (mIoU)", f"{code}; shorter videos padded with right frames"),
        "f_score": ("F", "the same"),
        "miou_without_last": ("J", last),
        "f_without_last": ("F", last),
        "miou_without_background": ("J", "mean over the classes without background, without padding"),
        "f_without_background": ("F", "mean over the classes without background, without padding"),
    }
    return {
        "miou": float(iou.mean()),
        "f_score": float(f.mean()),
        "miou_without_last": float(iou[:-1].mean()),
        "f_without_last": float(f[:-1].mean()),
        "miou_without_background": float(own_iou[1:].mean()),
        "f_without_background": float(own_f[1:].mean()),
        "annotated_seconds": sum(map(len, videos)),
        "miou_by": dict(zip(names, iou.tolist(), strict=True)),
        "conventions": {name: list(one) for name, one in told.items()},
    }
