"""Base of the heads for segmentation, which give a mask for each second."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avpea.labels import MaskLabels
from avpea.tasks import Dims, Encoded, Head

__all__ = ["MaskHead", "MaskOutput", "as_map", "resized"]


@dataclass(frozen=True)
class MaskOutput:
    """What a head gives for a batch, with images in the order of videos, then segments.

    Attributes:
        logits: Of there being what sounds; or of background and of each class.
        maps: Visual maps after sound and picture have met, by stage; empty for a head without any.
        sounds: The projected sound of each stage.
    """

    logits: Float[Tensor, "images channels side side"]
    maps: tuple[Float[Tensor, "images dim _rows _columns"], ...] = ()
    sounds: tuple[Float[Tensor, "images dim"], ...] = ()


class MaskHead(Head):
    """A head for segmentation.

    Attributes:
        gives_maps: Whether its output has maps and sounds, which the matching term needs.
    """

    gives_maps: bool = False

    @classmethod
    @abstractmethod
    def build(cls, options: Any, dims: Dims, labels: MaskLabels) -> Self:
        """Build a new head."""

    @abstractmethod
    def forward(self, encoded: Encoded) -> MaskOutput:
        """The masks of a batch of videos."""


def as_map(tokens: Float[Tensor, "images patches dim"]) -> Float[Tensor, "images dim rows columns"]:
    """The patch tokens of square images as a map."""
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, side, side)


def resized(logits: Float[Tensor, "images channels rows columns"], side: int) -> Float[Tensor, "images channels _ _"]:
    """Logits at the size of the masks, bilinearly if they have another."""
    if logits.shape[-2:] == (side, side):
        return logits
    return F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
