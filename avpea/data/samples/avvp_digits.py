"""`avvp-digits`: 10-second clips in LLP's layout in which digits are seen and digits are spoken, independently.

One to three digits are in a clip, each in the picture, in the sound or in both, for seconds of its own; up to two are
seen at once, side by side. So there are three lanes, seen, heard and both, with several events at once. The parts are
those of av-digits, with `pip install "avpea[samples]"`; nothing is downloaded.
"""

import numpy as np
from jaxtyping import Float32

from avpea.data.samples._lanes_layout import write_layout
from avpea.data.samples._lanes_plan import LanePlan, lane_plans
from avpea.data.samples._making import Kind

__all__ = ["KIND"]


def _shown(plan: LanePlan, digits: Float32[np.ndarray, "images 8 8"]) -> list[list[Float32[np.ndarray, "8 8"]]]:
    """The digits of each second, or its mark, if it has one."""
    from avpea.data.samples._pictures import mark

    pairs = zip(plan.images, plan.marks, strict=True)
    return [[digits[i] for i in images] or ([] if number is None else [mark(number)]) for images, number in pairs]


KIND = Kind("avvp-digits", 1, "video", lane_plans, _shown, write_layout)
