"""The dual-stream encoder (AV-PEA paper, Section 3.3): one frozen transformer, two streams, adapters between them."""

from collections.abc import Callable
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea import registry
from avpea.adapters._base import Adapter
from avpea.backbones import Backbone
from avpea.errors import ExperimentError
from avpea.experiment import AdapterConfig

__all__ = ["BlockAdapters", "DualStreamEncoder", "Streams", "block_adapters"]


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


class Beside(nn.Module):
    """The adapters beside one frozen branch, at most one for each stream."""

    def __init__(self, visual: Adapter | None = None, audio: Adapter | None = None) -> None:
        super().__init__()
        self.visual = visual
        self.audio = audio

    def forward(self, x: Streams) -> tuple[Tensor | None, Tensor | None]:
        """Both residuals, each computed from both streams; None where there is no adapter."""
        return (
            None if self.visual is None else self.visual(x.visual, x.audio),
            None if self.audio is None else self.audio(x.audio, x.visual),
        )


class BlockAdapters(nn.Module):
    """What stands beside one frozen block: adapters beside its attention and beside its feed-forward layer."""

    def __init__(self, attn: Beside, mlp: Beside) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = mlp


class DualStreamEncoder(nn.Module):
    """Frames and log-mel images through the same frozen blocks, with adapters beside them.

    Args:
        backbone: The frozen transformer; it stays in `eval()` and gets no gradient.
        adapter: Which adapters, in which streams and blocks.
        positions: How position embeddings are resampled for audio images of another grid.
    """

    def __init__(
        self, backbone: Backbone, adapter: AdapterConfig, positions: Literal["grid", "sequence"] = "grid"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.positions: Literal["grid", "sequence"] = positions
        self.beside = block_adapters(adapter, backbone.dim, backbone.depth, backbone.has_cls)

    def train(self, mode: bool = True) -> "DualStreamEncoder":
        """Switch the adapters; the frozen backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Normalised pixels of frames and of log-mel images to tokens after the backbone's last norm."""
        x = self.embed(frames, sounds)
        # The same frozen blocks; a backbone with rotary positions binds them to each stream's grid.
        seeing, hearing = (self.backbone.blocks_for(*image.shape[-2:]) for image in (frames, sounds))
        for see, hear, beside in zip(seeing, hearing, self.adapters(), strict=True):
            x = x.plus(x.each(see.attend, hear.attend)).plus(beside.attn(x))  # Eq. (3), (4)
            x = x.plus(x.each(see.feed, hear.feed)).plus(beside.mlp(x))  # AV-PEA leaves this one empty
        return x.each(self.backbone.norm, self.backbone.norm)

    def adapters(self) -> list[BlockAdapters]:
        """What stands beside each block, in order."""
        return cast("list[BlockAdapters]", list(self.beside))

    def embed(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Pixels to the tokens that enter block 0."""
        return Streams(self.backbone.embed(frames), self.backbone.embed(sounds, self.positions))


def block_adapters(config: AdapterConfig, dim: int, depth: int, has_cls: bool) -> nn.ModuleList:
    """New adapters for `depth` blocks of width `dim`, one `BlockAdapters` a block.

    Raises:
        ExperimentError: No such adapter, or a block index beyond the backbone's depth.
    """
    kind: type[Adapter] = registry.load("adapter", config.name)
    beyond = [index for index in config.blocks if index >= depth]
    if beyond:
        raise ExperimentError(f"adapter.blocks names {beyond}, but the backbone has blocks 0 to {depth - 1}.")

    def adapter(index: int, branch: str, stream: str) -> Adapter | None:
        wanted = not config.blocks or index in config.blocks
        if not wanted or branch not in kind.beside or config.streams not in ("both", stream):
            return None
        return kind(dim, reduction=config.reduction, scaled_attention=config.scaled_attention, has_cls=has_cls)

    def beside(index: int, branch: str) -> Beside:
        return Beside(adapter(index, branch, "visual"), adapter(index, branch, "audio"))

    return nn.ModuleList(BlockAdapters(beside(i, "attn"), beside(i, "mlp")) for i in range(depth))
