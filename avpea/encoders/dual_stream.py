"""The dual-stream encoder (AV-PEA paper, Section 3.3): one frozen transformer, two streams, adapters between them."""

from typing import Any, ClassVar, Literal, cast

from jaxtyping import Float
from torch import Tensor

from avpea.adapters import AdapterOptions, Trained
from avpea.backbones import CNN, FrozenBlock, Transformer
from avpea.encoders._base import Encoder, PositionOptions, Streams, as_transformer
from avpea.encoders._parts import BlockAdapters, block_adapters, lend_tuned, tuning
from avpea.experiment import Experiment

__all__ = ["DualStreamEncoder"]

_STREAMS: tuple[Literal["visual", "audio"], ...] = ("visual", "audio")


class DualStreamEncoder(Encoder):
    """Frames and log-mel images through the same frozen blocks, with adapters beside them.

    Args:
        backbone: The frozen transformer.
        adapter: Which adapters, in which streams and blocks.
        positions: How position embeddings are resampled to the grid of a log-mel image.
    """

    Options = PositionOptions
    adapters: ClassVar[tuple[type[Trained], ...]] = (Trained,)
    default_adapter = "av_pea"
    sees_alone = True
    backbone: Transformer

    def __init__(
        self, backbone: Transformer, adapter: AdapterOptions, positions: Literal["grid", "sequence"] = "grid"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.visual_dim = self.audio_dim = backbone.dim
        self.positions: Literal["grid", "sequence"] = positions
        self.beside = block_adapters(adapter, backbone)
        self.tuning = tuning(adapter, backbone)

    @classmethod
    def build(cls, backbone: Transformer | CNN, experiment: Experiment) -> "DualStreamEncoder":
        """The encoder of an experiment, with new adapters."""
        options: Any = experiment.encoder
        assert experiment.adapter is not None
        return cls(as_transformer(backbone, experiment), experiment.adapter, options.positions)

    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Normalised frames and log-mel images to tokens after the backbone's last norm."""
        tokens: Streams = lend_tuned(self.tuning, self.backbone, self._run, frames, sounds)
        return tokens

    def _run(self, frames: Tensor, sounds: Tensor) -> Streams:
        x = self.embed(frames, sounds)
        for see, hear, beside in zip(*self._blocks(frames, sounds), self.in_blocks(), strict=True):
            x = x.each(see.merge, hear.merge) if see.merge and hear.merge else x  # where a stage of Swin's begins
            branch = x.each(see.attend, hear.attend)
            x = x.plus(branch).plus(beside.attn(x, branch))  # Eq. (3), (4)
            branch = x.each(see.feed, hear.feed)
            x = x.plus(branch).plus(beside.mlp(x, branch))  # AV-PEA leaves this one empty
        return x.each(self.backbone.norm, self.backbone.norm)

    def _blocks(self, frames: Tensor, sounds: Tensor) -> tuple[list[FrozenBlock], list[FrozenBlock]]:
        """The blocks for each stream: the same frozen weights, for its patch grid and with its inner adapters."""
        seeing, hearing = (self.backbone.blocks_for(*image.shape[-2:]) for image in (frames, sounds))
        inside = [adapters.inside for adapters in self.in_blocks()]
        layers = list(self.backbone.layers)
        return (
            [i.enter(block, layer, "visual") for i, block, layer in zip(inside, seeing, layers, strict=True)],
            [i.enter(block, layer, "audio") for i, block, layer in zip(inside, hearing, layers, strict=True)],
        )

    def in_blocks(self) -> list[BlockAdapters]:
        """The adapters of each block, in order."""
        return cast("list[BlockAdapters]", list(self.beside))

    def beside_attention(self) -> list[tuple[int, Literal["visual", "audio"], Any]]:
        """See `Encoder`."""
        pairs = [(i, s, getattr(block.attn, s)) for i, block in enumerate(self.in_blocks()) for s in _STREAMS]
        return [(index, stream, adapter) for index, stream, adapter in pairs if adapter is not None]

    def embed(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Pixels to the tokens that enter the first block."""
        return Streams(self.backbone.embed(frames), self.backbone.embed(sounds, self.positions))
