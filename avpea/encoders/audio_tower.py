"""A frozen image transformer for the frames and an audio transformer of its own for the sound: VALOR as published.

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
from avpea.encoders._base import Encoder, Streams, as_transformer
from avpea.encoders._parts import frozen_tokens, lend, own_tuning
from avpea.errors import ExperimentError, WeightsError
from avpea.experiment import Experiment
from avpea.options import require
from avpea.sections import EncoderOptions, RowsOptions

__all__ = ["EXTENSION", "AudioTower", "AudioTowerEncoder", "AudioTowerOptions", "ast_file"]

DIM, BLOCKS, PATCH = 768, 12, 16
# Grid of the patches of AST's own checkpoint: 128 mel bins and 1,024 windows, patches that overlap.
AST_GRID = (12, 101)
AST_FILE = "audioset_10_10_0.4593.pth"


@dataclass(frozen=True)
class AudioTowerOptions(EncoderOptions):
    """Options of the audio tower.

    Attributes:
        audio_weights: AST's, where training starts: the path of its own checkpoint, or `random` to train the audio
            transformer from the start; `pretrained` has no place to come from, and the error says what to give instead.
    """

    locations: ClassVar[tuple[str, ...]] = ("audio_weights",)

    audio_weights: str = "pretrained"

    def __post_init__(self) -> None:
        require(bool(self.audio_weights), "encoder.audio_weights is empty; expected 'pretrained', 'random' or a file.")

    def rebuilt(self) -> "AudioTowerOptions":
        """Without AST's file: a checkpoint holds what became of it."""
        return replace(self, audio_weights="random")


class AudioTower(Trained):
    """AST of the size of ViT-B: 16x16 patches of a log-mel, without overlap, CLS, no distillation token.

    Args:
        mel_bins: Of the log-mel (64 in VALOR).
        windows: Of a slice (512 in VALOR).
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
        """Normalised log-mels, three equal channels, to tokens after the last norm, CLS first."""
        images = sounds[:, :1].transpose(2, 3)  # mel bins are the rows
        tokens: Tensor = self.vit.forward_features(images)
        return tokens

    def take(self, state: dict[str, Tensor], source: str) -> None:
        """Start from AST's own checkpoint (`audioset_10_10_0.4593.pth`).

        As VALOR's public code does: positions are resampled bilinearly, the distillation token is dropped. AST's
        classifier is left out.

        Raises:
            WeightsError: Another file.
        """
        prefix = "module.v."
        found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        own = self.vit.state_dict()
        lacking = sorted(own.keys() - found.keys())
        if lacking:
            raise WeightsError(
                f"{source} is no checkpoint of AST: it has no '{prefix}{lacking[0]}'; expected {AST_FILE}."
            )
        if found["pos_embed"].shape[1] != AST_GRID[0] * AST_GRID[1] + 2:
            raise WeightsError(f"{source} has positions of other sounds than AudioSet's 10 s; expected {AST_FILE}.")
        table = found["pos_embed"][:, 2:].reshape(1, *AST_GRID, DIM).permute(0, 3, 1, 2)
        table = F.interpolate(table, self.grid, mode="bilinear").flatten(2).transpose(1, 2)
        found["pos_embed"] = torch.cat((found["pos_embed"][:, :1], table), dim=1)
        self.vit.load_state_dict({key: found[key] for key in own})


def ast_file(weights: str) -> Path | None:
    """The file of AST's weights that `encoder.audio_weights` names; None for a tower that starts anew.

    Raises:
        WeightsError: It names none, or there is none.
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
    """Frames through the backbone, sounds through an `AudioTower`, which is trained.

    Args:
        backbone: A transformer, frozen unless `tuned`.
        tower: For the sounds.
        tuned: Trained copies of the backbone's weights, as in VALOR itself; None trains none.
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
        """The encoder of an experiment, the tower from a file or new.

        Raises:
            ExperimentError: An adapter that needs both streams in one transformer, or another layout of the sound.
            WeightsError: AST's weights cannot be had, or do not fit.
        """
        audio: Any = experiment.audio
        options: Any = experiment.encoder
        transformer = as_transformer(backbone, experiment)
        tower = AudioTower(audio.mel_bins, audio.rows)
        if not next(backbone.parameters()).is_meta and (file := ast_file(options.audio_weights)):
            tower.take(read_table(file, "AST"), str(file))
        return cls(transformer, tower, own_tuning(transformer, experiment))

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Log-mels are read as they are.

        Raises:
            ExperimentError: They are to be resized to the frames' size.
        """
        if not isinstance(experiment.audio, RowsOptions):
            raise ExperimentError(
                "audio.layout is 'image', but the encoder 'audio_tower' reads log-mels as they are; set audio.layout "
                "to slices (or native, for each second by itself), audio.mel_bins to 64 and audio.rows to 512."
            )

    @classmethod
    def require_files(cls, experiment: Experiment) -> None:
        """AST's weights, unless the tower starts anew."""
        options: Any = experiment.encoder
        ast_file(options.audio_weights)

    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "slices 3 rows columns"]
    ) -> Streams:
        """Normalised pixels and log-mels to tokens; there are as many slices as the sound of the videos fills."""
        heard = self.tower(sounds.float())
        if self.tuning is None:
            return Streams(self.see(frames), heard)
        seen: Tensor = lend(self.tuning.by_name(), self.backbone, self.see, frames)
        return Streams(seen, heard)

    def see(self, frames: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images visual_tokens dim"]:
        """Tokens of frames as the transformer alone sees them."""
        return frozen_tokens(self.backbone, frames)


# Of the public classes here, this one is the encoder.
EXTENSION = AudioTowerEncoder
