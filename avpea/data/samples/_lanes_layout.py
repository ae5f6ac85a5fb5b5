"""The text files of avvp-digits: LLP's annotation files, a timeline for each clip, and a README."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from avpea.data.samples._lanes_plan import LanePlan
from avpea.data.samples._plan import DIGIT_NAMES, SECONDS
from avpea.files import write_text
from avpea.labels import SPLITS

__all__ = ["write_layout"]

_README = """\
# avvp-digits

Composed by avpea (`avpea data make avvp-digits`) in the layout of LLP. Handwritten digits are seen, at most two at
once, and digits are spoken, at most one at once. Which are seen and which are heard has little to do with each other:
a digit may be in the picture only, in the sound only, or in both for different seconds. Marks and other words stand
in for digits. timelines.jsonl says what is seen and heard in each second.

AVVP_train.csv, AVVP_val_pd.csv and AVVP_test_pd.csv have the digits of each clip without times (weak labels).
AVVP_eval_visual.csv and AVVP_eval_audio.csv have their seconds; unlike LLP's they have those of training, too.

No image of a digit, no voice and no piece of a photograph is in two splits. Origins and licences are those of
av-digits: digits from the UCI "Optical Recognition of Handwritten Digits" in scikit-learn (CC BY 4.0), photographs
china.jpg and flower.jpg in scikit-learn (CC BY), speech spoken by espeak-ng (the program is GPL-3.0).
"""
_NAMES = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
_DENSE = "filename\tonset\toffset\tevent_labels"


def write_layout(folder: Path, plans: Sequence[LanePlan]) -> None:
    """Write all text files; the last one, AVVP_train.csv, marks the data set as complete.

    Raises:
        OSError: A file cannot be written.
    """
    write_text(folder / "README.md", _README)
    write_text(folder / "categories.txt", _lines(DIGIT_NAMES))
    write_text(folder / "timelines.jsonl", _lines(_timeline(plan) for plan in plans))
    write_text(folder / "AVVP_eval_visual.csv", _lines([_DENSE, *(row for plan in plans for row in _rows(plan, True))]))
    write_text(folder / "AVVP_eval_audio.csv", _lines([_DENSE, *(row for plan in plans for row in _rows(plan, False))]))
    for split in reversed(SPLITS):
        weak = [f"{_filename(plan)}\t{_weak(plan)}" for plan in plans if plan.split == split]
        write_text(folder / _NAMES[split], _lines(["filename\tevent_labels", *weak]))


def _filename(plan: LanePlan) -> str:
    return f"{plan.video_id}_0_{SECONDS}"


def _weak(plan: LanePlan) -> str:
    """The digits of a clip in order of their names."""
    found = {digit for digits in _digits(plan, True) + _digits(plan, False) for digit in digits}
    return ",".join(DIGIT_NAMES[digit] for digit in sorted(found))


def _digits(plan: LanePlan, seen: bool) -> list[tuple[int, ...]]:
    """The digits of one stream in each second."""
    return list(plan.seen) if seen else [() if digit is None else (digit,) for digit in plan.heard]


def _rows(plan: LanePlan, seen: bool) -> Iterator[str]:
    """A row for each run of seconds with a digit."""
    for digit, name in enumerate(DIGIT_NAMES):
        there = [digit in digits for digits in _digits(plan, seen)]
        for is_there, group in groupby(range(SECONDS), key=there.__getitem__):
            seconds = list(group)
            if is_there:
                yield f"{_filename(plan)}\t{seconds[0]}\t{seconds[-1] + 1}\t{name}"


def _timeline(plan: LanePlan) -> str:
    return json.dumps(
        {
            "video_id": plan.video_id,
            "split": plan.split,
            "seen_per_second": [[DIGIT_NAMES[digit] for digit in digits] for digits in plan.seen],
            "heard_per_second": [None if digit is None else DIGIT_NAMES[digit] for digit in plan.heard],
            "other_words_per_second": [
                word.text if word is not None and digit is None else None
                for word, digit in zip(plan.words, plan.heard, strict=True)
            ],
            "visual_sources": sorted({image for images in plan.images for image in images}),
            "audio_sources": sorted({word.voice for word in plan.words if word}),
        }
    )


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
