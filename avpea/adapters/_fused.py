"""The wide steps of the bottleneck and of the exchange, in as few passes over the tokens as they need.

The products of these narrow layers are cheap; what costs is to write and to read whole tokens, above all in bfloat16 on
a CPU. So LayerNorms become part of the products beside them: their mean is taken out of the matrices, whose columns or
rows are centred, and their deviation is a factor of each token. Nothing wide is kept for the backward pass but tokens
that the frozen layers keep anyway. On a card, it is the number of operations that costs: there training goes through
the plain layers, which are fewer.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["Exchange", "Folded", "in_own_types", "linear_norm", "norm_linear"]


def _without_autocast(compute: Any) -> Any:
    """The same with autocast off; the meta device, on which a plan counts operations, knows none."""

    @functools.wraps(compute)
    def made(owner: Any, x: Tensor, *others: Any) -> Any:
        kind = x.device.type
        if kind == "meta" or not torch.is_autocast_enabled(kind):
            return compute(owner, x, *others)
        with torch.autocast(kind, enabled=False):
            return compute(owner, x, *others)

    return made


def in_own_types(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An adapter's forward pass in the type of its tokens, to which the other stream's are brought.

    Under autocast the products would be of another type than the sums between them, and the statistics of a lower
    precision; the type is chosen here already.
    """
    computed = _without_autocast(forward)

    @functools.wraps(forward)
    def made(self: Any, x: Tensor, other: Tensor, onto: Tensor | None = None) -> Tensor:
        found: Tensor = computed(self, x, other if other.dtype == x.dtype else other.to(x.dtype), onto)
        return found

    return made


class _NormLinear(torch.autograd.Function):
    """z = W (x - mean(x)) / deviation(x) + b for each token x, with a matrix W whose rows sum to zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        # In bfloat16 on a CPU, the statistics are in float32 only if there are weights in float32.
        ones = weight.new_ones(x.shape[-1], dtype=torch.float32) if x.dtype == torch.bfloat16 else None
        zeros = None if ones is None else torch.zeros_like(ones)
        normed, mean, deviation = torch.native_layer_norm(x, x.shape[-1:], ones, zeros, eps)
        z = F.linear(normed, weight, bias)
        ctx.save_for_backward(x, weight, bias, mean, deviation, z)
        return z

    @staticmethod
    @_without_autocast
    @once_differentiable  # the statistics that are kept have no graph
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, deviation, z = ctx.saved_tensors
        scaled = grad * deviation.to(grad.dtype)
        rows = scaled.flatten(0, -2)
        to_weight, to_bias = rows.T @ x.flatten(0, -2), grad.flatten(0, -2).sum(dim=0)
        if not ctx.needs_input_grad[0]:
            return None, to_weight, to_bias, None
        # The backward pass of LayerNorm is d (g W - mean(g W) - n mean(g W n)) with n = (x - mean) d, where mean(g W)
        # is 0 and g W n is g (z - b): a product, and a multiple of the token.
        own = (grad * (z - bias)).sum(dim=-1, keepdim=True, dtype=mean.dtype) * deviation.square() / -x.shape[-1]
        narrow = torch.cat((scaled, (-own * mean).to(grad.dtype)), dim=-1).flatten(0, -2)
        to_x = narrow @ torch.cat((weight, torch.ones_like(weight[:1])))
        return to_x.view_as(x).addcmul_(x, own.to(x.dtype)), to_weight, to_bias, None


def norm_linear(
    x: Float[Tensor, "*images tokens dim"], norm: nn.LayerNorm, weight: Float[Tensor, "narrow dim"]
) -> Float[Tensor, "*images tokens narrow"]:
    """`F.linear(norm(x), weight)`, in the type of `x`."""
    if not _on_cpu(x):
        normed = F.layer_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
        return F.linear(normed, weight.to(x.dtype))
    scaled = weight * norm.weight
    centred = scaled - scaled.mean(dim=1, keepdim=True)
    z: Tensor = _NormLinear.apply(x, centred.to(x.dtype), (weight @ norm.bias).to(x.dtype), norm.eps)
    return z


def linear_norm(
    z: Float[Tensor, "*images tokens narrow"],
    weight: Float[Tensor, "dim narrow"],
    bias: Float[Tensor, " dim"],
    norm: nn.LayerNorm,
    gate: Float[Tensor, ""],
    onto: Float[Tensor, "*images tokens dim"],
) -> Float[Tensor, "*images tokens dim"]:
    """`onto + gate * norm(F.linear(z, weight, bias))`, in the type of `onto`.

    Mean and deviation of y = W z + b are those of |y|^2 = z~^T W~^T W~ z~, with the centred W~ = (W | b) and
    z~ = (z | 1): they are had from narrow tensors.
    """
    if not _on_cpu(onto):
        y = F.linear(z.to(onto.dtype), weight.to(onto.dtype), bias.to(onto.dtype))
        scale, shift = (gate * norm.weight).to(y.dtype), (gate * norm.bias).to(y.dtype)
        return onto + F.layer_norm(y, y.shape[-1:], scale, shift, norm.eps)
    both = torch.cat((weight, bias[:, None]), dim=1)
    both = both - both.mean(dim=0)
    z = torch.cat((z, torch.ones_like(z[..., :1])), dim=-1)
    variance = ((z @ (both.T @ both)) * z).sum(dim=-1, keepdim=True) / len(both)
    scaled = torch.cat((both * norm.weight[:, None], norm.bias[:, None]), dim=1) * gate
    return _times(z, variance, norm.eps, scaled.to(onto.dtype), onto)


def _times(z: Tensor, variance: Tensor, eps: float, matrix: Tensor, onto: Tensor) -> Tensor:
    """`onto` and the product of normalised tokens, and a 1 for the bias, with a matrix."""
    z = torch.cat((z * torch.rsqrt(variance.clamp_min(0) + eps), torch.ones_like(variance)), dim=-1)
    return torch.addmm(onto.flatten(0, -2), z.flatten(0, -2).to(onto.dtype), matrix.T).view_as(onto)


class Exchange(torch.autograd.Function):
    """softmax(scale * q k^T) k for queries q and keys k that are values too.

    The logits are computed in float32 or wider. Only the tokens themselves are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, scale: float) -> Tensor:
        wide = key.to(torch.promote_types(key.dtype, torch.float32))
        attention = (query.to(wide.dtype) @ wide.transpose(1, 2) * scale).softmax(dim=-1)
        ctx.save_for_backward(query, key, attention)
        ctx.scale = scale
        return (attention @ wide).to(key.dtype)

    @staticmethod
    @_without_autocast
    @once_differentiable  # the attention that is kept has no graph
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, attention = ctx.saved_tensors
        to_attention = (grad @ key.transpose(1, 2)).to(attention.dtype)
        to_logits = attention * (to_attention - (to_attention * attention).sum(dim=-1, keepdim=True)) * ctx.scale
        to_logits, attention = to_logits.to(key.dtype), attention.to(key.dtype)
        to_query = to_logits @ key if ctx.needs_input_grad[0] else None
        # As keys and as values at once: one product.
        to_key = torch.cat((attention, to_logits), dim=1).transpose(1, 2) @ torch.cat((grad, query), dim=1)
        return to_query, to_key if ctx.needs_input_grad[1] else None, None


class Folded:
    """The bottleneck in evaluation mode as two affine maps, with all normalisations, scales and the gate in them.

    Args:
        before: LayerNorm before the bottleneck.
        down: Matrix and bias of the bottleneck's input, BatchNorm in it.
        up: Matrix and bias of its output, BatchNorm in it.
        after: LayerNorm after it.
        gate: What the residual is multiplied by.
    """

    def __init__(
        self,
        before: nn.LayerNorm,
        down: tuple[Float[Tensor, "narrow dim"], Float[Tensor, " narrow"]],
        up: tuple[Float[Tensor, "dim narrow"], Float[Tensor, " dim"]],
        after: nn.LayerNorm,
        gate: Float[Tensor, ""],
    ) -> None:
        self._first, self._bias = down[0] * before.weight, down[1] + down[0] @ before.bias
        second = torch.cat((up[0], up[1][:, None]), dim=1)
        second = second - second.mean(dim=0)
        self._gram = second.T @ second / len(second)
        self._second = torch.cat((second * after.weight[:, None], after.bias[:, None]), dim=1) * gate
        self._before, self._after = before.eps, after.eps
        self._halves = self._cast(torch.bfloat16)

    def _cast(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return tuple(one.to(dtype) for one in (self._first, self._bias, self._second))

    def _matrices(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return self._halves if dtype == torch.bfloat16 else self._cast(dtype)

    def project(self, x: Float[Tensor, "*images tokens dim"]) -> Float[Tensor, "*images tokens narrow"]:
        """Tokens in the bottleneck, before the ReLU."""
        first, bias, _ = self._matrices(x.dtype)
        return F.linear(F.layer_norm(x, x.shape[-1:], eps=self._before), first, bias)

    def finish(
        self, z: Float[Tensor, "*images tokens narrow"], onto: Float[Tensor, "*images tokens dim"]
    ) -> Float[Tensor, "*images tokens dim"]:
        """`onto` and the residual."""
        z = z.relu().to(self._gram.dtype)
        z = torch.cat((z, torch.ones_like(z[..., :1])), dim=-1)
        variance = ((z @ self._gram) * z).sum(dim=-1, keepdim=True)
        return _times(z, variance, self._after, self._matrices(onto.dtype)[2], onto)


def _on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"
