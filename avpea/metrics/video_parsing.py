"""The ten figures of audio-visual video parsing: A, V, AV, Type@AV and Event@AV, by segments and by events.

Tian et al., "Unified Multisensory Perception", ECCV 2020 (`utils/eval_metrics.py` of YapengTian/AVVP-ECCV20). All are
means over videos of an F-score that is a mean over classes. In a video, classes with neither truth nor prediction are
left out; if none is left, the video scores 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "FIGURES",
    "LEVELS",
    "Counts",
    "Masks",
    "event_counts",
    "parsing_figures",
    "parsing_scores",
    "runs",
    "segment_counts",
]

LEVELS = ("segment", "event")
# What is published for each level, in its order, by the end of its name in `parsing_figures`.
FIGURES = {"a": "A", "v": "V", "av": "AV", "type": "Type@AV", "event": "Event@AV"}


@dataclass(frozen=True)
class Masks:
    """Which classes are seen and which are heard in each second of some videos.

    Attributes:
        seen: Visual events.
        heard: Audio events.
    """

    seen: Bool[Tensor, "videos segments classes"]
    heard: Bool[Tensor, "videos segments classes"]

    @property
    def both(self) -> Bool[Tensor, "videos segments classes"]:
        """Audio-visual events: what is seen and heard in the same second."""
        return self.seen & self.heard

    def within(self, real: Bool[Tensor, "videos segments"]) -> "Masks":
        """Without the seconds that are not `real`, which are padding."""
        return Masks(self.seen & real[..., None], self.heard & real[..., None])


@dataclass(frozen=True)
class Counts:
    """What of the truth was found, in each video, of each class.

    Attributes:
        right: Number found that is true.
        wrong: Number found that is not.
        missed: Number true that was not found.
    """

    right: Int[Tensor, "videos classes"]
    wrong: Int[Tensor, "videos classes"]
    missed: Int[Tensor, "videos classes"]

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.right + other.right, self.wrong + other.wrong, self.missed + other.missed)

    def f_scores(self) -> Float[Tensor, " videos"]:
        """Mean over the classes that occur of F = 2 TP / (2 TP + FN + FP), for each video; 1 where none occurs."""
        total = 2 * self.right + self.missed + self.wrong
        each = (2 * self.right).double() / total  # NaN for a class that does not occur
        return each.nanmean(dim=1).nan_to_num(nan=1.0)


def parsing_figures(found: Masks, truth: Masks) -> dict[str, float]:
    """All ten figures in [0, 1] by name, such as `segment_av` and `event_type`.

    Type@AV is the mean of A, V and AV over all videos. Event@AV adds the counts of the audio and visual events of a
    class before it takes their F-score.
    """
    figures: dict[str, float] = {}
    for level, scores in parsing_scores(found, truth).items():
        means = {name: float(each.mean()) for name, each in scores.items()}
        means["type"] = (means["a"] + means["v"] + means["av"]) / 3
        figures |= {f"{level}_{name}": means[name] for name in FIGURES}
    return figures


def parsing_scores(found: Masks, truth: Masks) -> Mapping[str, Mapping[str, Float[Tensor, " videos"]]]:
    """The score of each video by level and figure (`a`, `v`, `av`, `event`), of which the figures are the means."""
    scores = {}
    for level, count in zip(LEVELS, (segment_counts, event_counts), strict=True):
        heard, seen = count(found.heard, truth.heard), count(found.seen, truth.seen)
        each = {"a": heard, "v": seen, "av": count(found.both, truth.both), "event": heard + seen}
        scores[level] = {name: counts.f_scores() for name, counts in each.items()}
    return scores


def segment_counts(
    found: Bool[Tensor, "videos segments classes"], truth: Bool[Tensor, "videos segments classes"]
) -> Counts:
    """Count seconds."""
    return Counts((found & truth).sum(dim=1), (found & ~truth).sum(dim=1), (~found & truth).sum(dim=1))


def event_counts(
    found: Bool[Tensor, "videos segments classes"], truth: Bool[Tensor, "videos segments classes"]
) -> Counts:
    """Count events, which are runs of seconds.

    A found event is right if some true one of its class has an intersection with it of at least half of their union;
    several found ones may be right by the same true one. A true event that no found one fits is missed.
    """
    right, wrong, missed = (torch.zeros(found.shape[0], found.shape[2], dtype=torch.int64) for _ in range(3))
    for video, index in (found | truth).any(dim=1).nonzero().tolist():
        own, true = runs(found[video, :, index]), runs(truth[video, :, index])
        fits = [any(_fit(one, other) for other in true) for one in own]
        right[video, index], wrong[video, index] = sum(fits), len(fits) - sum(fits)
        missed[video, index] = sum(not any(_fit(one, other) for one in own) for other in true)
    return Counts(right, wrong, missed)


def runs(seconds: Bool[Tensor, " segments"]) -> list[range]:
    """The longest runs of seconds that are true, in order."""
    found = []
    for true, group in groupby(enumerate(seconds.tolist()), key=lambda pair: pair[1]):
        if true:
            first = next(group)[0]
            found.append(range(first, first + 1 + sum(1 for _ in group)))
    return found


def _fit(one: range, other: range) -> bool:
    shared = max(0, min(one.stop, other.stop) - max(one.start, other.start))
    return 2 * shared >= len(one) + len(other) - shared
