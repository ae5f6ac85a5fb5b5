"""The AV-PEA adapter (AV-PEA paper, Section 3.3, Eq. 5-8 and Algorithm 1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.adapters._bottleneck import GatedBottleneck, GatedOptions

__all__ = ["AVPEA", "EXTENSION", "AVPEAOptions"]


@dataclass(frozen=True)
class AVPEAOptions(GatedOptions):
    """Options of AV-PEA.

    Attributes:
        scaled_attention: Whether to divide the attention logits by sqrt(D); the paper does not.
    """

    scaled_attention: bool = False


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

    Args:
        dim: Width of the tokens, D.
        reduction: D / d.
        scaled_attention: Whether to divide the logits by sqrt(D); the paper does not.
        cross_modal: Whether to attend to the other stream; without, $CA = X_{cls}$ and there is no g (an ablation).
        has_cls: Whether token 0 is a CLS token.

    Raises:
        ExperimentError: `reduction` does not divide `dim`.
    """

    Options = AVPEAOptions
    follows_dtype = True

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 8,
        scaled_attention: bool = False,
        cross_modal: bool = True,
        has_cls: bool = True,
    ) -> None:
        super().__init__(dim, reduction=reduction, cross_modal=cross_modal)
        self.attends = cross_modal
        self.has_cls = has_cls
        self.scale = dim**-0.5 if scaled_attention else 1.0

    def attention_map(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch 1 other_tokens"]:
        """Θ of Eq. (7), (8): the attention of this stream's CLS token over the other stream's tokens."""
        # Unscaled logits reach hundreds, where bfloat16 steps by whole units, so float32 or wider.
        wide = torch.promote_types(x.dtype, torch.float32)
        query = x[:, :1] if self.has_cls else x.mean(dim=1, keepdim=True)
        logits = query.to(wide) @ other.to(wide).transpose(1, 2)
        return (logits * self.scale).softmax(dim=-1)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """B of Eq. (5), (6)."""
        if self.cross_gate is None:
            return self.finish(self.project(x))
        heard = self.attention_map(x, other).to(x.dtype) @ other  # Eq. (7), (8): Θ X'
        heard = self.cross_gate.to(x.dtype) * heard
        if self.has_cls:
            # `project` treats tokens separately, so the CLS token can be replaced after it, in the bottleneck.
            z = torch.cat((self.project(x[:, :1] + heard), self.project(x)[:, 1:]), dim=1)
        else:
            z = self.project(x + heard)
        return self.finish(z)


EXTENSION = AVPEA
