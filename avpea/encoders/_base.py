"""What every encoder is: frames and log-mel images of the same seconds to tokens of both streams."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea import registry
from avpea.adapters import Trained, Tuning
from avpea.backbones import CNN, Transformer
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.sections import EncoderOptions

__all__ = ["Encoder", "PositionOptions", "Streams", "as_transformer", "build_encoder"]


@dataclass(frozen=True)
class PositionOptions(EncoderOptions):
    """Options of encoders that run log-mel images through a transformer for pictures.

    Attributes:
        positions: How position embeddings reach the grid of a log-mel image. `grid`: resampled in two dimensions;
            `sequence`: LAVISH's linear interpolation of the whole sequence, CLS slot included.
    """

    positions: Literal["grid", "sequence"] = "grid"


class Streams(NamedTuple):
    """Tokens of both streams; with one transformer for both, row i of one belongs to row i of the other."""

    visual: Float[Tensor, "images visual_tokens dim"]
    audio: Float[Tensor, "images_of_sound audio_tokens audio_dim"]

    def each(self, see: Callable[[Tensor], Tensor], hear: Callable[[Tensor], Tensor]) -> "Streams":
        """Run a frozen layer on both streams, in one call where it is the same and that saves launches."""
        # On a CPU two calls cost the same and spare the copies (docs/log.md), and a stream that no adapter
        # has touched then needs no backward pass.
        alike = self.visual.shape == self.audio.shape and self.visual.requires_grad == self.audio.requires_grad
        if see == hear and alike and self.visual.device.type != "cpu":
            visual, audio = see(torch.cat(self)).chunk(2)
            return Streams(visual, audio)
        return Streams(see(self.visual), hear(self.audio))

    def plus(self, residuals: tuple[Tensor | None, Tensor | None]) -> "Streams":
        """The sum, stream by stream; None adds nothing."""
        visual, audio = residuals
        return Streams(
            self.visual if visual is None else self.visual + visual,
            self.audio if audio is None else self.audio + audio,
        )


class Encoder(nn.Module, ABC):
    """Pixels of both streams to their tokens.

    A file in `avpea/encoders/` with one subclass is at once listed, loadable from a recipe, counted and put
    through the contract tests. What trains in it are modules of type `Trained`; all else is frozen.

    Attributes:
        Options: What a recipe can tell it: a subclass of `EncoderOptions`.
        features: The log-mel that it reads, `audio.features`.
        adapters: Kinds of adapters that it has a place for.
        default_adapter: The one that it has where a recipe says nothing; empty means none.
        sees_alone: Whether it has a frozen image network to `see` frames with.
        backbone: The frozen image network; says how pixels are normalised, and the type to compute in.
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
    """

    Options: ClassVar[type[EncoderOptions]] = EncoderOptions
    features: ClassVar[Literal["kaldi", "vggish"]] = "kaldi"
    adapters: ClassVar[tuple[type[Trained], ...]] = ()
    default_adapter: ClassVar[str] = ""
    sees_alone: ClassVar[bool] = False
    backbone: Transformer | CNN
    visual_dim: int
    audio_dim: int

    @classmethod
    @abstractmethod
    def build(cls, backbone: Transformer | CNN, experiment: Experiment) -> "Encoder":
        """The encoder of an experiment, its trained parts new.

        Raises:
            ExperimentError: An option that it cannot serve.
        """

    @abstractmethod
    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Normalised pixels of frames, and log-mels as `avpea.model.log_mel_image` makes them, to tokens."""

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Refuse, when a recipe is read, what does not fit the encoder.

        Raises:
            ExperimentError: What does not, and what would.
        """

    @classmethod
    def require_files(cls, experiment: Experiment) -> None:
        """Refuse, before any work, files of its own that are known not to be there.

        Raises:
            WeightsError: As `build`.
        """

    def see(self, frames: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images visual_tokens dim"]:
        """Tokens of frames as the frozen image network alone sees them, without sound, where `sees_alone`."""
        raise NotImplementedError

    def require_see(self) -> None:
        """Refuse, before any work, an encoder that cannot `see`.

        Raises:
            ExperimentError: It has no frozen image network.
        """
        if not self.sees_alone:
            raise ExperimentError(
                f"The encoder {type(self).__name__} trains its image network, so there are no frozen features of other "
                "videos' frames; set head.negatives to batch."
            )

    def beside_attention(self) -> list[tuple[int, Literal["visual", "audio"], Any]]:
        """Adapters beside the attention of frozen blocks: index of the block, stream, adapter."""
        return []

    def trained_parts(self) -> list[tuple[str, Trained]]:
        """Modules that train, with their names: they and the head are what a checkpoint holds."""
        return [(name, module) for name, module in self.named_modules() if isinstance(module, Trained)]

    def parameter_counts(self) -> tuple[int, int]:
        """Parameters that stay frozen, and that train; of weights with a trained copy, the copy counts."""
        trained = sum(p.numel() for _, part in self.trained_parts() for p in part.parameters())
        tuning: Tuning | None = getattr(self, "tuning", None)
        copied = 0 if tuning is None else sum(p.numel() for p in tuning.parameters())
        return sum(p.numel() for p in self.parameters()) - trained - copied, trained

    def other_fingerprints(self) -> dict[str, str]:
        """SHA-256 of frozen weights beside the backbone's, by the option that names their file."""
        return {}

    def half_precision(self) -> "Encoder":
        """Keep the frozen weights in bfloat16."""
        self.backbone.to(torch.bfloat16)
        return self

    def train(self, mode: bool = True) -> "Encoder":
        """Switch what trains; all that is frozen stays in evaluation mode."""
        super().train(False)
        for _, part in self.trained_parts():
            part.train(mode)
        self.training = mode
        return self


def build_encoder(backbone: Transformer | CNN, experiment: Experiment) -> Encoder:
    """The encoder that an experiment names, its trained parts new.

    Raises:
        ExperimentError: No such encoder, or an option that it cannot serve.
        WeightsError: Frozen weights of its own cannot be had.
    """
    kind: type[Encoder] = registry.load("encoder", experiment.encoder.name)
    return kind.build(backbone, experiment)


def as_transformer(backbone: Transformer | CNN, experiment: Experiment) -> Transformer:
    """The backbone, if it has a transformer's blocks.

    Raises:
        ExperimentError: It is a CNN.
    """
    if isinstance(backbone, Transformer):
        return backbone
    raise ExperimentError(
        f"backbone.name '{backbone.name}' is a CNN, but the encoder '{experiment.encoder.name}' works on a "
        "transformer's blocks; name a timm ViT or Swin V2, or set encoder.name to separate."
    )
