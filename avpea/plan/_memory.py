"""What a training step takes, from a step on the meta device: operations, and the most memory at a time."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

__all__ = ["Taken", "fused_attention"]


@contextmanager
def fused_attention() -> Iterator[None]:
    """In this block, attention on the meta device is one kernel, as on a card.

    Torch takes it apart there, into products and a softmax whose N x N scores would be kept, in float32 even. A card's
    kernels keep the output and a number for each query, and compute the scores again.
    """
    plain: Any = F.scaled_dot_product_attention

    def attention(query: Tensor, *others: Any, **named: Any) -> Tensor:
        out: Tensor = (_whole if query.is_meta and query.ndim == 4 else plain)(query, *others, **named)
        return out

    # A mode of torch's would be off in the backward pass, which computes again what is checkpointed.
    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


def _whole(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None:
        attn_mask = query.new_empty(()).expand(*query.shape[:3], key.shape[2])
    if enable_gqa:
        key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], 1) for one in (key, value))
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    out: Tensor = kernel(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]
    return out


class Taken(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that counts operations, and adds up the memory of what is made in it, as long as it is there.

    Torch's own counter of operations keeps a hold of tensors, so that the memory cannot be counted beside it.

    Attributes:
        flops: Floating-point operations, a multiplication and an addition being two.
        now: Bytes of what is there now.
        most: The most bytes that were there at a time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.now = self.most = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch."""
        named = kwargs or {}
        out = func(*args, **named)
        formula: Any = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **named, out_val=out)
        for one in tree_leaves(out):
            if isinstance(one, Tensor):
                self.note(one)
        return out

    def note(self, tensor: Tensor) -> None:
        """Count the memory of a tensor, unless it shares that of one that counts already."""
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place not in self._known:
            self.now += size
            self.most = max(self.most, self.now)
            self._known[place] = weakref.ref(storage, lambda _: self._freed(place, size))

    def _freed(self, place: int, size: int) -> None:
        self.now -= size
        del self._known[place]
