"""The plain bottleneck adapter (Houlsby et al., ICML 2019), separate for each stream."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avpea.adapters._base import Adapter
from avpea.adapters._bottleneck import BottleneckOptions, narrow_width

__all__ = ["Bottleneck"]


class Bottleneck(Adapter):
    r"""$B = U \, \mathrm{GELU}(W S + b) + c$ for the output $S$ of a frozen branch; the other stream is not read.

    One follows the attention and one the feed-forward layer of each stream, before the skip connection is added: four
    in a block, with $2Dd + d + D$ parameters each. U and c start at zero (Houlsby draws U from a narrow normal
    distribution), so a new adapter changes nothing; LayerNorms stay frozen.

    Args:
        dim: Width of the tokens, D.
        reduction: D / d.

    Raises:
        ExperimentError: `reduction` does not divide `dim`.
    """

    Options = BottleneckOptions
    follows_dtype = True
    beside: ClassVar[tuple[Literal["attn", "mlp"], ...]] = ("attn", "mlp")
    reads: ClassVar[Literal["input", "output"]] = "output"

    def __init__(self, dim: int, *, reduction: int = 8) -> None:
        super().__init__(dim)
        self.down = nn.Linear(dim, narrow_width(dim, reduction))
        self.up = nn.Linear(dim // reduction, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """B for the output `x` of the branch; `other` is not read."""
        hidden = F.gelu(F.linear(x, self.down.weight.to(x.dtype), self.down.bias.to(x.dtype)))
        return F.linear(hidden, self.up.weight.to(x.dtype), self.up.bias.to(x.dtype))
