"""The bottleneck that AV-PEA and LAVISH share: LayerNorm, down, BatchNorm, ReLU, up, BatchNorm, LayerNorm, gate."""

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea.adapters._base import Adapter
from avpea.adapters._fused import Folded, linear_norm, norm_linear
from avpea.batch_norm import moments_of_all, move, norm_of_all
from avpea.errors import ExperimentError
from avpea.options import require
from avpea.sections import AdapterOptions, Blocks

__all__ = ["BottleneckOptions", "GatedBottleneck", "GatedOptions", "narrow_width"]


@dataclass(frozen=True)
class BottleneckOptions(AdapterOptions):
    """Options of adapters with a bottleneck.

    Attributes:
        reduction: Width of the tokens over width of the bottleneck, D / d (8 in the papers of AV-PEA and LAVISH).
    """

    reduction: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.reduction >= 1, f"adapter.reduction is {self.reduction}; expected 1 or more.")


@dataclass(frozen=True)
class GatedOptions(BottleneckOptions):
    """Options that AV-PEA and LAVISH share.

    Attributes:
        cross_modal: Whether the adapter reads the other stream; without, it is a bottleneck on its own stream.
        cross_gate_init: Where the gate g of what is read from the other stream starts (0 in both papers).
        exchange_blocks: Indices of the transformer blocks whose adapters read the other stream, as for `blocks`; empty
            means all. In the other blocks an adapter is a bottleneck on its own stream, without g.
    """

    cross_modal: bool = True
    cross_gate_init: float = 0.0
    exchange_blocks: Blocks = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_exchange("cross_gate_init", "exchange_blocks")
        chosen, among = self.exchange_blocks, self.blocks
        alike = len({index < 0 for index in (*chosen, *among)}) < 2  # otherwise known once the depth is: `resolved`
        without = [block for block in chosen if among and alike and block not in among]
        require(
            not without,
            f"adapter.exchange_blocks names {without}, but adapter.blocks gives adapters to {list(among)} only; "
            "expected some of these.",
        )

    def require_exchange(self, *names: str) -> None:
        """Refuse options of the exchange where there is none.

        Raises:
            ExperimentError: One is not at its default, and the adapter does not read the other stream.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            shown = list(value) if isinstance(value, tuple) else value
            require(
                self.cross_modal or field.name not in names or value == field.default,
                f"adapter.{field.name} is {shown!r}, but adapter.cross_modal is false, so nothing is read from the "
                "other stream; leave either out.",
            )

    def in_blocks(self) -> dict[str, tuple[int, ...]]:
        """See `AdapterOptions`."""
        return {**super().in_blocks(), "exchange_blocks": self.exchange_blocks}

    def arguments(self, block: int) -> dict[str, Any]:
        """See `AdapterOptions`; for indices that are `resolved`.

        `exchange_blocks` decides whether the adapter of this block is `cross_modal`.
        """
        own = super().arguments(block)
        chosen = own.pop("exchange_blocks")
        return {**own, "cross_modal": self.cross_modal and (not chosen or block in chosen)}


def narrow_width(dim: int, reduction: int) -> int:
    """D / reduction.

    Raises:
        ExperimentError: `reduction` does not divide `dim`.
    """
    if dim % reduction:
        raise ExperimentError(
            f"adapter.reduction is {reduction}, which does not divide the backbone's width {dim}; "
            f"choose a divisor, for example {math.gcd(dim, 8)}."
        )
    return dim // reduction


class GatedBottleneck(Adapter):
    """The layers of the bottleneck and the two halves of their forward pass, `project` and `finish`.

    The linear maps have no bias (the papers have 1x1 convolutions). The output gate starts at zero, so a new adapter
    changes nothing.

    Args:
        dim: Width of the tokens, D.
        reduction: D / d, where d is the width of the bottleneck.
        groups: Groups of both linear maps.
        cross_modal: Whether there is a gate g for what is read from the other stream.
        batch_norm: Whether BatchNorm follows each linear map.
        cross_gate_init: Where g starts.

    Raises:
        ExperimentError: `reduction` does not divide D, or `groups` does not divide d.
    """

    exchange_gates: ClassVar[tuple[str, ...]] = ("cross_gate",)
    _fold: Folded | None = None
    _fold_of: tuple[tuple[Tensor, ...], list[int]] = ((), [])  # the weights, and torch's counts of changes in place

    def __init__(
        self,
        dim: int,
        *,
        reduction: int,
        groups: int = 1,
        cross_modal: bool = True,
        batch_norm: bool = True,
        cross_gate_init: float = 0.0,
    ) -> None:
        super().__init__(dim)
        self.cross_modal = cross_modal
        narrow = narrow_width(dim, reduction)
        if narrow % groups:
            raise ExperimentError(f"adapter.groups is {groups}, which does not divide the bottleneck's width {narrow}.")
        self.groups = groups
        self.cross_gate = nn.Parameter(torch.tensor(float(cross_gate_init))) if cross_modal else None  # g
        self.output_gate = nn.Parameter(torch.zeros(()))  # h
        self.norm_before = nn.LayerNorm(dim)
        self.down = nn.Linear(dim // groups, narrow, bias=False)
        self.batch_norm_down: Any = nn.BatchNorm1d(narrow) if batch_norm else None
        self.up = nn.Linear(narrow // groups, dim, bias=False)
        self.batch_norm_up: Any = nn.BatchNorm1d(dim) if batch_norm else None
        self.norm_after = nn.LayerNorm(dim)

    @torch.no_grad()
    def folded(self) -> Self:
        """See `Adapter`: LayerNorms, BatchNorms and the output gate become part of the matrices, to rounding.

        A subclass that does not say that it `adds` is not folded, since it may change what is between the two halves.
        """
        if self._fold is not None or not self.adds:
            return self
        made = copy.copy(self)
        made._refold()
        return made

    @torch.no_grad()
    def _refold(self) -> None:
        # Tensors of inference mode have no count, and are not watched.
        weights = tuple(one for one in (*self.parameters(), *self.buffers()) if not one.is_inference())
        self._fold_of = weights, [one._version for one in weights]
        down, up = (dense(layer.weight, self.groups) for layer in (self.down, self.up))
        maps = [(one, one.new_zeros(len(one))) for one in (down, up)]
        if self.batch_norm_down is not None:
            maps = [_in_evaluation(down, self.batch_norm_down), _in_evaluation(up, self.batch_norm_up)]
        self._fold = Folded(self.norm_before, maps[0], maps[1], self.norm_after, self.output_gate)

    @property
    def fold(self) -> Folded | None:
        """The constants to compute with, if there are any: not in training, and not where gradients are wanted.

        They are computed anew where weights were changed in place.
        """
        if self.training or torch.is_grad_enabled() or self._fold is None:
            return None
        weights, versions = self._fold_of
        if [one._version for one in weights] != versions:
            self._refold()
        return self._fold

    def train(self, mode: bool = True) -> Self:
        """Set the mode; training changes the weights, so constants computed from them are given up."""
        self._fold = None if mode else self._fold
        return super().train(mode)

    def _apply(self, *arguments: Any, **more: Any) -> Self:
        self._fold = None  # it is on the device and in the type of before
        super()._apply(*arguments, **more)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        self._fold = None  # it is of the weights of before
        super()._load_from_state_dict(*arguments, **more)

    def project(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens narrow"]:
        """LayerNorm and the linear map down, for each token separately."""
        if (fold := self.fold) is not None:
            return fold.project(x)
        return norm_linear(x, self.norm_before, dense(self.down.weight, self.groups))

    def finish(
        self, z: Float[Tensor, "batch tokens narrow"], onto: Float[Tensor, "batch tokens dim"] | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        """The rest, from BatchNorm in the bottleneck to the gated residual, added to `onto`."""
        if onto is None:
            onto = z.new_zeros(()).expand(*z.shape[:-1], len(self.norm_after.weight))
        if (fold := self.fold) is not None:
            return fold.finish(z, onto)
        weight = dense(self.up.weight, self.groups)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if self.batch_norm_down is None:
            z, bias = z.relu(), weight.new_zeros(len(weight))
        else:
            z = batch_norm(z, self.batch_norm_down).relu()
            z, weight, bias = fold_batch_norm(z, weight, self.batch_norm_up)
        return linear_norm(z, weight, bias, self.norm_after, self.output_gate, onto)


def dense(weight: Float[Tensor, "out in_of_group"], groups: int) -> Float[Tensor, "out in"]:
    """A grouped linear map as one block-diagonal matrix: at these widths faster than several small products."""
    if groups == 1:
        return weight
    matrix: Tensor = torch.block_diag(*weight.chunk(groups))  # type: ignore[no-untyped-call]
    return matrix


def batch_norm(x: Float[Tensor, "batch tokens dim"], norm: nn.BatchNorm1d) -> Float[Tensor, "batch tokens dim"]:
    """BatchNorm over all tokens of the batch."""
    return norm_of_all(x.flatten(0, 1), norm).view_as(x)


def fold_batch_norm(
    z: Float[Tensor, "batch tokens narrow"], u: Float[Tensor, "dim narrow"], norm: nn.BatchNorm1d
) -> tuple[Float[Tensor, "batch tokens narrow"], Float[Tensor, "dim narrow"], Float[Tensor, " dim"]]:
    """`norm(z @ u.T)` as one affine map of narrow tokens, with the batch statistics computed from `z`.

    For y = U z the mean is U mean(z) and the variance of y_i is u_i^T Cov(z) u_i, so the wide tensor y need not be read
    for them. The running statistics are updated as BatchNorm does it.

    Returns:
        Tokens, matrix and bias of the map.
    """
    if norm.training:
        rows = z.flatten(0, 1)
        centre = rows.mean(dim=0)
        own = rows - centre
        together, scatter, count = moments_of_all(centre, own.T @ own, len(rows))
        rows = own if together is centre else rows - together
        centre, covariance = together, scatter / count
        variance = ((u @ covariance) * u).sum(dim=1)
        move(norm, u @ centre, variance, count)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return rows.view_as(z), u * scale[:, None], norm.bias
    return z, *_in_evaluation(u, norm)


def _in_evaluation(
    u: Float[Tensor, "out narrow"], norm: nn.BatchNorm1d
) -> tuple[Float[Tensor, "out narrow"], Float[Tensor, " out"]]:
    """Matrix and bias of `norm(z @ u.T)` with the running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return u * scale[:, None], norm.bias - norm.running_mean * scale
