"""Adapters: one with an options class, two whose options are their constructors' keyword-only arguments."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avpea.adapters import Adapter, AdapterOptions
from avpea.options import require

__all__ = ["Convolution", "PlainLayers", "Pooled"]


@dataclass(frozen=True)
class ConvolutionOptions(AdapterOptions):
    """Options of the convolution.

    Attributes:
        kernel: Tokens that it spans.
    """

    kernel: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.kernel % 2 == 1, f"adapter.kernel is {self.kernel}; expected an odd number.")


class Convolution(Adapter):
    """A gated depthwise convolution over the tokens of one stream."""

    Options = ConvolutionOptions

    def __init__(self, dim: int, *, kernel: int = 3) -> None:
        super().__init__(dim)
        self.convolution = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """The residual."""
        weight, bias = self.convolution.weight.to(x.dtype), self.convolution.bias
        assert bias is not None
        padding, groups = self.convolution.padding, self.convolution.groups
        mixed = nn.functional.conv1d(x.transpose(1, 2), weight, bias.to(x.dtype), padding=padding, groups=groups)
        return self.gate.to(x.dtype) * mixed.transpose(1, 2)


class PlainLayers(Adapter):
    """A narrow layer over each token and the other stream's mean, written as for float32 alone."""

    cross_modal = True

    def __init__(self, dim: int, *, reduction: int = 4, dropout_rate: float = 0.1) -> None:
        super().__init__(dim)
        self.down, self.up = nn.Linear(dim, dim // reduction), nn.Linear(dim // reduction, dim)
        self.mix = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout_rate)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """The residual."""
        answer: Tensor = self.up(torch.relu(self.down(self.dropout(x + self.mix * other.mean(dim=1, keepdim=True)))))
        return answer


class Pooled(Adapter):
    """Adds a share of the other stream's mean."""

    cross_modal = True

    def __init__(self, dim: int, *, scale: float = 1.0) -> None:
        super().__init__(dim)
        self.gate = nn.Parameter(torch.zeros(dim))
        self.scale = scale

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """The residual."""
        return (self.scale * self.gate).to(x.dtype) * other.mean(dim=1, keepdim=True).expand_as(x)
