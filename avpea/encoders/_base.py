"""What every encoder is: frames and log-mel images of the same seconds to tokens of both streams."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea import registry
from avpea.adapters._base import Trained, Tuning
from avpea.backbones import CNN, Transformer
from avpea.errors import ExperimentError
from avpea.experiment import Experiment

__all__ = ["Encoder", "Streams", "as_transformer", "build_encoder", "changed_option"]


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
        options: The options of `EncoderConfig` that it takes; another one that a recipe changes is refused.
        features: The log-mel that it reads, `audio.features`.
        adapted: Whether it has the recipe's adapters; without them, a recipe that changes one is refused.
        sees_alone: Whether it has a frozen image network to `see` frames with.
        starts_from: Options that name files which only training starts from: a checkpoint holds what they became.
        backbone: The frozen image network; says how pixels are normalised, and the type to compute in.
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
    """

    options: ClassVar[tuple[str, ...]] = ()
    features: ClassVar[Literal["kaldi", "vggish"]] = "kaldi"
    adapted: ClassVar[bool] = False
    sees_alone: ClassVar[bool] = False
    starts_from: ClassVar[tuple[str, ...]] = ()
    backbone: Transformer | CNN
    visual_dim: int
    audio_dim: int

    @classmethod
    @abstractmethod
    def build(cls, backbone: Transformer | CNN, experiment: Experiment) -> "Encoder":
        """The encoder of an experiment, its trained parts new; `build_encoder` checks the options first.

        Raises:
            ExperimentError: An option that it cannot serve.
        """

    @abstractmethod
    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Normalised pixels of frames, and log-mels as `avpea.model.log_mel_image` makes them, to tokens."""

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
        ExperimentError: No such encoder, or an option was changed that it does not have or cannot serve.
        WeightsError: Frozen weights of its own cannot be had.
    """
    name = experiment.encoder.name
    kind: type[Encoder] = registry.load("encoder", name)
    # Where weights are is no matter to an encoder that does not read them: a sweep gives it for all of its rows.
    if changed := changed_option(experiment.encoder, {"name", "audio_weights", *kind.options}):
        takes = ", ".join(kind.options) or "no options of its own"
        raise ExperimentError(f"encoder.{changed}, but the encoder '{name}' does not have it (it takes {takes}).")
    if not kind.adapted and (changed := changed_option(experiment.adapter, set())):
        raise ExperimentError(f"adapter.{changed}, but the encoder '{name}' has no adapters; leave it at its default.")
    if experiment.audio.features != kind.features:
        bins = " and audio.mel_bins to 64" if kind.features == "vggish" else ""
        raise ExperimentError(
            f"audio.features is '{experiment.audio.features}', but the encoder '{name}' reads the features "
            f"'{kind.features}'; set audio.features to {kind.features}{bins}."
        )
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


def changed_option(config: object, known: set[str]) -> str:
    """The first option that is not known and not at its default, as `name is value`."""
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if field.name not in known and value != field.default:
            return f"{field.name} is {value!r}"
    return ""
