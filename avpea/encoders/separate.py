"""Separate frozen encoders: an image network for the frames, VGGish for the sound, and nothing between them.

CMBS as published (Xia & Zhao, CVPR 2022; row "CMBS" of the AV-PEA paper's Table 1) on ResNet-152's or VGG-19's last
feature map and VGGish's embedding of each second. Only the head trains.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.adapters import Trained, Tuning
from avpea.backbones import CNN, Transformer, VGGish, build_vggish, vggish_file
from avpea.encoders._base import Encoder, Streams
from avpea.encoders._parts import frozen_tokens, lend, own_tuning
from avpea.experiment import Experiment
from avpea.options import require
from avpea.sections import EncoderOptions

__all__ = ["EXTENSION", "SeparateEncoders", "SeparateOptions"]


@dataclass(frozen=True)
class SeparateOptions(EncoderOptions):
    """Options of the separate encoders.

    Attributes:
        audio_weights: VGGish's: the path of a local file with the keys of torchvggish (.safetensors, or .pth read with
            weights_only), or `random` (tests and counting only); `pretrained` has no place to come from, and the error
            says what to give instead.
    """

    locations: ClassVar[tuple[str, ...]] = ("audio_weights",)

    audio_weights: str = "pretrained"

    def __post_init__(self) -> None:
        require(bool(self.audio_weights), "encoder.audio_weights is empty; expected 'pretrained', 'random' or a file.")


class SeparateEncoders(Encoder):
    """A frozen image network beside frozen VGGish.

    Args:
        backbone: A CNN, whose map's locations are the visual tokens; or a transformer, whose tokens after the last norm
            are, which is beyond the paper and shows what an audio network adds to the same frozen images.
        vggish: Frozen; its embedding is the one audio token of a second.
        tuned: Trained copies of a transformer's weights, for Table 2's row with a trained Swin-V2-L; None trains none.
    """

    Options = SeparateOptions
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
        """The encoders of an experiment; beside a backbone without weights, VGGish without weights.

        Raises:
            ExperimentError: An adapter that needs both streams in one transformer.
            WeightsError: VGGish's weights cannot be had, or do not fit.
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
        """VGGish's weights, where they are asked for."""
        options: Any = experiment.encoder
        if options.audio_weights != "random":
            vggish_file(options.audio_weights)

    def other_fingerprints(self) -> dict[str, str]:
        """VGGish's."""
        return {"encoder.audio_weights": self.vggish.fingerprint()}

    def half_precision(self) -> "SeparateEncoders":
        """Keep both networks in bfloat16."""
        self.vggish.to(torch.bfloat16)
        super().half_precision()
        return self

    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 96 64"]
    ) -> Streams:
        """Normalised pixels and VGGish's log-mels (three equal channels) to locations of the map and one token."""
        tuned = {} if self.tuning is None else self.tuning.by_name()
        seen = lend(tuned, self.backbone, self.see, frames) if tuned else self.see(frames)
        return Streams(seen, self.vggish(sounds[:, :1])[:, None])

    def see(self, frames: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images visual_tokens dim"]:
        """Tokens of frames, of the frozen weights."""
        if isinstance(self.backbone, CNN):
            tokens: Tensor = self.backbone(frames)
            return tokens
        return frozen_tokens(self.backbone, frames)


EXTENSION = SeparateEncoders
