"""Lanes: told, counted, translated, rotated, and refused where they cannot be."""

from dataclasses import replace
from pathlib import Path

import pytest

from avpea.labels import LaneLabels, LaneSample

LABELS = LaneLabels(("bell", "cat", "dog"))
TIMED = LaneSample(
    "k", "v", Path("v.mp4"), 2.0, 4, "val", classes=(0, 2), seen=((2,), (0, 2), (), ()), heard=((), (0,), (0,), ())
)
WEAK = replace(TIMED, seen=None, heard=None, video_id="w")


def test_told_by_names_and_seconds() -> None:
    assert LABELS.told(TIMED) == "bell, dog; seen: bell 1-2, dog 0-2; heard: bell 1-3"
    assert LABELS.told(WEAK) == "bell, dog"
    assert LABELS.told(replace(TIMED, heard=TIMED.seen)) != LABELS.told(TIMED)


def test_counts_by_stream_and_both() -> None:
    counts = LABELS.count([TIMED, WEAK, replace(TIMED, padding=1)], 2)
    assert (counts.samples, counts.available, counts.timed, counts.seconds, counts.busiest) == (3, 2, 2, 7, 2)
    assert counts.rows == {"bell": 3, "cat": 0, "dog": 3}
    assert counts.seen_seconds == {"bell": 2, "cat": 0, "dog": 4}
    assert counts.heard_seconds == {"bell": 4, "cat": 0, "dog": 0}
    assert counts.both_seconds == {"bell": 2, "cat": 0, "dog": 0}
    assert counts.unlabelled() == ("cat",)
    assert "6 s in the picture, 4 s in the sound, 2 s in both, at most 2 at once" in counts.line()
    assert "of 2 of them" in counts.line()
    assert "weak labels" in LABELS.count([WEAK], 1).line()


def test_translated_to_the_order_of_training() -> None:
    trained = LaneLabels(("dog", "bell"))
    (moved,) = LABELS.translated([TIMED], trained)
    assert moved.classes == (0, 1)
    assert moved.seen == ((0,), (0, 1), (), ())
    assert moved.heard == ((), (1,), (1,), ())
    assert LABELS.unknown([TIMED], trained) == ()
    assert LABELS.unknown([replace(TIMED, classes=(1,))], trained) == ("cat",)
    assert LABELS.translated([WEAK], trained)[0].seen is None


def test_rotated_and_ends() -> None:
    assert TIMED.rotated(1).seen == ((), (2,), (0, 2), ())
    assert TIMED.rotated(-1).heard == ((0,), (0,), (), ())
    assert WEAK.rotated(2) == WEAK
    assert LABELS.end_seconds(TIMED) == 5.0
    assert LABELS.end_seconds(WEAK) == 0.0


def test_faults() -> None:
    assert LABELS.fault(TIMED) == ""
    assert "has the label 7; expected 0 to 2" in LABELS.fault(replace(TIMED, heard=((7,), (), (), ())))
    assert "9 segments of padding" in LABELS.fault(replace(TIMED, padding=9))
    with pytest.raises(ValueError, match="seconds of one stream only"):
        replace(TIMED, heard=None)
    with pytest.raises(ValueError, match="3 seconds of labels for 4 segments"):
        replace(TIMED, heard=((), (), ()))


def test_the_overview_names_classes_with_few_videos() -> None:
    lines = LABELS.overview({"train": [TIMED], "val": [WEAK], "test": []})
    assert "bell 1/1/0, cat 0/0/0, dog 1/1/0" in lines[1]
    assert any("No val video of cat" in line for line in lines)
