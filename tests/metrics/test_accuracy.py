"""Accuracies of event localization in cases that one can count by eye."""

import math

import pytest
import torch

from avpea.metrics.accuracy import (
    NO_EVENT,
    category_accuracy,
    confusion_matrix,
    event_f1,
    foreground_accuracy,
    per_class_accuracy,
    segment_accuracy,
    video_category,
)

# Two classes, background is 2. Right: 3 of 4, 2 of 4, 1 of 4.
LABELS = torch.tensor([[0, 0, 0, 2], [1, 1, 2, 2], [2, 2, 2, 2]])
ANSWERS = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2], [2, 0, 0, 0]])


def test_segment_accuracy_pools_all_segments() -> None:
    assert segment_accuracy(ANSWERS, LABELS) == 6 / 12
    assert segment_accuracy(LABELS, LABELS) == 1
    assert segment_accuracy(torch.full((3, 4), 2), LABELS) == 7 / 12  # background throughout


def test_segment_accuracy_is_the_batch_mean_weighted_by_size() -> None:
    batches = [slice(0, 2), slice(2, 3)]
    weighted = sum(segment_accuracy(ANSWERS[b], LABELS[b]) * len(ANSWERS[b]) for b in batches) / 3
    assert weighted == pytest.approx(segment_accuracy(ANSWERS, LABELS))


def test_foreground_accuracy_ignores_which_event_it_is() -> None:
    assert foreground_accuracy(ANSWERS, LABELS, 2) == (4 + 3 + 1) / 12


def test_category_accuracy_counts_videos_with_an_event() -> None:
    # First video: 0 twice against 1 once, right. Second: 1 twice, right. Third has no event.
    assert category_accuracy(ANSWERS, LABELS, 2) == 1
    silent = torch.full((3, 4), 2)
    assert category_accuracy(silent, LABELS, 2) == 0
    assert math.isnan(category_accuracy(ANSWERS, silent, 2))


def test_video_category_is_the_one_that_covers_most_segments() -> None:
    rows = torch.tensor([[2, 1, 1, 0], [2, 2, 2, 2], [2, 2, 2, 0], [1, 0, 0, 1]])
    assert video_category(rows, 2).tolist() == [1, NO_EVENT, 0, 0]  # the last is a tie


def test_confusion_matrix_rows_are_annotated() -> None:
    matrix = confusion_matrix(ANSWERS, LABELS, 3)
    assert matrix.tolist() == [[2, 1, 0], [1, 1, 0], [3, 1, 3]]
    assert matrix.sum() == LABELS.numel()
    assert matrix.diagonal().sum() / matrix.sum() == segment_accuracy(ANSWERS, LABELS)


def test_per_class_accuracy_knows_what_it_cannot_know() -> None:
    each = per_class_accuracy(confusion_matrix(ANSWERS, LABELS, 4)).tolist()
    assert each[:3] == [2 / 3, 1 / 2, 3 / 7]
    assert math.isnan(each[3])


def test_event_f1_counts_events_that_overlap_by_half() -> None:
    labels = torch.tensor([[0, 0, 0, 2, 1, 1], [2, 2, 2, 2, 2, 2]])
    # Of three found ones, 0 shares 2 of 3 seconds, 1 shares 1 of 3, and the one in the second video nothing.
    answers = torch.tensor([[0, 0, 2, 1, 1, 2], [2, 0, 0, 2, 2, 2]])
    assert event_f1(answers, labels, 2) == pytest.approx(2 * 1 / (3 + 2))
    assert event_f1(labels, labels, 2) == 1
    assert event_f1(torch.tensor([[0, 2, 0, 2, 1, 1]]), labels[:1], 2) == pytest.approx(2 * 1 / (3 + 2))  # in pieces
    assert event_f1(torch.tensor([[1, 1, 1, 2, 1, 1]]), labels[:1], 2) == pytest.approx(2 * 1 / (2 + 2))  # of its class
    nothing = torch.full((1, 6), 2)
    assert event_f1(nothing, nothing, 2) == 0
    assert event_f1(nothing, labels[:1], 2) == 0
