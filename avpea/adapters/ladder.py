"""Ladder side-tuning (LST; Sung et al., NeurIPS 2022), with a ladder for each stream and an exchange between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avpea.adapters._base import SideNetwork
from avpea.adapters._bottleneck import BottleneckOptions, narrow_width
from avpea.errors import ExperimentError
from avpea.options import require, require_choice

__all__ = ["EXTENSION", "LadderOptions", "Ladders"]

Streams = Literal["both", "audio", "visual"]
TEMPERATURE = 0.1  # of the share mu that a rung keeps of the ladder's own tokens


@dataclass(frozen=True)
class LadderOptions(BottleneckOptions):
    """Options of the ladders. `reduction` is the width of the backbone over that of a ladder.

    Attributes:
        heads: Number of attention heads in a ladder's blocks.
        cross_modal: Whether the ladders exchange, if both streams have one.
        cross_gate_init: Where the gates g of what a ladder reads from the other one start.
    """

    heads: int = 4
    cross_modal: bool = True
    cross_gate_init: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.heads >= 1, f"adapter.heads is {self.heads}; expected 1 or more.")
        require(
            self.cross_gate_init == 1.0 or self.exchanges,
            f"adapter.cross_gate_init is {self.cross_gate_init}, but with adapter.cross_modal "
            f"{str(self.cross_modal).lower()} and adapter.streams {self.streams} no ladder reads another one; leave it "
            "out.",
        )

    @property
    def exchanges(self) -> bool:
        """See `AdapterOptions`: there must be two ladders."""
        return self.cross_modal and self.streams == "both"


class Ladders(SideNetwork):
    r"""For each stream a small transformer of width w = D / reduction, which climbs from block to block.

    With e the tokens that enter the frozen network and $h_i$ those after its i-th chosen block, in each stream

    $$s = P_0 e; \quad s \leftarrow \mu_i s + (1 - \mu_i) P_i h_i, \quad \mu_i = \sigma(a_i / 0.1); \quad
      s \leftarrow s + g_i \, \mathrm{softmax}(n(s) \, n(s')^T / \sqrt w) \, s'; \quad s \leftarrow block_i(s)$$

    where s' are the tokens of the other stream's ladder, n is LayerNorm without weights, and $block_i$ a pre-norm
    transformer block of width w. $U \, LN(s) + c$ is added to the frozen network's tokens after its last norm.

    The ladder itself is LST's; there the answer takes the place of the frozen tokens, or is mixed with them by a gate.
    Here U starts at zero, so new ladders change nothing. The exchange is not in LST: products are scaled and of
    normalised tokens, without which one token gets all attention, and g starts open, as the ladder as a whole does not.
    No gradient flows through the frozen network.

    A stream with n rungs has n (D w + w + 1 + 12 w² + 13 w) + (D w + w) + 2 w + (w D + D) parameters, and n more with
    the exchange.

    Args:
        dim: Width of the tokens, D.
        blocks: Number of blocks that are read, n.
        streams: Which streams have a ladder.
        reduction: D / w.
        heads: Number of attention heads.
        cross_modal: Whether the ladders exchange, if there are two.
        cross_gate_init: Where the gates g start.

    Raises:
        ExperimentError: `reduction` does not divide D, or `heads` does not divide w, or there are no such streams.
    """

    Options = LadderOptions
    follows_dtype = True
    exchange_gates: ClassVar[tuple[str, ...]] = ("cross_gate",)

    def __init__(
        self,
        dim: int,
        blocks: int,
        streams: Streams = "both",
        *,
        reduction: int = 8,
        heads: int = 4,
        cross_modal: bool = True,
        cross_gate_init: float = 1.0,
    ) -> None:
        require_choice("streams", streams, Streams)
        super().__init__(dim, blocks, streams)
        width = narrow_width(dim, reduction)
        if width % heads:
            raise ExperimentError(
                f"adapter.heads is {heads}, which does not divide the ladder's width {width}; choose a divisor."
            )
        self.cross_modal = cross_modal and streams == "both"
        gate = cross_gate_init if self.cross_modal else None

        def ladder(stream: str) -> _Ladder | None:
            return _Ladder(dim, width, blocks, heads, gate) if streams in ("both", stream) else None

        self.visual, self.audio = ladder("visual"), ladder("audio")

    def forward(
        self,
        visual: Sequence[Float[Tensor, "images visual_tokens dim"]],
        audio: Sequence[Float[Tensor, "images audio_tokens dim"]],
    ) -> tuple[Float[Tensor, "images visual_tokens dim"] | None, Float[Tensor, "images audio_tokens dim"] | None]:
        """See `SideNetwork`."""
        pairs = [(ladder, read) for ladder, read in ((self.visual, visual), (self.audio, audio)) if ladder is not None]
        states = [_linear(ladder.first, read[0]) for ladder, read in pairs]
        for index in range(len(pairs[0][0].rungs)):
            rungs = [ladder.rungs[index] for ladder, _ in pairs]
            mixed = [
                rung.mixed(state, read[index + 1]) for rung, state, (_, read) in zip(rungs, states, pairs, strict=True)
            ]
            others = mixed[::-1] if self.cross_modal else [None] * len(mixed)
            states = [rung.climb(own, other) for rung, own, other in zip(rungs, mixed, others, strict=True)]
        added = iter([ladder.leave(state) for (ladder, _), state in zip(pairs, states, strict=True)])
        return (None if self.visual is None else next(added)), (None if self.audio is None else next(added))


class _Ladder(nn.Module):
    """The ladder of a stream."""

    def __init__(self, dim: int, width: int, blocks: int, heads: int, gate: float | None) -> None:
        super().__init__()
        self.first = nn.Linear(dim, width)  # P_0
        self.rungs: Sequence[_Rung] = nn.ModuleList(_Rung(dim, width, heads, gate) for _ in range(blocks))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, dim)  # U, c
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def leave(self, state: Float[Tensor, "images tokens width"]) -> Float[Tensor, "images tokens dim"]:
        """What is added to the frozen network's tokens."""
        return _linear(self.up, _norm(self.norm, state))


class _Rung(nn.Module):
    """What a ladder does at a block of the frozen network."""

    def __init__(self, dim: int, width: int, heads: int, gate: float | None) -> None:
        super().__init__()
        self.heads = heads
        self.keep = nn.Parameter(torch.zeros(()))  # a
        self.read = nn.Linear(dim, width)  # P
        self.cross_gate = None if gate is None else nn.Parameter(torch.tensor(float(gate)))  # g
        self.norm_attn, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def mixed(
        self, state: Float[Tensor, "images tokens width"], output: Float[Tensor, "images tokens dim"]
    ) -> Float[Tensor, "images tokens width"]:
        """The ladder's tokens with those of the frozen block."""
        share = (self.keep / TEMPERATURE).sigmoid().to(state.dtype)
        return share * state + (1 - share) * _linear(self.read, output)

    def climb(
        self, own: Float[Tensor, "images tokens width"], other: Float[Tensor, "images other_tokens width"] | None
    ) -> Float[Tensor, "images tokens width"]:
        """The ladder's tokens after reading the other ladder's, if there is an exchange, and after the block."""
        if other is not None and self.cross_gate is not None:
            query, key = (F.layer_norm(one, one.shape[-1:]) for one in (own, other))
            query, key, value = query[:, None], key[:, None], other[:, None]  # one head, as ONNX wants to have it
            heard = F.scaled_dot_product_attention(query, key, value).squeeze(1)
            own = own + self.cross_gate.to(own.dtype) * heard
        qkv = _linear(self.qkv, _norm(self.norm_attn, own)).view(*own.shape[:2], 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        own = own + _linear(self.proj, attended)
        return own + _linear(self.narrow, F.gelu(_linear(self.widen, _norm(self.norm_mlp, own))))


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer in the type of the tokens."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """The norm in the type of the tokens."""
    return F.layer_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


EXTENSION = Ladders
