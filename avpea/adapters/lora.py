"""Low-rank adaptation, LoRA (Hu et al., ICLR 2022), as the library PEFT computes and initialises it."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avpea.adapters._base import LinearAdapter
from avpea.options import require
from avpea.sections import AdapterOptions

__all__ = ["EXTENSION", "LoRA", "LoRAOptions"]


@dataclass(frozen=True)
class LoRAOptions(AdapterOptions):
    """Options of LoRA.

    Attributes:
        rank: r.
        alpha: Scales the update by alpha / r; 0 means r.
    """

    rank: int = 8
    alpha: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rank >= 1, f"adapter.rank is {self.rank}; expected 1 or more.")
        require(self.alpha >= 0, f"adapter.alpha is {self.alpha}; expected 0 or more.")


class LoRA(LinearAdapter):
    r"""$W x + \frac{\alpha}{r} B A x$ in the attention's `qkv` and `proj`, in each stream by itself.

    A starts as PEFT's does, uniform as PyTorch draws a linear layer's weight (Kaiming with $a = \sqrt 5$), and B
    at zero. $r (in + out)$ parameters a layer.

    Args:
        in_features: Of the frozen layer.
        out_features: Of the frozen layer.
        rank: r.
        alpha: $\alpha$; 0 means $\alpha = r$.
    """

    Options = LoRAOptions

    def __init__(self, in_features: int, out_features: int, *, rank: int = 8, alpha: float = 0.0) -> None:
        super().__init__(in_features, out_features)
        self.down = nn.Parameter(torch.empty(rank, in_features))  # A
        self.up = nn.Parameter(torch.zeros(out_features, rank))  # B
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.scaling = (alpha or rank) / rank

    def forward(self, x: Float[Tensor, "*rows in_features"]) -> Float[Tensor, "*rows out_features"]:
        """(α / r) B A x."""
        return F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype)) * self.scaling


EXTENSION = LoRA
