"""The AV-PEA adapter (AV-PEA paper, Section 3.3, Eq. 5-8 and Algorithm 1)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avpea.adapters._bottleneck import GatedBottleneck, GatedOptions
from avpea.adapters._fused import Exchange, in_own_types
from avpea.options import require_choice

__all__ = ["AVPEA", "EXTENSION", "AVPEAOptions"]

Queries = Literal["cls", "all"]


@dataclass(frozen=True)
class AVPEAOptions(GatedOptions):
    """Options of AV-PEA.

    Attributes:
        scaled_attention: Whether to divide the attention logits by sqrt(D); the paper does not.
        normalised_attention: Whether queries and keys are normalised to mean 0 and variance 1, token by token, before
            their product (LayerNorm without weights); the paper multiplies raw tokens. With `scaled_attention` too, the
            logits are sqrt(D) times the cosine of both.
        queries: Which tokens attend to the other stream: the CLS token (`cls`, as in the paper) or each token for
            itself (`all`).
    """

    scaled_attention: bool = False
    normalised_attention: bool = False
    queries: Queries = "cls"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_exchange("normalised_attention", "queries")


class AVPEA(GatedBottleneck):
    r"""Audio-visual parameter-efficient adapter: the CLS token attends to the other stream, then a bottleneck.

    For one stream with tokens $X = (X_{cls} \parallel X_p)$ and the other stream's tokens $X'$:

    $$\Theta = \mathrm{Softmax}(X_{cls} X'^T), \quad CA = X_{cls} + g \, \Theta X', \quad B = h \, f(CA \parallel X_p)$$

    $f$ is LayerNorm, a linear map $D \to d = D / 8$, BatchNorm, ReLU, a linear map $d \to D$, BatchNorm,
    LayerNorm; the linear maps (Algorithm 1: 1x1 convolutions) have no bias. Both gates start at zero, so a new
    adapter changes nothing. It has $2 + 6D + 2d + 2Dd$ parameters. `cross_gate` is $g$ (Algorithm 1: `q_gate`),
    `output_gate` is $h$ (`gate`).

    Without a CLS token (SigLIP, Swin) the query is the mean of the tokens, and $g \, \Theta X'$ is added to every
    token.

    Beyond the paper, with the same parameters: `scaled_attention` and `normalised_attention` change the logits to
    $X_{cls} X'^T / \sqrt D$ and $\mathrm{LN}(X_{cls}) \, \mathrm{LN}(X')^T$, where LN has no weights, and with the
    queries `all` each token attends for itself: $B = h \, f(X + g \, \mathrm{Softmax}(X X'^T) X')$.

    Args:
        dim: Width of the tokens, D.
        reduction: D / d.
        scaled_attention: Whether to divide the logits by sqrt(D); the paper does not.
        normalised_attention: Whether queries and keys are normalised, token by token; in the paper they are not.
        queries: Which tokens attend: the CLS token (`cls`, as in the paper) or `all`.
        cross_modal: Whether to attend to the other stream; without, $CA = X_{cls}$ and there is no g (an ablation).
        cross_gate_init: Where g starts.
        has_cls: Whether token 0 is a CLS token.

    Raises:
        ExperimentError: `reduction` does not divide `dim`, or there are no such queries.
    """

    Options: ClassVar[type[GatedOptions]] = AVPEAOptions
    follows_dtype = True
    adds = True

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 8,
        scaled_attention: bool = False,
        normalised_attention: bool = False,
        queries: Queries = "cls",
        cross_modal: bool = True,
        cross_gate_init: float = 0.0,
        has_cls: bool = True,
    ) -> None:
        require_choice("queries", queries, Queries)
        super().__init__(dim, reduction=reduction, cross_modal=cross_modal, cross_gate_init=cross_gate_init)
        self.attends = cross_modal
        self.has_cls = has_cls
        self.scale = dim**-0.5 if scaled_attention else 1.0
        self.normalised = normalised_attention
        self.queries: Queries = queries

    def attention_map(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch queries other_tokens"]:
        """Θ of Eq. (7), (8): the attention of this stream's CLS token, the one query, over the other stream's tokens.

        With the queries `all` there is a row for each token.
        """
        # Unscaled logits reach hundreds, where bfloat16 steps by whole units, so float32 or wider.
        wide = torch.promote_types(x.dtype, torch.float32)
        query, key = self._queries(x).to(wide), other.to(wide)
        if self.normalised:
            query, key = (F.layer_norm(tokens, tokens.shape[-1:]) for tokens in (query, key))
        logits = query @ key.transpose(1, 2)
        return (logits * self.scale).softmax(dim=-1)

    def _heard(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch queries dim"]:
        """Θ X' of Eq. (7), (8)."""
        if self.normalised:
            return self.attention_map(x, other).to(x.dtype) @ other
        heard: Tensor = Exchange.apply(self._queries(x), other, self.scale)
        return heard

    def _queries(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch queries dim"]:
        if self.queries == "all":
            return x
        return x[:, :1] if self.has_cls else x.mean(dim=1, keepdim=True)

    @in_own_types
    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        other: Float[Tensor, "batch other_tokens dim"],
        onto: Float[Tensor, "batch tokens dim"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """B of Eq. (5), (6), added to `onto`."""
        if self.cross_gate is None:
            return self.finish(self.project(x), onto)
        heard = self._heard(x, other)
        heard = self.cross_gate.to(x.dtype) * heard
        if self.has_cls and self.queries == "cls":
            # `project` treats tokens separately, so the CLS token can be replaced after it, in the bottleneck.
            z = torch.cat((self.project(x[:, :1] + heard), self.project(x)[:, 1:]), dim=1)
        else:
            z = self.project(x + heard)
        return self.finish(z, onto)


EXTENSION = AVPEA
