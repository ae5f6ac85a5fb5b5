"""Low-rank adaptation, LoRA (Hu et al., ICLR 2022), computed and initialised as in the library PEFT."""

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
        rank: Rank r of the update.
        alpha: The update is scaled by alpha / r; 0 means alpha = r.
    """

    rank: int = 8
    alpha: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rank >= 1, f"adapter.rank is {self.rank}; expected 1 or more.")
        require(self.alpha >= 0, f"adapter.alpha is {self.alpha}; expected 0 or more.")


class LoRA(LinearAdapter):
    r"""$W x + \frac{\alpha}{r} B A x$ in the attention's `qkv` and `proj`, separate for each stream.

    As in PEFT, A starts uniform like the weight of a PyTorch linear layer (Kaiming with $a = \sqrt 5$), and B at
    zero. A layer gets $r (in + out)$ parameters.

    Args:
        in_features: Input width of the frozen layer.
        out_features: Output width of the frozen layer.
        rank: Rank r of the update.
        alpha: Scale $\alpha$; 0 means $\alpha = r$.
    """

    Options = LoRAOptions
    follows_dtype = True

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
