"""Accuracies of event localization, from the predicted and the annotated category of each segment.

A category is an index; background is the last one, equal to the number of event classes.
"""

from collections.abc import Iterator
from itertools import groupby

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "NO_EVENT",
    "category_accuracy",
    "confusion_matrix",
    "event_f1",
    "foreground_accuracy",
    "per_class_accuracy",
    "precision_recall_f1",
    "segment_accuracy",
    "stretches",
    "video_category",
]

NO_EVENT = -1


def segment_accuracy(answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"]) -> float:
    """Share of segments with the correct category, background included, in [0, 1].

    The AVE protocol: pooled over all segments of all videos. Always predicting background reaches 17.8 % on AVE's test
    split.
    """
    return _share(answers == labels)


def foreground_accuracy(
    answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"], num_classes: int
) -> float:
    """Share of segments correctly classified as event or background, whichever event it is, in [0, 1]."""
    return _share((answers < num_classes) == (labels < num_classes))


def category_accuracy(
    answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"], num_classes: int
) -> float:
    """Share of the videos with an event whose main event class is predicted correctly, in [0, 1].

    A video predicted as background throughout is wrong. NaN if no video has an event.
    """
    truth = video_category(labels, num_classes)
    return _share((video_category(answers, num_classes) == truth)[truth != NO_EVENT])


def video_category(categories: Int[Tensor, "videos segments"], num_classes: int) -> Int[Tensor, " videos"]:
    """The event class with the most segments in each video, the lowest one in a tie; `NO_EVENT` if there is none."""
    counts = F.one_hot(categories.long(), num_classes + 1)[..., :num_classes].sum(dim=1)
    return torch.where(counts.any(dim=1), counts.argmax(dim=1), NO_EVENT)


def confusion_matrix(
    answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"], categories: int
) -> Int[Tensor, "categories categories"]:
    """Number of segments by annotated category (row) and predicted category (column).

    Args:
        answers: Predicted categories.
        labels: Annotated categories.
        categories: Number of event classes plus one for background.
    """
    pairs = labels.flatten() * categories + answers.flatten()
    return torch.bincount(pairs, minlength=categories * categories).view(categories, categories)


def per_class_accuracy(confusion: Int[Tensor, "categories categories"]) -> Float[Tensor, " categories"]:
    """Share of each category's segments that are predicted correctly; NaN for a category without segments."""
    return confusion.diagonal().double() / confusion.sum(dim=1)


def precision_recall_f1(
    confusion: Int[Tensor, "categories categories"],
) -> tuple[Float[Tensor, " categories"], Float[Tensor, " categories"], Float[Tensor, " categories"]]:
    """Precision, recall and their harmonic mean F1 of each category, from annotated (row) and predicted (column).

    Precision is NaN for a category that is never predicted, recall for one that is never annotated, and F1 for one that
    is neither.
    """
    hits = confusion.diagonal().double()
    annotated, predicted = confusion.sum(dim=1).double(), confusion.sum(dim=0).double()
    return hits / predicted, hits / annotated, 2 * hits / (annotated + predicted)


def event_f1(
    answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"], num_classes: int
) -> float:
    """F1 of events, in [0, 1]; 0 if there are none, neither found nor annotated.

    An event is a stretch of segments of one class. A found one is right if an annotated one of its class, which no
    earlier one has taken, shares at least half of the segments that the two have together.
    """
    right = found = annotated = 0
    for own, truth in zip(answers, labels, strict=True):
        events, left = (
            [(category, set(some)) for category, some in stretches(row) if category < num_classes]
            for row in (own, truth)
        )
        found, annotated = found + len(events), annotated + len(left)
        for category, segments in events:
            match = next((one for one in left if one[0] == category and _overlap(one[1], segments) >= 0.5), None)
            if match is not None:
                left.remove(match)
                right += 1
    return 2 * right / max(1, found + annotated)


def stretches(categories: Int[Tensor, " segments"]) -> Iterator[tuple[int, list[int]]]:
    """Each stretch of adjacent segments of one category: the category, and the indices of the segments."""
    for category, segments in groupby(range(len(categories)), key=categories.tolist().__getitem__):
        yield category, list(segments)


def _overlap(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other)


def _share(correct: Tensor) -> float:
    return float(correct.double().mean())
