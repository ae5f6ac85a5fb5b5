"""What differs between timm's ViT families: which blocks open into two branches, and how."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from avpea.errors import ExperimentError

__all__ = ["FrozenBlock", "attention_linears", "check_family", "open_blocks"]


@runtime_checkable
class FrozenBlock(Protocol):
    """One transformer block as its two residual branches, without the skip connections.

    Attributes:
        merge: What tokens go through before this block (Swin: neighbouring patches become one, wider); None for
            most.
    """

    @property
    def merge(self) -> Callable[[Tensor], Tensor] | None:
        """Patch merging before the block."""
        ...

    def attend(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The attention branch, MSA(LN(x)) with its LayerScale."""
        ...

    def feed(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The feed-forward branch, MLP(LN(x)) with its LayerScale."""
        ...

    def with_attention(self, linears: Mapping[str, nn.Module]) -> "FrozenBlock":
        """The same block with other modules in the place of its attention's `qkv` or `proj`."""
        ...


# timm's stochastic depth is left out of both kinds: a frozen backbone is always in evaluation mode.
@dataclass(frozen=True, eq=False)
class PlainBranches:
    """Branches of timm's `Block` (ViT, CLIP, DINOv2, SigLIP)."""

    block: Any
    merge: None = None

    def attend(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The attention branch, without the skip connection."""
        out: Tensor = self.block.ls1(self.block.attn(self.block.norm1(x)))
        return out

    def feed(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The feed-forward branch, without the skip connection."""
        out: Tensor = self.block.ls2(self.block.mlp(self.block.norm2(x)))
        return out

    def with_attention(self, linears: Mapping[str, nn.Module]) -> "PlainBranches":
        """The same block with other modules in its attention."""
        return replace(self, block=_with_attention(self.block, linears))


@dataclass(frozen=True, eq=False)
class EvaBranches:
    """Branches of timm's `EvaBlock` (EVA, DINOv3), bound to the rotary positions of one patch grid."""

    block: Any
    rope: Tensor | None
    merge: None = None

    def attend(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The attention branch, without the skip connection."""
        out: Tensor = self.block.attn(self.block.norm1(x), rope=self.rope)
        return out if self.block.gamma_1 is None else self.block.gamma_1 * out

    def feed(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The feed-forward branch, without the skip connection."""
        out: Tensor = self.block.mlp(self.block.norm2(x))
        return out if self.block.gamma_2 is None else self.block.gamma_2 * out

    def with_attention(self, linears: Mapping[str, nn.Module]) -> "EvaBranches":
        """The same block with other modules in its attention."""
        return replace(self, block=_with_attention(self.block, linears))


def open_blocks(blocks: nn.ModuleList, rope: Tensor | None) -> tuple[FrozenBlock, ...]:
    """Open timm's blocks into their branches.

    Args:
        blocks: Blocks of a model that `check_family` has passed.
        rope: Rotary positions of one patch grid, for families that have them: one table for all blocks, or
            one for each, (depth, heads, patches, 2 head_dim), where their frequencies were learned.
    """
    if not isinstance(blocks[0], EvaBlock):
        return tuple(PlainBranches(block) for block in blocks)
    tables = rope[: len(blocks)] if rope is not None and rope.ndim == 4 else [rope] * len(blocks)
    return tuple(EvaBranches(block, table) for block, table in zip(blocks, tables, strict=True))


def attention_linears(block: Any) -> dict[str, nn.Linear]:
    """The linear layers `qkv` and `proj` of a timm block's attention; empty where it does not call them as such."""
    attn = getattr(block, "attn", None)  # a backbone of another package may have blocks of another make
    # `EvaAttention` may keep the biases of q, k and v apart, and then reads the weight of `qkv` past its layer.
    apart = getattr(attn, "q_bias", None) is not None and not getattr(attn, "qkv_bias_separate", False)
    found = {name: getattr(attn, name, None) for name in ("qkv", "proj")}
    if apart or not all(isinstance(layer, nn.Linear) for layer in found.values()):
        return {}
    return {name: layer for name, layer in found.items() if layer is not None}


def _with_attention(block: Any, linears: Mapping[str, nn.Module]) -> Any:
    # Shallow copies: the frozen layers themselves, and what may lend them other weights, stay the same objects.
    attn = _shallow(block.attn, linears)
    return _shallow(block, {"attn": attn})


def _shallow(module: nn.Module, parts: Mapping[str, nn.Module]) -> nn.Module:
    made = copy.copy(module)
    made._modules = {**module._modules, **parts}
    return made


def check_family(model: Any, name: str) -> None:
    """Refuse a model that this contract cannot open.

    Raises:
        ExperimentError: Not a timm `VisionTransformer` or `Eva`, or one with unusual embedding or blocks.
    """
    if reason := _unusual(model):
        raise ExperimentError(
            f"backbone.name '{name}' {reason}; expected a timm VisionTransformer (ViT, CLIP, DINOv2, SigLIP) "
            "or Eva (DINOv3) with pre-norm blocks, for example 'vit_base_patch16_224.augreg_in21k'."
        )


def _unusual(model: Any) -> str:
    # The code that runs is compared rather than the class: a subclass may keep it, or bring its own.
    for family, block in ((VisionTransformer, Block), (Eva, EvaBlock)):
        if not isinstance(model, family):
            continue
        theirs: Any = type(model)
        if (theirs.forward_features, theirs._pos_embed) != (family.forward_features, family._pos_embed):
            return f"is a {theirs.__name__}, which makes its tokens in a way of its own"
        if others := {type(b).__name__ for b in model.blocks if type(b).forward is not block.forward}:
            return f"has blocks of class {', '.join(sorted(others))}, whose branches do not stand alone"
        if type(model.patch_embed) is not PatchEmbed or len(set(model.patch_embed.patch_size)) != 1:
            return f"makes patches by {type(model.patch_embed).__name__}, not by one square convolution"
        return ""
    return f"is a {type(model).__name__}"
