"""The blocks of timm's ViT families, each split into its two residual branches."""

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
        merge: Applied to the tokens before the block (Swin V2's patch merging at the start of a stage), or None.
    """

    @property
    def merge(self) -> Callable[[Tensor], Tensor] | None:
        """Patch merging before the block, or None."""
        ...

    def attend(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The attention branch, MSA(LN(x)) with its LayerScale."""
        ...

    def feed(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The feed-forward branch, MLP(LN(x)) with its LayerScale."""
        ...

    def with_attention(self, linears: Mapping[str, nn.Module]) -> "FrozenBlock":
        """The same block with other modules in place of its attention's `qkv` or `proj`."""
        ...


# timm's stochastic depth is left out, as a frozen backbone is always in evaluation mode.
@dataclass(frozen=True, eq=False)
class PlainBranches:
    """Branches of timm's `Block` (ViT, CLIP, DINOv2, SigLIP)."""

    block: Any
    merge: None = None

    def attend(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The attention branch, without the skip connection."""
        out: Tensor = self.block.ls1(self.block.attn(self.block.norm1(x)))
        return out

    def attend_with_keys(
        self, x: Float[Tensor, "images tokens dim"], bias: Float[Tensor, "images 1 1 tokens"] | None
    ) -> tuple[Float[Tensor, "images tokens dim"], Float[Tensor, "images tokens head_dim"]]:
        """What `attend` gives with `bias` added to the attention's logits, and the keys, the mean of all heads."""
        keys: list[Tensor] = []
        attn = _shallow(self.block.attn, {"k_norm": _Told(self.block.attn.k_norm, keys)})
        out: Tensor = self.block.ls1(attn(self.block.norm1(x), attn_mask=bias))
        return out, keys[0].mean(dim=1)

    def feed(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The feed-forward branch, without the skip connection."""
        out: Tensor = self.block.ls2(self.block.mlp(self.block.norm2(x)))
        return out

    def with_attention(self, linears: Mapping[str, nn.Module]) -> "PlainBranches":
        """The same block with other modules in its attention."""
        return replace(self, block=_with_attention(self.block, linears))


@dataclass(frozen=True, eq=False)
class EvaBranches:
    """Branches of timm's `EvaBlock` (EVA, DINOv3), with the rotary positions of one patch grid."""

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
    """Split timm's blocks into their branches.

    Args:
        blocks: Blocks of a model that passed `check_family`.
        rope: Rotary positions of one patch grid, for families that have them: one table for all blocks or, if their
            frequencies were learned, one per block (depth, heads, patches, 2 head_dim).
    """
    if not isinstance(blocks[0], EvaBlock):
        return tuple(PlainBranches(block) for block in blocks)
    tables = rope[: len(blocks)] if rope is not None and rope.ndim == 4 else [rope] * len(blocks)
    return tuple(EvaBranches(block, table) for block, table in zip(blocks, tables, strict=True))


def attention_linears(block: Any) -> dict[str, nn.Linear]:
    """The linear layers `qkv` and `proj` of a timm block's attention; empty if it does not call them as modules."""
    attn = getattr(block, "attn", None)  # blocks of another package's backbone may have no such attribute
    # `EvaAttention` may have separate biases for q, k and v, and then uses the weight of `qkv` without calling it.
    apart = getattr(attn, "q_bias", None) is not None and not getattr(attn, "qkv_bias_separate", False)
    found = {name: getattr(attn, name, None) for name in ("qkv", "proj")}
    if apart or not all(isinstance(layer, nn.Linear) for layer in found.values()):
        return {}
    return {name: layer for name, layer in found.items() if layer is not None}


class _Told(nn.Module):
    """A layer whose answers are put into a list."""

    def __init__(self, layer: nn.Module, answers: list[Tensor]) -> None:
        super().__init__()
        self.layer, self.answers = layer, answers

    def forward(self, x: Tensor) -> Tensor:
        self.answers.append(self.layer(x))
        return self.answers[-1]


def _with_attention(block: Any, linears: Mapping[str, nn.Module]) -> Any:
    # Shallow copies: the frozen layers stay the same objects, so `encoders._parts.lend` still replaces their weights.
    attn = _shallow(block.attn, linears)
    return _shallow(block, {"attn": attn})


def _shallow(module: nn.Module, parts: Mapping[str, nn.Module]) -> nn.Module:
    made = copy.copy(module)
    made._modules = {**module._modules, **parts}
    return made


def check_family(model: Any, name: str) -> None:
    """Refuse a model whose blocks cannot be split into branches.

    Raises:
        ExperimentError: It is no timm `VisionTransformer` or `Eva`, or has an unusual embedding or blocks.
    """
    if reason := _unusual(model):
        raise ExperimentError(
            f"backbone.name '{name}' {reason}; expected a timm VisionTransformer (ViT, CLIP, DINOv2, SigLIP) "
            "or Eva (DINOv3) with pre-norm blocks, for example 'vit_base_patch16_224.augreg_in21k'."
        )


def _unusual(model: Any) -> str:
    # Methods are compared and not classes, as a subclass may keep or override them.
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
