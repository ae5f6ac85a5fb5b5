"""An adapter: every token hears the mean of the other stream, through a narrow layer and a gate."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpea.adapters import Adapter, AdapterOptions
from avpea.options import require


@dataclass(frozen=True)
class MeanExchangeOptions(AdapterOptions):
    """Options of the mean exchange.

    Attributes:
        width: Width of the narrow layer.
    """

    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width >= 1, f"adapter.width is {self.width}; expected 1 or more.")


class MeanExchange(Adapter):
    """x + g * U ReLU(D mean(x')), where x' are the tokens of the other stream. The gate g starts at zero."""

    Options = MeanExchangeOptions
    cross_modal = True

    def __init__(self, dim: int, *, width: int = 16) -> None:
        super().__init__(dim)
        self.down = nn.Linear(dim, width, bias=False)
        self.up = nn.Linear(width, dim, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        heard = self.up(F.relu(self.down(other.mean(dim=1, keepdim=True))))
        return (self.gate * heard).expand_as(x)
