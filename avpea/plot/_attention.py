"""The adapters' attention maps Θ (AV-PEA paper, Eq. 7 and 8) over one frame and one second of sound."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from avpea.plot import _style as style

SIDE, SMALL_SHOWN, COLUMNS = 1.62, 12, 6  # inches of a large panel; small maps, and how many in a row
LEFT, MIDDLE, GAP, TOP, BOTTOM = 0.2, 0.62, 0.1, 0.86, 0.3
CAPTION, SMALL_CAPTION = 0.5, 0.2
HEAT = "inferno"


@dataclass(frozen=True)
class Half:
    """One side of the picture: what was looked at, and the maps over it, as images with row 0 at the bottom or top."""

    name: str
    heading: str
    absent: str
    base: npt.NDArray[np.generic]  # in colour
    grey: npt.NDArray[np.generic]  # under the heat
    maps: Float[Tensor, "blocks rows columns"] | None
    extent: tuple[float, float, float, float]
    left: float  # inches
    width: float  # inches of a large panel
