"""What every adapter is: the trained part of an otherwise frozen transformer, of one of three kinds."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Adapter", "LinearAdapter", "Trained", "Tuning"]


class Trained(nn.Module, ABC):
    """What trains in the encoder; checkpoints hold modules of this type, found by it and never by a name.

    A file in `avpea/adapters/` with one subclass of `Adapter`, `LinearAdapter` or `Tuning` is at once listed,
    loadable from a recipe, counted and put through the contract tests. Its options are the
    fields of its `Options`, a subclass of `AdapterOptions`; where it declares none, they are its constructor's
    keyword-only arguments. Either way they reach the constructor by name.
    """

    # Whether it trains copies of the backbone's own weights.
    copies_weights: ClassVar[bool] = False

    def gates(self) -> dict[str, float]:
        """Its scalar parameters. They start at zero and multiply what the adapter adds, so a new one adds nothing."""
        return {name: float(p.detach()) for name, p in self.named_parameters() if p.dim() == 0}


class Adapter(Trained):
    """Beside a frozen branch of one stream: reads its own stream and the other one, answers with a residual.

    Attributes:
        beside: The frozen branches of a block that this adapter stands beside.
        reads: `input`: the tokens that enter the branch, as AV-PEA and LAVISH do (parallel); `output`: what the
            branch answers, as Houlsby's adapter does (sequential).
        cross_modal: Whether its answer depends on the other stream.
        attends: Whether it has `attention_map(x, other)`: where its CLS token looks in the other stream.
    """

    beside: ClassVar[tuple[Literal["attn", "mlp"], ...]] = ("attn",)
    reads: ClassVar[Literal["input", "output"]] = "input"
    cross_modal: bool = False
    attends: bool = False

    @abstractmethod
    def __init__(self, dim: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """The residual for the stream `x`, which may depend on the tokens of the `other` stream."""


class LinearAdapter(Trained):
    """Inside a frozen branch: reads what a frozen linear layer reads, and adds to what it answers.

    Attributes:
        inside: The frozen linear layers of a block's attention that get one, in each stream its own.
    """

    inside: ClassVar[tuple[Literal["qkv", "proj"], ...]] = ("qkv", "proj")

    @abstractmethod
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Float[Tensor, "*rows in_features"]) -> Float[Tensor, "*rows out_features"]:
        """What is added to the frozen layer's answer."""


class Tuning(Trained):
    """Trained copies of some of the backbone's own weights, shared by both streams as the backbone is.

    The frozen weights stay as they were loaded. The copies are float32 at least, whatever the frozen weights' type, and
    are cast on the way into the transformer.

    Args:
        frozen: The backbone's weights by name; those that `tunes` says yes to are copied.
    """

    copies_weights = True

    def __init__(self, frozen: Mapping[str, Tensor]) -> None:
        super().__init__()
        chosen = {name: weight for name, weight in frozen.items() if self.tunes(name)}
        # A dot would be a path of modules.
        self.weights = nn.ParameterDict(
            {name.replace(".", "__"): nn.Parameter(_wide_copy(weight)) for name, weight in chosen.items()}
        )

    @classmethod
    @abstractmethod
    def tunes(cls, name: str) -> bool:
        """Whether the backbone's weight of this name (`layers.3.norm1.weight`) is trained."""

    def by_name(self) -> dict[str, Tensor]:
        """The trained copies under the backbone's names."""
        return {name.replace("__", "."): weight for name, weight in self.weights.items()}


def _wide_copy(weight: Tensor) -> Tensor:
    return weight.detach().clone().to(torch.promote_types(weight.dtype, torch.float32))
