"""A linear readout of the visual tokens alone: what it knows of the sound, it has from the exchange between streams."""

from dataclasses import dataclass
from typing import Any, Self

import torch.nn.functional as F
from torch import nn

from avpea.labels import MaskLabels
from avpea.options import require
from avpea.tasks import Dims, Encoded, HeadOptions
from avpea.tasks.avs.heads._base import MaskHead, MaskOutput, as_map, resized

__all__ = ["MaskReadout"]


@dataclass(frozen=True)
class MaskReadoutOptions(HeadOptions):
    """Options of the linear readout.

    Attributes:
        detail: Each patch gives a square of `detail` x `detail` logits, which are resized to the mask.
    """

    detail: int = 4

    def __post_init__(self) -> None:
        require(1 <= self.detail <= 32, f"head.detail is {self.detail}; expected 1 to 32.")


class MaskReadout(MaskHead):
    """Linear(D -> channels * detail²) on each patch of each frame: (D + 1) * channels * detail² parameters.

    The sound's tokens are not read, so without an exchange in the encoder the mask cannot depend on the sound.

    Args:
        dim: Width D of the visual tokens.
        channels: Number of logits for each pixel.
        side: Height and width of the masks.
        detail: Height and width of the logits of a patch.
    """

    Options = MaskReadoutOptions

    def __init__(self, dim: int, channels: int, side: int, detail: int) -> None:
        super().__init__()
        self.side, self.detail = side, detail
        self.readout = nn.Linear(dim, channels * detail**2)

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: MaskLabels) -> Self:
        """Build a new head."""
        return cls(dims.visual, labels.channels, labels.side, options.detail)

    def forward(self, encoded: Encoded) -> MaskOutput:
        """The masks of a batch of videos."""
        logits = as_map(self.readout(encoded.patches.flatten(0, 1)))
        return MaskOutput(resized(F.pixel_shuffle(logits, self.detail), self.side))
