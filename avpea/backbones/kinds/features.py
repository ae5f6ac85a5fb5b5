"""No network: the data set holds features that another network computed."""

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

from avpea.backbones._frozen import Frozen
from avpea.options import require
from avpea.sections import BackboneOptions

__all__ = ["EXTENSION", "Features", "FeaturesOptions"]


@dataclass(frozen=True)
class FeaturesOptions(BackboneOptions):
    """Options of precomputed features.

    Attributes:
        visual_dim: Width of the feature maps of the frames (VGG-19 and ResNet-18: 512).
        audio_dim: Width of the vectors of the sound (VGGish: 128).
    """

    visual_dim: int = 512
    audio_dim: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("visual_dim", "audio_dim"):
            require(getattr(self, name) >= 1, f"backbone.{name} is {getattr(self, name)}; expected 1 or more.")


class Features(Frozen):
    """The place of an image network whose feature maps are read from files.

    Args:
        options: Widths of the features.

    Attributes:
        dim: Width of the feature maps.
        audio_dim: Width of the vectors of the sound.
        image_size: Side of frames, of which there are none.
        num_prefix_tokens: 0.
        has_cls: False.
    """

    Options = FeaturesOptions
    num_prefix_tokens: ClassVar[int] = 0
    has_cls: ClassVar[bool] = False

    def __init__(self, options: FeaturesOptions) -> None:
        super().__init__()
        self.name = options.name
        self.dim, self.audio_dim, self.image_size = options.visual_dim, options.audio_dim, options.image_size
        self.train(False)
        # There are no weights: what must agree between training and use is the widths.
        widths = f"features {self.dim} {self.audio_dim}"
        self._fingerprint = hashlib.sha256(widths.encode()).hexdigest()

    @classmethod
    def serves(cls, name: str) -> bool:
        """See `BackboneKind`."""
        return name == "features"

    @classmethod
    def build(cls, options: Any) -> "Features":
        """See `BackboneKind`."""
        return cls(options)

    @classmethod
    def shape_only(cls, options: Any) -> "Features":
        """See `BackboneKind`."""
        return cls(options)

    @classmethod
    def classifier_parameters(cls, name: str) -> int:
        """See `BackboneKind`."""
        return 0


EXTENSION = Features
