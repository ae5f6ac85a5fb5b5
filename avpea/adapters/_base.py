"""What every adapter is: a module that reads its own stream and the other one, and answers with a residual."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Adapter"]


class Adapter(nn.Module, ABC):
    """A small trained module beside a frozen branch of one stream.

    A file in `avpea/adapters/` with one subclass is at once listed, loadable from a recipe, counted and put
    through the contract tests. Adapters are found by this type, never by a name.

    Attributes:
        beside: The frozen branches of a block that this adapter stands beside.
    """

    beside: ClassVar[tuple[Literal["attn", "mlp"], ...]] = ("attn",)

    @abstractmethod
    def __init__(self, dim: int, *, reduction: int, scaled_attention: bool, has_cls: bool) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """The residual for the stream `x`, which may depend on the tokens of the `other` stream."""
