"""`avvp-digits`: 10-second clips in LLP's layout in which digits are seen and digits are spoken, independently.

One to three digits are in a clip, each in the picture, in the sound or in both, for seconds of its own; up to two are
seen at once, side by side. So there are three lanes, seen, heard and both, with several events at once. The parts are
those of av-digits, with `pip install "avpea[samples]"`; nothing is downloaded.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from avpea.data.samples import _making
from avpea.data.samples._lanes_layout import write_layout
from avpea.data.samples._lanes_plan import LanePlan, lane_plans
from avpea.data.samples._making import Kind, Summary

__all__ = ["KIND", "make"]


def make(
    folder: Path, *, train: int = 160, val: int = 40, test: int = 60, seed: int = 0, progress: bool = True
) -> Summary:
    """Make the data set in `folder`; after an interruption, the same call resumes.

    Args:
        folder: A new or empty folder, or that of an earlier call with the same options.
        train: Number of training clips.
        val: Number of validation clips.
        test: Number of test clips.
        seed: Random seed; with the same versions of the libraries, the same seed gives the same clips.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DataError: A package is missing, `folder` holds something else or cannot be written, or a count is below 1.
    """
    return _making.make(KIND, Path(folder), {"train": train, "val": val, "test": test}, seed, progress)


def _shown(plan: LanePlan, digits: Float32[np.ndarray, "images 8 8"]) -> list[list[Float32[np.ndarray, "8 8"]]]:
    """The digits of each second, or its mark, if it has one."""
    from avpea.data.samples._pictures import mark

    pairs = zip(plan.images, plan.marks, strict=True)
    return [[digits[i] for i in images] or ([] if number is None else [mark(number)]) for images, number in pairs]


KIND = Kind("avvp-digits", 1, "video", lane_plans, _shown, write_layout)
