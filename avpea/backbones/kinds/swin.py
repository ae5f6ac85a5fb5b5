"""Swin V2 as a frozen transformer: attention in windows, no CLS token; width and patch grid change between stages.

Beyond the paper, whose backbones are plain ViTs; LAVISH's strongest backbone is Swin-V2-L. Tokens are a sequence, row
by row, as in a ViT, and each block knows their grid. At the start of a stage, `merge` joins four tokens into one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from avpea.backbones._base import Positions, TransformerOptions
from avpea.backbones._timm import TimmTransformer
from avpea.errors import ExperimentError

__all__ = ["Swin", "SwinBranches"]


@dataclass(frozen=True, eq=False)
class SwinBranches:
    """Branches of timm's `SwinTransformerV2Block` for tokens of one grid; Swin V2 is post-norm.

    Attributes:
        block: timm's block.
        grid: Rows and columns of the tokens.
        merge: Patch merging before the block; None within a stage.
    """

    block: Any
    grid: tuple[int, int]
    merge: Callable[[Tensor], Tensor] | None = None

    def attend(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The attention branch, LN(W-MSA(x)) or LN(SW-MSA(x))."""
        out: Tensor = self.block.norm1(self.block._attn(_on_grid(x, self.grid)).flatten(1, 2))
        return out

    def feed(self, x: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The feed-forward branch, LN(MLP(x))."""
        out: Tensor = self.block.norm2(self.block.mlp(x))
        return out

    def with_attention(self, linears: Mapping[str, nn.Module]) -> "SwinBranches":
        """Not possible: the attention uses the weight of `qkv` without calling the layer."""
        raise NotImplementedError("Swin V2's attention does not call its linear layers as such")


def _on_grid(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return x.reshape(x.shape[0], *grid, x.shape[-1])


@dataclass(frozen=True, eq=False)
class _Merge:
    downsample: Any
    grid: tuple[int, int]

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(_on_grid(x, self.grid)).flatten(1, 2)
        return out


class Swin(TimmTransformer):
    """A timm Swin V2, frozen.

    Args:
        model: A timm `SwinTransformerV2` with `strict_img_size` off.
        name: What the recipe calls it.
        depth: Number of blocks to use, up to one of the last stage, as the last norm has its width; 0 means all.
        image_size: Side of the square frames in pixels; 0 means the size that the model was made for.

    Raises:
        ExperimentError: `depth` is too small or too large.
    """

    num_prefix_tokens = 0
    has_cls = False

    def __init__(self, model: nn.Module, name: str, depth: int = 0, image_size: int = 0) -> None:
        super().__init__()
        swin: Any = model
        stages = list(swin.layers)
        blocks = [block for stage in stages for block in stage.blocks]
        least = len(blocks) - len(stages[-1].blocks) + 1
        if depth and not least <= depth <= len(blocks):
            raise ExperimentError(
                f"backbone.depth is {depth}, but '{name}' has {len(blocks)} blocks and its last norm serves the last "
                f"stage only; expected 0 (all) or {least} to {len(blocks)}."
            )
        self.name = name
        self.depth = depth or len(blocks)
        self.dims = tuple(int(block.dim) for block in blocks[: self.depth])
        self.dim = self.dims[-1]
        self.patch_size = int(swin.patch_embed.patch_size[0])
        self.image_size = image_size or int(swin.patch_embed.img_size[0])
        about = swin.pretrained_cfg or {}
        self.mean, self.std = tuple(about["mean"]), tuple(about["std"])
        self.patch_embed = swin.patch_embed
        self.downsamples = nn.ModuleList(stage.downsample for stage in stages)
        self.layers = nn.ModuleList(blocks[: self.depth])
        self.final_norm = swin.norm
        self._stage_of = [i for i, stage in enumerate(stages) for _ in stage.blocks][: self.depth]
        self.freeze()

    @classmethod
    def accepts(cls, model: nn.Module) -> bool:
        """A Swin V2 with timm's own forward pass."""
        theirs: Any = type(model)
        return isinstance(model, SwinTransformerV2) and theirs.forward_features is SwinTransformerV2.forward_features

    @classmethod
    def arguments(cls, options: TransformerOptions, shape: Any) -> dict[str, Any]:
        """Windows fit the grid of frames of `image_size`; images of other sizes are padded to whole windows."""
        if 0 < options.image_size < (patch := shape.patch_embed.patch_size[0]):
            raise ExperimentError(
                f"backbone.image_size is {options.image_size}, smaller than a patch of '{options.name}' "
                f"({patch}x{patch})."
            )
        return {"strict_img_size": False} | ({"img_size": options.image_size} if options.image_size else {})

    def embed(
        self, pixels: Float[Tensor, "images 3 height width"], positions: Positions = "grid"
    ) -> Float[Tensor, "images tokens dim"]:
        """Pixels to the tokens that enter the first block; pixels beyond whole patches are cropped.

        Raises:
            ExperimentError: The image is smaller than a patch, or `positions` is `sequence`.
        """
        self.require_positions(positions)
        rows, columns = self.grids(*pixels.shape[-2:])[0]
        pixels = pixels[..., : rows * self.patch_size, : columns * self.patch_size]
        tokens: Tensor = self.patch_embed(pixels.to(self.patch_embed.proj.weight.dtype)).flatten(1, 2)
        return tokens

    def require_positions(self, positions: Positions) -> None:
        """Refuse `sequence`.

        Raises:
            ExperimentError: It is asked for.
        """
        if positions == "sequence":
            raise ExperimentError(
                f"encoder.positions is 'sequence', but '{self.name}' has no sequence of learned positions; use 'grid'."
            )

    def blocks_for(self, height: int, width: int) -> tuple[SwinBranches, ...]:
        """The blocks for images of a size in pixels; the same objects for the same patch grid."""
        grids = self.grids(height, width)
        blocks: tuple[SwinBranches, ...] = self._keep(("blocks", grids[0]), lambda: self._open(grids))
        return blocks

    def _open(self, grids: tuple[tuple[int, int], ...]) -> tuple[SwinBranches, ...]:
        opened = []
        for index, (block, stage) in enumerate(zip(self.layers, self._stage_of, strict=True)):
            begins = index > 0 and stage != self._stage_of[index - 1]
            merge = _Merge(self.downsamples[stage], grids[index - 1]) if begins else None
            opened.append(SwinBranches(block, grids[index], merge))
        return tuple(opened)

    def grids(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Rows and columns of tokens in each block; each stage has half as many, rounded up.

        Raises:
            ExperimentError: The image is smaller than one patch.
        """
        rows, columns = self.grid(height, width)
        return tuple((-(-rows // 2**stage), -(-columns // 2**stage)) for stage in self._stage_of)


EXTENSION = Swin
