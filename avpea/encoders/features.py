"""Precomputed features in place of encoders: what a data set holds goes to the head as it is."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from avpea.encoders._base import Encoder, Streams
from avpea.errors import ExperimentError
from avpea.experiment import Experiment

__all__ = ["FeaturesEncoder"]


class FeaturesEncoder(Encoder):
    """Feature maps of the frames and a vector of each second of sound, as a data set holds them.

    Args:
        backbone: The backbone `features`, which has their widths.
    """

    features = "precomputed"
    sees_alone = True

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.visual_dim, self.audio_dim = backbone.dim, backbone.audio_dim

    @classmethod
    def build(cls, backbone: Any, experiment: Experiment) -> "FeaturesEncoder":
        """The encoder of an experiment."""
        return cls(backbone)

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Check that there is no image network, as there are no images.

        Raises:
            ExperimentError: There is one.
        """
        if experiment.backbone.name != "features":
            raise ExperimentError(
                f"backbone.name is '{experiment.backbone.name}', but the encoder 'features' reads what a network has "
                "computed; set backbone.name to features."
            )

    def see(self, frames: Float[Tensor, "images patches dim"]) -> Float[Tensor, "images patches dim"]:
        """The feature maps themselves."""
        return frames

    def forward(
        self, frames: Float[Tensor, "images patches dim"], sounds: Float[Tensor, "images audio_dim"]
    ) -> Streams:
        """The feature maps, and each vector of the sound as its only token."""
        return Streams(frames, sounds[:, None])
