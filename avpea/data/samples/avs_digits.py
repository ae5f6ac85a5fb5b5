"""`avs-digits`: 10-second clips in which two handwritten digits are seen side by side and one of them is spoken.

The digits are 0, 1 and 4. The mask of a second is that of the digit which is spoken, known to the pixel; a second in
which nothing is spoken has an empty mask. Which of the two speaks is in the sound alone: from the picture it cannot be
known. All parts are those of `av-digits`, and come with `pip install "avpea[samples]"`.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image

from avpea.data.samples._making import Kind
from avpea.data.samples._pairs import PairPlan, pair_plans
from avpea.data.samples._plan import DIGIT_NAMES
from avpea.files import write_text

__all__ = ["KIND"]

_README = """\
# avs-digits

Composed by avpea (`avpea data make avs-digits`). Two of the digits 0, 1 and 4, handwritten, are seen in each second,
others in the next, and in three of four seconds one of them is spoken. masks.csv has a row for each second of each
clip: `mask` is the picture of the digit that is spoken (empty where none is), `other` that of what is seen and not
spoken. Both are of the frame at the middle of the second, in its size, white on black. timelines.jsonl says which digit
is on which side, and which is spoken.

No image of a digit, no voice and no piece of a photograph is in two splits; README.md of av-digits has the details,
the origins and the licences, which are the same: `avpea data make av-digits FOLDER`.
"""


def _shown(plan: PairPlan, digits: Float32[np.ndarray, "images 8 8"]) -> list[list[Float32[np.ndarray, "8 8"]]]:
    """Both digits of each second."""
    return [[digits[image] for image in images] for images in plan.images]


def _write_masks(folder: Path, plan: PairPlan, masks: Sequence[Sequence[Bool[np.ndarray, "height width"]]]) -> None:
    for name in ("masks", "others"):
        (folder / name).mkdir(exist_ok=True)
    for second, (which, both) in enumerate(zip(plan.spoken, masks, strict=True)):
        if which is not None:
            _write_mask(folder / "masks" / _picture(plan, second), both[which])
        silent = both[0] | both[1] if which is None else both[1 - which]
        _write_mask(folder / "others" / _picture(plan, second), silent)


def _picture(plan: PairPlan, second: int) -> str:
    return f"{plan.video_id}_{second}.png"


def _write_mask(path: Path, mask: Bool[np.ndarray, "height width"]) -> None:
    # Not atomic, which takes twice as long for thousands of files: a clip counts as made by its video, written last.
    Image.fromarray(mask).save(path, format="PNG")


def _write_layout(folder: Path, plans: Sequence[PairPlan]) -> None:
    """Write all text files; the last one, masks.csv, marks the data set as complete."""
    write_text(folder / "README.md", _README)
    write_text(folder / "timelines.jsonl", "".join(f"{json.dumps(_timeline(plan))}\n" for plan in plans))
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("video", "second", "mask", "other", "split"))
    for plan in plans:
        rows.writerows(_rows(plan))
    write_text(folder / "masks.csv", table.getvalue())


def _rows(plan: PairPlan) -> Iterator[tuple[str, int, str, str, str]]:
    for second, which in enumerate(plan.spoken):
        name = _picture(plan, second)
        mask = "" if which is None else f"masks/{name}"
        yield f"videos/{plan.video_id}.mp4", second, mask, f"others/{name}", plan.split


def _timeline(plan: PairPlan) -> dict[str, Any]:
    pairs = [tuple(DIGIT_NAMES[digit] for digit in both) for both in plan.digits]
    return {
        "video_id": plan.video_id,
        "split": plan.split,
        "left_per_second": [left for left, _ in pairs],
        "right_per_second": [right for _, right in pairs],
        "spoken_per_second": [
            None if which is None else both[which] for both, which in zip(pairs, plan.spoken, strict=True)
        ],
        "images_per_second": [list(both) for both in plan.images],
        "voices_per_second": [None if word is None else word.voice for word in plan.words],
    }


KIND = Kind("avs-digits", 3, "videos", pair_plans, _shown, _write_layout, _write_masks)
