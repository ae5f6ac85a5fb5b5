"""Separate frozen encoders: an image network for the frames and VGGish for the sound, without interaction.

As in CMBS (Xia & Zhao, CVPR 2022; row "CMBS" of the AV-PEA paper's Table 1): the last feature map of ResNet-152 or
VGG-19, and VGGish's embedding of each second. Only the head is trained.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.adapters import Trained, Tuning
from avpea.backbones import CNN, Transformer, VGGish, build_vggish, vggish_file
from avpea.encoders._base import AudioWeightsOptions, Encoder, Streams
from avpea.encoders._parts import own_tuning
from avpea.encoders._running import lend_tuned
from avpea.experiment import Experiment

__all__ = ["SeparateEncoders"]


class SeparateEncoders(Encoder):
    """A frozen image network beside frozen VGGish.

    Args:
        backbone: A CNN, whose visual tokens are the locations of its feature map; or, beyond the paper, a transformer.
        vggish: Frozen VGGish, whose embedding of a second is its only audio token.
        tuned: Trained copies of a transformer's weights (Table 2 has a row with a trained Swin-V2-L), or None.
    """

    Options = AudioWeightsOptions
    features = "vggish"
    adapters: ClassVar[tuple[type[Trained], ...]] = (Tuning,)
    sees_alone = True

    def __init__(self, backbone: Transformer | CNN, vggish: VGGish, tuned: Tuning | None = None) -> None:
        super().__init__()
        self.tuning = tuned
        self.backbone = backbone
        self.vggish = vggish
        self.visual_dim = backbone.dim
        self.audio_dim = vggish.dim

    @classmethod
    def build(cls, backbone: Transformer | CNN, experiment: Experiment) -> "SeparateEncoders":
        """The encoders of an experiment; if the backbone is on the meta device, so is VGGish.

        Raises:
            ExperimentError: An adapter that needs both streams in one transformer.
            WeightsError: VGGish's weights cannot be loaded, or do not fit.
        """
        options: Any = experiment.encoder
        tuned = own_tuning(backbone, experiment)
        if not next(backbone.parameters()).is_meta:
            return cls(backbone, build_vggish(options.audio_weights), tuned)
        with torch.device("meta"):
            vggish = VGGish()
        vggish.freeze()
        return cls(backbone, vggish, tuned)

    @classmethod
    def require_files(cls, experiment: Experiment) -> None:
        """Check that the file of VGGish's weights exists."""
        options: Any = experiment.encoder
        if options.audio_weights != "random":
            vggish_file(options.audio_weights)

    def other_fingerprints(self) -> dict[str, str]:
        """The fingerprint of VGGish."""
        return {"encoder.audio_weights": self.vggish.fingerprint()}

    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 96 64"]
    ) -> Streams:
        """Normalised frames, and VGGish's log-mels in three equal channels, to visual tokens and one audio token."""
        seen = lend_tuned(self.tuning, self.backbone, self.see, frames)
        return Streams(seen, self.vggish(sounds[:, :1])[:, None])
