"""The base classes of adapters, the trained part of an otherwise frozen transformer; there are four kinds."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Adapter", "LinearAdapter", "SideNetwork", "Trained", "Tuning"]


class Trained(nn.Module, ABC):
    """A trained module of an encoder. Checkpoints hold all modules of this type, whatever their names.

    A file in `avpea/adapters/` with one subclass of `Adapter`, `LinearAdapter`, `Tuning` or `SideNetwork` is an
    adapter: recipes can name it, its parameters are counted, and the contract tests cover it. Its options are the
    fields of its `Options`, a subclass of `AdapterOptions`, or else the keyword-only arguments of its constructor.
    Either way the constructor gets them by name.
    """

    # Whether the module holds trained copies of the backbone's own weights.
    copies_weights: ClassVar[bool] = False
    # Whether `forward` itself computes in the type of the tokens, which is bfloat16 on many machines, with its weights
    # in float32. Otherwise it gets the tokens in the type of its weights, so that plain layers work. A subclass has to
    # say so again, since layers that it adds may not.
    follows_dtype: ClassVar[bool] = False
    # Whether `forward` takes what the residual is added to as a third argument, which spares a pass over the tokens. A
    # subclass has to say so again, since its own `forward` may not.
    adds: ClassVar[bool] = False
    # Names of the parameters, in it or in its parts, that scale what it reads from the other stream, for
    # `train.gate_learning_rate`.
    exchange_gates: ClassVar[tuple[str, ...]] = ()
    # Their learning rate over that of the adapters' other parameters, where `train.gate_learning_rate` is 0.
    gate_rate: ClassVar[float] = 1.0

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.follows_dtype = bool(vars(cls).get("follows_dtype", False))
        cls.adds = bool(vars(cls).get("adds", False))

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        """Call the module; unless it `follows_dtype`, inputs are cast to the type of its weights, and answers back."""
        call = super().__call__
        if self.follows_dtype:
            return call(*inputs, **more)
        given = next((one.dtype for one in _flat((*inputs, *more.values())) if _is_float(one)), None)
        own = next((weight.dtype for weight in self.parameters() if _is_float(weight)), given)
        if given is None or own == given:
            return call(*inputs, **more)
        answer = call(*(_cast(one, own) for one in inputs), **{name: _cast(one, own) for name, one in more.items()})
        return tuple(_cast(one, given) for one in answer) if type(answer) is tuple else _cast(answer, given)

    def folded(self) -> Self:
        """The same for inference, with constants computed beforehand; itself, unless a subclass has any.

        The answers are the same to rounding. It shares weights and buffers, and computes its constants anew where these
        were changed in place; what goes by `.data` or puts another tensor in their place is not seen. Training it,
        moving it and loading weights give its constants up, and they are used only in evaluation mode where no
        gradients are wanted.
        """
        return self

    def gates(self) -> dict[str, float]:
        """Its scalar parameters, which multiply what the adapter adds or what it reads from the other stream."""
        return {name: float(p.detach()) for name, p in self.named_parameters() if p.dim() == 0}


class Adapter(Trained):
    """An adapter beside a frozen branch of one stream: reads the tokens of both streams and returns a residual.

    Attributes:
        beside: The branches of a block that get one: the attention, the feed-forward layer, or both.
        reads: `input`: the tokens that enter the branch (parallel, as in AV-PEA and LAVISH); `output`: the output of
            the branch (sequential, as in Houlsby's adapter).
        cross_modal: Whether its residual depends on the other stream.
        attends: Whether it has `attention_map(x, other)`, the attention of its CLS token (or of each of its tokens)
            over the other stream.
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
        """The residual for the tokens `x` of its own stream, given the tokens of the `other` stream."""


class LinearAdapter(Trained):
    """An adapter of a frozen linear layer: reads the layer's input and adds to its output.

    Attributes:
        inside: The linear layers of a block's attention that get one, separately in each stream.
    """

    inside: ClassVar[tuple[Literal["qkv", "proj"], ...]] = ("qkv", "proj")

    @abstractmethod
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Float[Tensor, "*rows in_features"]) -> Float[Tensor, "*rows out_features"]:
        """The summand for the frozen layer's output."""


class Tuning(Trained):
    """Trained copies of some weights of the backbone, used by both streams.

    The frozen weights stay as they were loaded. The copies are in float32 or wider, whatever the type of the frozen
    weights, and are cast when the transformer uses them.

    Args:
        frozen: The backbone's weights by name; those for which `tunes` is true are copied.
    """

    copies_weights = True

    def __init__(self, frozen: Mapping[str, Tensor]) -> None:
        super().__init__()
        chosen = {name: weight for name, weight in frozen.items() if self.tunes(name)}
        # Names in a ParameterDict must not have dots.
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


class SideNetwork(Trained):
    """A network of its own beside the frozen one: reads tokens from between its blocks, and adds to its last tokens.

    No gradient flows through the frozen network, which is run without one.

    Attributes:
        cross_modal: Whether what it adds to a stream depends on the other stream.
    """

    cross_modal: bool = False

    @abstractmethod
    def __init__(self, dim: int, blocks: int, streams: Literal["both", "audio", "visual"]) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self,
        visual: Sequence[Float[Tensor, "images visual_tokens dim"]],
        audio: Sequence[Float[Tensor, "images audio_tokens dim"]],
    ) -> tuple[Float[Tensor, "images visual_tokens dim"] | None, Float[Tensor, "images audio_tokens dim"] | None]:
        """What is added to each stream's tokens after the last norm; None for nothing.

        Args:
            visual: The tokens that enter the first block, and those after each of the chosen blocks; those after the
                last block may follow.
            audio: The same of the sound.
        """


def _cast(value: Any, dtype: torch.dtype | None) -> Any:
    """A tensor of floats, or each in a list, in another type; everything else is returned as it is."""
    if isinstance(value, list | tuple):
        return [_cast(one, dtype) for one in value]
    return value.to(dtype) if _is_float(value) else value


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield from _flat(value) if isinstance(value, list | tuple) else (value,)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _wide_copy(weight: Tensor) -> Tensor:
    return weight.detach().clone().to(torch.promote_types(weight.dtype, torch.float32))
