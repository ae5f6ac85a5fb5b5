"""MBT (Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021): two fully trained transformers.

Each stream has its own transformer; both start from the backbone's weights. Up to layer L_f the streams are separate:

    z_m = Layer_m(z_m)                                  m in {visual, audio}

and from there on they exchange a few bottleneck tokens z_b, which both streams read before they are updated:

    [z_m | z_b,m] = Layer_m([z_m | z_b])
    z_b = mean over m of z_b,m

as in the paper's bottleneck fusion and its public code (google-research/scenic, `projects/mbt`). Differences: that
code has one last LayerNorm for both streams, here each transformer keeps its own (1,536 more parameters with D = 768);
there is no dropout, stochastic depth or mixup; and the audio transformer starts from image weights, not from AST
trained on AudioSet as in the AV-PEA paper's Table 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea.adapters import Trained
from avpea.adapters.full import Full
from avpea.backbones import CNN, Backbone, Positions, Transformer
from avpea.encoders._base import Encoder, PositionOptions, Streams, as_transformer, require_sounds
from avpea.encoders._running import lend, recomputed
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.options import require, require_choice

__all__ = ["EXTENSION", "MBT", "MBTOptions"]

Run = Callable[..., Tensor]


@dataclass(frozen=True)
class MBTOptions(PositionOptions):
    """Options of MBT.

    Attributes:
        bottleneck_tokens: Number of tokens that the streams exchange, B (4 in MBT's paper).
        fusion_from: Index L_f of the first layer with bottleneck tokens (8 of 12 in MBT's paper); the depth of the
            backbone means late fusion, without bottleneck tokens.
    """

    bottleneck_tokens: int = 4
    fusion_from: int = 8

    def __post_init__(self) -> None:
        tokens = self.bottleneck_tokens
        require(tokens >= 1, f"encoder.bottleneck_tokens is {tokens}; expected 1 or more.")
        require(self.fusion_from >= 0, f"encoder.fusion_from is {self.fusion_from}; expected 0 (all layers) or more.")


class Bottleneck(Trained):
    """The tokens that the streams exchange, initialised from N(0, 0.02^2) as in the public code.

    Args:
        tokens: Number of tokens, B.
        dim: Width of a token.
    """

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.02 * torch.randn(1, tokens, dim))

    def forward(self, images: int, dtype: torch.dtype) -> Float[Tensor, "images tokens dim"]:
        """The same tokens for every image."""
        return self.tokens.to(dtype).expand(images, -1, -1)


class MBT(Encoder):
    """Two trained copies of the backbone, which exchange bottleneck tokens in their last layers.

    The backbone's own weights are not used after that: with ViT-B/16 and 4 tokens 2 x 85,798,656 + 3,072 parameters
    are trained and none is frozen.

    Args:
        backbone: A transformer with learned positions; rotary ones have no position for a bottleneck token.
        bottleneck_tokens: Number of tokens that are exchanged, B.
        fusion_from: Index L_f of the first layer with bottleneck tokens; the depth of the backbone means late fusion.
        positions: How position embeddings are resampled to the grid of a log-mel image.

    Raises:
        ExperimentError: `fusion_from` is beyond the depth, or the positions are rotary.
    """

    Options = MBTOptions
    backbone: Backbone

    def __init__(
        self,
        backbone: Backbone,
        bottleneck_tokens: int = 4,
        fusion_from: int = 8,
        positions: Positions = "grid",
    ) -> None:
        require_choice("positions", positions, Positions)
        super().__init__()
        if fusion_from > backbone.depth:
            raise ExperimentError(
                f"encoder.fusion_from is {fusion_from}, but '{backbone.name}' is used with {backbone.depth} blocks; "
                f"expected 0 to {backbone.depth}."
            )
        if backbone.rope is not None:
            raise ExperimentError(
                f"backbone.name '{backbone.name}' has rotary positions, in which bottleneck tokens have no place; "
                "name a ViT with learned positions, for example 'vit_base_patch16_224.augreg_in21k'."
            )
        self.backbone = backbone
        self.visual_dim = self.audio_dim = backbone.dim
        self.fusion_from = fusion_from
        self.positions: Positions = positions
        weights = dict(backbone.named_parameters())
        self.visual, self.audio = Full(weights), Full(weights)
        fuses = fusion_from < backbone.depth
        self.bottleneck = Bottleneck(bottleneck_tokens, backbone.dim) if fuses else None

    @classmethod
    def build(cls, backbone: Transformer | CNN, experiment: Experiment) -> "MBT":
        """The encoder of an experiment; both copies start from the backbone's weights."""
        options: Any = experiment.encoder
        vit = as_transformer(backbone, experiment)
        if not isinstance(vit, Backbone):
            raise ExperimentError(
                f"backbone.name '{vit.name}' attends within windows, in which bottleneck tokens have no place; "
                "name a ViT with learned positions, for example 'vit_base_patch16_224.augreg_in21k'."
            )
        require_sounds(vit, experiment)
        return cls(vit, options.bottleneck_tokens, options.fusion_from, options.positions)

    def parameter_counts(self) -> tuple[int, int]:
        """Number of frozen and of trained parameters; the backbone does not count beside its copies."""
        frozen, trained = super().parameter_counts()
        return frozen - sum(p.numel() for p in self.backbone.parameters()), trained

    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Normalised frames and log-mel images to the tokens of each stream after its last norm."""
        see, hear = self._with(self.visual), self._with(self.audio)
        x = Streams(see(self._alone, see, frames), hear(self._alone, hear, sounds, self.positions))
        if self.bottleneck is not None:
            shared = self.bottleneck(frames.shape[0], x.visual.dtype)
            for index in range(self.fusion_from, self.backbone.depth):
                seen = self._layer_with(see, index, torch.cat((x.visual, shared), dim=1))
                heard = self._layer_with(hear, index, torch.cat((x.audio, shared), dim=1))
                own = Streams(seen[:, : x.visual.shape[1]], heard[:, : x.audio.shape[1]])
                shared = (seen[:, x.visual.shape[1] :] + heard[:, x.audio.shape[1] :]) / 2
                x = own
        return Streams(see(self.backbone.norm, x.visual), hear(self.backbone.norm, x.audio))

    def _with(self, copy: Full) -> Run:
        """A function that runs a part of the backbone with a stream's own weights."""
        dtype = next(self.backbone.parameters()).dtype
        weights = {name: weight.to(dtype) for name, weight in copy.by_name().items()}  # cast once per step

        def run(part: Run, *arguments: Any) -> Tensor:
            tokens: Tensor = lend(weights, self.backbone, part, *arguments)
            return tokens

        return run

    def _alone(self, own: Run, pixels: Tensor, positions: Positions = "grid") -> Tensor:
        """The layers without bottleneck tokens, called while the stream's own weights are lent by `own`."""
        x = self.backbone.embed(pixels, positions)
        for index in range(self.fusion_from):
            x = self._layer_with(own, index, x) if self.checkpointing else self._layer(index, x)
        return x

    def _layer_with(self, own: Run, index: int, x: Tensor) -> Tensor:
        """A layer with a stream's own weights."""
        if not self.checkpointing:
            return own(self._layer, index, x)
        again: Tensor = recomputed(lambda x: own(self._layer, index, x), x)
        return again

    def _layer(self, index: int, x: Tensor) -> Tensor:
        block = self.backbone.blocks[index]
        x = x + self.run(block.attend, x)
        return x + self.run(block.feed, x)


EXTENSION = MBT
