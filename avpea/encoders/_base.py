"""What every encoder is: frames and log-mel images of the same seconds to tokens of both streams."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea.adapters._base import Trained
from avpea.backbones import Transformer
from avpea.experiment import Experiment

__all__ = ["Encoder", "Streams"]


class Streams(NamedTuple):
    """Tokens of both streams; row i of one belongs to row i of the other."""

    visual: Float[Tensor, "images visual_tokens dim"]
    audio: Float[Tensor, "images audio_tokens dim"]

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
        backbone: The frozen image network; says how pixels are normalised, and the type to compute in.
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
    """

    backbone: Transformer
    visual_dim: int
    audio_dim: int

    @classmethod
    @abstractmethod
    def build(cls, backbone: Transformer, experiment: Experiment) -> "Encoder":
        """The encoder of an experiment, its trained parts new.

        Raises:
            ExperimentError: An option that it cannot serve.
        """

    @abstractmethod
    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Normalised pixels of frames and of log-mel images to tokens."""

    def trained_parts(self) -> list[tuple[str, Trained]]:
        """Modules that train, with their names: they and the head are what a checkpoint holds."""
        return [(name, module) for name, module in self.named_modules() if isinstance(module, Trained)]

    def parameter_counts(self) -> tuple[int, int]:
        """Parameters that stay frozen, and parameters that train."""
        trained = sum(p.numel() for _, part in self.trained_parts() for p in part.parameters())
        return sum(p.numel() for p in self.parameters()) - trained, trained

    def train(self, mode: bool = True) -> "Encoder":
        """Switch what trains; all that is frozen stays in evaluation mode."""
        super().train(False)
        for _, part in self.trained_parts():
            part.train(mode)
        self.training = mode
        return self
