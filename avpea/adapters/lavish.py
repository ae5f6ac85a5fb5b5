"""The LAVISH adapter (Lin et al., CVPR 2023; public code GenjiB/LAVISH, adapters of its AVE and AVQA models)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea.adapters._bottleneck import GatedBottleneck, GatedOptions
from avpea.adapters._fused import in_own_types
from avpea.options import require, require_choice

__all__ = ["EXTENSION", "LAVISH", "LAVISHOptions"]

LatentInit = Literal["uniform", "zeros"]


@dataclass(frozen=True)
class LAVISHOptions(GatedOptions):
    """Options of LAVISH's adapter.

    Attributes:
        latents: Number of latent tokens (in LAVISH 2 for AVE, 16 for AVQA).
        groups: Groups of the bottleneck's linear maps.
        latent_init: Initial latents: `uniform` in [0, 1) (AVE) or `zeros` (AVQA).
        latent_gate: Whether a gate, which starts at 1, scales what the latents gather; one version of LAVISH's public
            code has it.
        batch_norm: Whether the bottleneck has BatchNorm (LAVISH: for AVE, but not in its script for AVQA).
    """

    latents: int = 2
    groups: int = 2
    latent_init: LatentInit = "uniform"
    latent_gate: bool = False
    batch_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("latents", "groups"):
            require(getattr(self, name) >= 1, f"adapter.{name} is {getattr(self, name)}; expected 1 or more.")


class LAVISH(GatedBottleneck):
    r"""Latents attend to the other stream, all tokens of this stream attend to the latents, then a bottleneck.

    With $T$ latents $L$, for tokens $X$ and the other stream's tokens $X'$:

    $$L' = L + \mathrm{Softmax}(L X'^T) X', \quad \hat X = X + g \, \mathrm{Softmax}(X L'^T) L'$$
    $$B = h \, f(\hat X)$$

    $f$ is AV-PEA's bottleneck with grouped linear maps. One stands beside the attention and one beside the
    feed-forward layer of each stream: four in a block, with $2 + TD + 6D + 2d + 2Dd / \mathrm{groups}$ parameters
    each. The 12 blocks of ViT-B have 3,843,168 (T = 2) or 4,359,264 (T = 16), the 24 of ViT-L 13,394,112 or
    14,770,368.

    Args:
        dim: Width of the tokens, D.
        reduction: D / d.
        latents: Number of latent tokens, T.
        groups: Groups of the linear maps.
        latent_init: Initial latents, `uniform` in [0, 1) or `zeros`.
        latent_gate: Whether a gate scales what the latents gather.
        batch_norm: Whether the bottleneck has BatchNorm.
        cross_modal: Whether to read the other stream; without, there are no latents and no g. LAVISH's own code then
            drops the ReLU too, this one keeps it.
        cross_gate_init: Where g starts.

    Raises:
        ExperimentError: `reduction` or `groups` does not divide a width, or latents cannot begin so.
    """

    Options = LAVISHOptions
    follows_dtype = True
    adds = True
    beside: ClassVar[tuple[Literal["attn", "mlp"], ...]] = ("attn", "mlp")

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 8,
        latents: int = 2,
        groups: int = 2,
        latent_init: LatentInit = "uniform",
        latent_gate: bool = False,
        batch_norm: bool = True,
        cross_modal: bool = True,
        cross_gate_init: float = 0.0,
    ) -> None:
        require_choice("latent_init", latent_init, LatentInit)
        super().__init__(
            dim,
            reduction=reduction,
            groups=groups,
            cross_modal=cross_modal,
            batch_norm=batch_norm,
            cross_gate_init=cross_gate_init,
        )
        made = torch.rand(latents, dim) if latent_init == "uniform" else torch.zeros(latents, dim)
        self.latents = nn.Parameter(made) if cross_modal else None
        self.latent_gate = nn.Parameter(torch.ones(())) if cross_modal and latent_gate else None

    @in_own_types
    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        other: Float[Tensor, "batch other_tokens dim"],
        onto: Float[Tensor, "batch tokens dim"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """B, the residual for `x`, added to `onto`."""
        if self.latents is None or self.cross_gate is None:
            return self.finish(self.project(x), onto)
        # Unscaled logits reach hundreds, where bfloat16 steps by whole units, so float32 or wider.
        wide = torch.promote_types(x.dtype, torch.float32)
        latents, theirs, mine = self.latents.to(wide), other.to(wide), x.to(wide)
        gathered = (latents @ theirs.transpose(1, 2)).softmax(dim=-1) @ theirs
        latents = latents + (gathered if self.latent_gate is None else self.latent_gate * gathered)
        heard = (mine @ latents.transpose(1, 2)).softmax(dim=-1) @ latents
        return self.finish(self.project(x + (self.cross_gate * heard).to(x.dtype)), onto)


EXTENSION = LAVISH
