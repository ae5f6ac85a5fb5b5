"""Frozen ViTs: any timm ViT behind one interface, `embed`, two-branch blocks, and `norm`.

    x = backbone.embed(pixels)
    for block in backbone.blocks_for(height, width):
        x = x + block.attend(x)
        x = x + block.feed(x)
    x = backbone.norm(x)

is timm's `forward_features`, for plain ViTs, CLIP towers (`norm_pre`), DINOv2 (LayerScale), SigLIP (no CLS
token) and DINOv3 (class `Eva`, rotary positions, registers), with room for adapters beside the branches.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.config import use_fused_attn
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from avpea.backbones._base import Positions, TransformerOptions
from avpea.backbones._timm import TimmTransformer
from avpea.backbones.families import FrozenBlock, check_family, open_blocks
from avpea.backbones.kinds.cnn import CNN
from avpea.backbones.kinds.swin import Swin
from avpea.backbones.starter import STARTER_TIMM_NAME
from avpea.errors import ExperimentError

__all__ = ["Backbone"]


class Backbone(TimmTransformer):
    """A timm ViT, frozen; classifier, pooling and blocks beyond `depth` of the timm model are dropped.

    Args:
        model: A timm `VisionTransformer` or `Eva` with standard blocks.
        name: What the recipe calls it.
        depth: Number of blocks to use, counted from the first; 0 means all.
        image_size: Side of the square frames in pixels; 0 means the size that the weights were made for.

    Attributes:
        native_grid: Rows and columns of patches that the position embeddings were made for.

    Raises:
        ExperimentError: The model is of another family, or has fewer blocks than `depth`.
    """

    def __init__(self, model: nn.Module, name: str, depth: int = 0, image_size: int = 0) -> None:
        super().__init__()
        vit: Any = model
        check_family(vit, name)
        if depth > len(vit.blocks):
            raise ExperimentError(f"backbone.depth is {depth}, but '{name}' has {len(vit.blocks)} blocks; 0 takes all.")
        self.name = name
        self.dim = int(vit.embed_dim)
        self.depth = depth or len(vit.blocks)
        self.dims = (self.dim,) * self.depth
        self.num_prefix_tokens = int(vit.num_prefix_tokens)
        self.has_cls = vit.cls_token is not None
        self.patch_size = int(vit.patch_embed.patch_size[0])
        self.native_grid: tuple[int, int] = vit.patch_embed.grid_size
        self.image_size = image_size or int(vit.patch_embed.img_size[0])
        about = getattr(vit, "pretrained_cfg", None) or {}  # without, ImageNet's statistics, as in timm
        self.mean: tuple[float, float, float] = about.get("mean", IMAGENET_DEFAULT_MEAN)
        self.std: tuple[float, float, float] = about.get("std", IMAGENET_DEFAULT_STD)

        self.patch_embed = vit.patch_embed
        self.cls_token, self.reg_token, self.pos_embed = vit.cls_token, vit.reg_token, vit.pos_embed
        self.no_embed_class = bool(vit.no_embed_class)
        self.norm_pre = vit.norm_pre
        self.rope = getattr(vit, "rope", None)
        self.layers = nn.ModuleList(list(vit.blocks)[: self.depth])
        self.final_norm = vit.norm
        self._own_table: tuple[Tensor | None] = (self.pos_embed,)  # in a tuple, so that it is no second parameter
        self.freeze()

    @classmethod
    def accepts(cls, model: nn.Module) -> bool:
        """Everything except Swin V2 and CNNs; if it is no ViT either, `arguments` raises the error with the reason."""
        return not Swin.accepts(model) and not CNN.accepts(model)

    @classmethod
    def arguments(cls, options: TransformerOptions, shape: Any) -> dict[str, Any]:
        """With `dynamic_img_size`, rotary positions can be computed for any patch grid."""
        check_family(shape, STARTER_TIMM_NAME if options.name == "starter" else options.name)
        return {"dynamic_img_size": True}

    def _apply(self, fn: Any, recurse: bool = True) -> "Backbone":
        """Move or cast the weights, and choose the attention kernel for their new device and type."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._own_table = (self.pos_embed,)
        device, dtype = self._placement()
        # In bfloat16 on a CPU, plain matrix products make a forward and backward pass through the blocks 1.5
        # times (ViT-S, 37 tokens) and 1.2 times (ViT-B, 197) as fast as PyTorch's fused attention, whose
        # backward pass is slow there (docs/log.md); in float32 the fused one is faster.
        slow = device.type == "cpu" and dtype == torch.bfloat16
        layers: Any = self.layers
        for layer in layers:
            layer.attn.fused_attn = use_fused_attn() and not slow
        return self

    def grids(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Rows and columns of patches, the same in each block."""
        return (self.grid(height, width),) * self.depth

    def embed(
        self, pixels: Float[Tensor, "images 3 height width"], positions: Positions = "grid"
    ) -> Float[Tensor, "images tokens dim"]:
        """Pixels to the tokens that enter the first block.

        Args:
            pixels: Normalised images of any size; cast to the type of the weights.
            positions: How position embeddings are resampled to another patch grid. `grid`: in two dimensions (timm's
                antialiased bicubic). `sequence`: linearly along the whole sequence, CLS included, as LAVISH does for
                audio (102x128 pixels: 48 patches of 16, and CLS).

        Raises:
            ExperimentError: The image is smaller than a patch, or `positions` is `sequence` and the model has no
                learned positions of CLS and patches.
        """
        rows, columns = self.grid(*pixels.shape[-2:])
        pixels = pixels[..., : rows * self.patch_size, : columns * self.patch_size]
        patches = self.patch_embed.proj(pixels.to(self.patch_embed.proj.weight.dtype))
        x: Tensor = self.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        table = self._positions((rows, columns), positions)
        if table is not None and self.no_embed_class:
            x = x + table
        prefix = [t.expand(x.shape[0], -1, -1) for t in (self.cls_token, self.reg_token) if t is not None]
        x = torch.cat([*prefix, x], dim=1) if prefix else x
        if table is not None and not self.no_embed_class:
            x = x + table
        tokens: Tensor = self.norm_pre(x)
        return tokens

    def blocks_for(self, height: int, width: int) -> tuple[FrozenBlock, ...]:
        """The blocks for images of a size in pixels; the same objects whenever the same layers run.

        Only rotary positions (`Eva`) depend on the size: each patch grid has its own blocks with the same weights.
        """
        grid = self.grid(height, width)
        where = (grid, *self._placement()) if self.rope is not None else ()
        blocks: tuple[FrozenBlock, ...] = self._keep(
            ("blocks", *where), lambda: open_blocks(self.layers, self._rope(grid))
        )
        return blocks

    def _rope(self, grid: tuple[int, int]) -> Tensor | None:
        if self.rope is None:
            return None
        rope: Tensor = self.rope.get_embed(shape=grid)
        if rope.shape[-2] != grid[0] * grid[1]:
            raise ExperimentError(
                f"The rotary positions of '{self.name}' are fixed to {self.native_grid} patches and cannot "
                f"serve {grid}; create the timm model with dynamic_img_size=True."
            )
        return rope

    def _positions(self, grid: tuple[int, int], positions: Positions) -> Tensor | None:
        self.require_positions(positions)
        table: Tensor | None = self.pos_embed
        if table is None or grid == self.native_grid:
            return table
        resample = self._resample_sequence if positions == "sequence" else self._resample_grid
        if table.requires_grad or table is not self._own_table[0]:
            return resample(table, grid)  # it is trained, or a trained copy, and so changes in each step
        resampled: Tensor = self._keep((positions, grid, *self._placement()), lambda: resample(table, grid))
        return resampled

    def require_positions(self, positions: Positions) -> None:
        """Refuse `sequence` without a learned position for CLS and one for each patch.

        Raises:
            ExperimentError: There are none.
        """
        if positions != "sequence":
            return
        sequence = self.pos_embed is not None and self.has_cls and not self.no_embed_class
        if not sequence or self.rope is not None or self.num_prefix_tokens != 1:
            raise ExperimentError(
                "encoder.positions is 'sequence', which interpolates one learned position for CLS and one for "
                f"each patch, but '{self.name}' has no such sequence; use 'grid'."
            )

    def _resample_grid(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        resampled: Tensor = resample_abs_pos_embed(table, list(grid), list(self.native_grid), prefix)
        return resampled

    def _resample_sequence(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        tokens = grid[0] * grid[1] + 1
        line = F.interpolate(table.float().transpose(1, 2), size=tokens, mode="linear", align_corners=False)
        return line.transpose(1, 2).to(table.dtype)
