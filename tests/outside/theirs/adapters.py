"""Two adapters: one with an options class, one whose options are its constructor's keyword-only arguments."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avpea.adapters import Adapter, AdapterOptions
from avpea.options import require

__all__ = ["Convolution", "Pooled"]


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
