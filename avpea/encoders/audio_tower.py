"""A frozen image transformer for the frames and a trained audio transformer for the sound, as in VALOR.

The row "VALOR" of the AV-PEA paper's Table 3, whose audio encoder is AST (Gong et al., Interspeech 2021) pre-trained on
AudioSet. As in VALOR's public code the sound of a video is one log-mel, cut into slices of 512 windows (5.12 s).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from avpea.adapters import Trained, Tuning
from avpea.backbones import CNN, Transformer, named_file, read_table
from avpea.backbones.weights import fill
from avpea.encoders._base import AudioWeightsOptions, Encoder, Streams, as_transformer
from avpea.encoders._parts import own_tuning
from avpea.encoders._running import lend_tuned
from avpea.errors import ExperimentError, WeightsError
from avpea.experiment import Experiment
from avpea.sections import RowsOptions

__all__ = ["EXTENSION", "AudioTower", "AudioTowerEncoder", "AudioTowerOptions", "ast_file"]

DIM, BLOCKS, PATCH = 768, 12, 16
# Patch grid of AST's own checkpoint: 128 mel bins and 1,024 windows, overlapping patches.
AST_GRID = (12, 101)
AST_FILE = "audioset_10_10_0.4593.pth"


@dataclass(frozen=True)
class AudioTowerOptions(AudioWeightsOptions):
    """Options of the audio tower."""

    def rebuilt(self) -> "AudioTowerOptions":
        """Without AST's file: a checkpoint holds the trained tower."""
        return replace(self, audio_weights="random")


class AudioTower(Trained):
    """AST in the size of ViT-B: 16x16 patches without overlap, a CLS token, no distillation token.

    Args:
        mel_bins: Mel bins of the log-mel (64 in VALOR).
        windows: Analysis windows in a slice (512 in VALOR).
    """

    def __init__(self, mel_bins: int, windows: int) -> None:
        super().__init__()
        if mel_bins % PATCH or windows % PATCH:
            raise ExperimentError(
                f"audio.mel_bins is {mel_bins} and audio.rows {windows}; the audio tower takes multiples of "
                f"{PATCH}, as VALOR's 64 and 512."
            )
        self.grid = mel_bins // PATCH, windows // PATCH
        self.vit: Any = VisionTransformer(
            img_size=(mel_bins, windows), patch_size=PATCH, in_chans=1, num_classes=0, global_pool="",
            embed_dim=DIM, depth=BLOCKS, num_heads=12,
        )  # fmt: skip

    def forward(self, sounds: Float[Tensor, "slices 3 windows mel_bins"]) -> Float[Tensor, "slices tokens dim"]:
        """Normalised log-mels in three equal channels to tokens after the last norm, CLS first."""
        images = sounds[:, :1].transpose(2, 3)  # mel bins are the rows
        tokens: Tensor = self.vit.forward_features(images)
        return tokens

    def take(self, state: dict[str, Tensor], source: str) -> None:
        """Load AST's own checkpoint (`audioset_10_10_0.4593.pth`).

        As in VALOR's public code, positions are resampled bilinearly and the distillation token is dropped, as is
        AST's classifier.

        Raises:
            WeightsError: The file holds something else, AST in another size, or numbers that are not finite.
        """
        prefix = "module.v."
        found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        own = self.vit.state_dict()
        lacking = sorted(own.keys() - found.keys())
        if lacking:
            raise WeightsError(
                f"{source} is no checkpoint of AST: it has no '{prefix}{lacking[0]}'; expected {AST_FILE}."
            )
        positions = found["pos_embed"]
        if positions.ndim != 3 or positions.shape[1] != AST_GRID[0] * AST_GRID[1] + 2:
            raise WeightsError(f"{source} has positions of other sounds than AudioSet's 10 s; expected {AST_FILE}.")
        # Those of another width, or that are no numbers, stay as they are: `fill` says what is wrong with them.
        if positions.shape[2] == DIM and positions.is_floating_point():
            positions = positions.float()
            table = positions[:, 2:].reshape(1, *AST_GRID, DIM).permute(0, 3, 1, 2)
            table = F.interpolate(table, self.grid, mode="bilinear").flatten(2).transpose(1, 2)
            found["pos_embed"] = torch.cat((positions[:, :1], table), dim=1)
        # Copies, as training changes them, and a file of safetensors is mapped.
        fill(self.vit, own, {key: found[key].clone() for key in own}, source, "AST", f"expected {AST_FILE}")


def ast_file(weights: str) -> Path | None:
    """The file of AST's weights that `encoder.audio_weights` names; None for random weights.

    Raises:
        WeightsError: It names no file, or the file does not exist.
    """
    if weights == "random":
        return None
    if weights == "pretrained":
        raise WeightsError(
            f"encoder.audio_weights is 'pretrained', and no hub name is built in for AST's weights: give {AST_FILE} "
            "with --encoder.audio_weights FILE, or 'random' to train the audio tower from the start."
        )
    return named_file(weights, "AST")


class AudioTowerEncoder(Encoder):
    """Frames through the backbone, sounds through a trained `AudioTower`.

    Args:
        backbone: A frozen transformer.
        tower: The audio transformer.
        tuned: Trained copies of the backbone's weights, as in VALOR itself, or None.
    """

    Options = AudioTowerOptions
    adapters: ClassVar[tuple[type[Trained], ...]] = (Tuning,)
    sees_alone = True
    backbone: Transformer

    def __init__(self, backbone: Transformer, tower: AudioTower, tuned: Tuning | None = None) -> None:
        super().__init__()
        self.tuning = tuned
        self.backbone = backbone
        self.tower = tower
        self.visual_dim, self.audio_dim = backbone.dim, DIM

    @classmethod
    def build(cls, backbone: Transformer | CNN, experiment: Experiment) -> "AudioTowerEncoder":
        """The encoder of an experiment, its tower from AST's file or new.

        Raises:
            ExperimentError: An adapter that needs both streams in one transformer, or sizes that the tower cannot have.
            WeightsError: AST's weights cannot be loaded, or do not fit.
        """
        audio: Any = experiment.audio
        options: Any = experiment.encoder
        transformer = as_transformer(backbone, experiment)
        tower = AudioTower(audio.mel_bins, audio.rows)
        if not next(backbone.parameters()).is_meta and (file := ast_file(options.audio_weights)):
            tower.take(read_table(file, "AST"), str(file))
        return cls(transformer, tower, own_tuning(transformer, experiment))

    def checkpoint_blocks(self) -> None:
        """The trained tower's blocks too."""
        super().checkpoint_blocks()
        self.tower.vit.set_grad_checkpointing(True)

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Check that log-mels are not resized.

        Raises:
            ExperimentError: `audio.layout` is `image`.
        """
        if not isinstance(experiment.audio, RowsOptions):
            raise ExperimentError(
                "audio.layout is 'image', but the encoder 'audio_tower' reads log-mels as they are; set audio.layout "
                "to slices (or native, for each second by itself), audio.mel_bins to 64 and audio.rows to 512."
            )

    @classmethod
    def require_files(cls, experiment: Experiment) -> None:
        """Check that the file of AST's weights exists."""
        options: Any = experiment.encoder
        ast_file(options.audio_weights)

    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "slices 3 rows columns"]
    ) -> Streams:
        """Normalised frames and slices of log-mels to tokens; the numbers of frames and slices may differ."""
        heard = self.tower(sounds.to(next(self.tower.parameters()).dtype))
        return Streams(lend_tuned(self.tuning, self.backbone, self.see, frames), heard)


EXTENSION = AudioTowerEncoder
