"""`av-digits`: 10-second clips in AVE's layout in which a handwritten digit is seen and a digit is spoken.

A second belongs to the event if the digit that is seen is also spoken. In other seconds the digit is only seen or only
heard, another digit is seen or heard, or both differ; marks and other words serve as distractors. So neither picture
nor sound alone shows where the event is. All parts come with `pip install "avpea[samples]"`: digits from scikit-learn's
load_digits, speech from espeak-ng, two photographs, and noise. Nothing is downloaded.
"""

import numpy as np
from jaxtyping import Float32

from avpea.data.samples._layout import write_layout
from avpea.data.samples._making import Kind
from avpea.data.samples._plan import ClipPlan, clip_plans

__all__ = ["KIND"]


def _shown(plan: ClipPlan, digits: Float32[np.ndarray, "images 8 8"]) -> list[list[Float32[np.ndarray, "8 8"]]]:
    """The digit or the mark of each second, if there is one."""
    from avpea.data.samples._pictures import mark

    pairs = zip(plan.images, plan.marks, strict=True)
    return [
        [digits[image]] if image is not None else [mark(number)] if number is not None else []
        for image, number in pairs
    ]


KIND = Kind("av-digits", 1, "AVE", clip_plans, _shown, write_layout)
