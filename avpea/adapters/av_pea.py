"""The AV-PEA adapter (AV-PEA paper, Section 3.3, Eq. 5-8 and Algorithm 1)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avpea.adapters._base import Adapter
from avpea.errors import ExperimentError

__all__ = ["AVPEA"]


class AVPEA(Adapter):
    r"""Audio-visual parameter-efficient adapter: the CLS token asks the other stream, a bottleneck tells the patches.

    For one stream with tokens $X = (X_{cls} \parallel X_p)$ and the other stream's tokens $X'$:

    $$\Theta = \mathrm{Softmax}(X_{cls} X'^T), \quad CA = X_{cls} + g \, \Theta X', \quad B = h \, f(CA \parallel X_p)$$

    $f$ is LayerNorm, a linear map $D \to d = D / 8$, BatchNorm, ReLU, a linear map $d \to D$, BatchNorm,
    LayerNorm; the linear maps (Algorithm 1: 1x1 convolutions) have no bias. Both gates start at zero, so that
    a new adapter leaves the backbone as it is. It has $2 + 6D + 2d + 2Dd$ parameters.

    Without a CLS token (SigLIP) the mean of the tokens asks, and every token receives $g \, \Theta X'$.

    Args:
        dim: D, the width of the tokens.
        reduction: D / d.
        scaled_attention: Divide the logits by sqrt(D). The paper does not.
        has_cls: Whether token 0 is a CLS token.

    Raises:
        ExperimentError: `reduction` does not divide `dim`.
    """

    def __init__(self, dim: int, *, reduction: int = 8, scaled_attention: bool = False, has_cls: bool = True) -> None:
        super().__init__(dim, reduction=reduction, scaled_attention=scaled_attention, has_cls=has_cls)
        if dim % reduction:
            raise ExperimentError(
                f"adapter.reduction is {reduction}, which does not divide the backbone's width {dim}; "
                f"choose a divisor, for example {math.gcd(dim, 8)}."
            )
        self.has_cls = has_cls
        self.scale = dim**-0.5 if scaled_attention else 1.0
        self.cross_gate = nn.Parameter(torch.zeros(()))  # g; Algorithm 1 calls it q_gate
        self.output_gate = nn.Parameter(torch.zeros(()))  # h; Algorithm 1 calls it gate
        self.norm_before = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, dim // reduction, bias=False)
        self.batch_norm_down = nn.BatchNorm1d(dim // reduction)
        self.up = nn.Linear(dim // reduction, dim, bias=False)
        self.batch_norm_up = nn.BatchNorm1d(dim)
        self.norm_after = nn.LayerNorm(dim)

    def attention_map(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch 1 other_tokens"]:
        """Θ of Eq. (7), (8): where in the other stream this stream's CLS token looks."""
        # Unscaled logits reach hundreds, where bfloat16 steps by whole units: float32 at least.
        wide = torch.promote_types(x.dtype, torch.float32)
        query = x[:, :1] if self.has_cls else x.mean(dim=1, keepdim=True)
        logits = query.to(wide) @ other.to(wide).transpose(1, 2)
        return (logits * self.scale).softmax(dim=-1)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], other: Float[Tensor, "batch other_tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """B of Eq. (5), (6)."""
        heard = self.attention_map(x, other).to(x.dtype) @ other  # Eq. (7), (8): Θ X'
        heard = self.cross_gate.to(x.dtype) * heard
        if self.has_cls:
            # The bottleneck sees one token at a time up to here: project first, then swap the CLS in the narrow space.
            z = torch.cat((self._project(x[:, :1] + heard), self._project(x)[:, 1:]), dim=1)
        else:
            z = self._project(x + heard)
        z = batch_norm(z, self.batch_norm_down).relu()
        y = batch_norm_of_linear(z, self.up, self.batch_norm_up)
        # Eq. (5), (6): h times the last LayerNorm, as one affine map.
        h = self.output_gate
        weight, bias = h * self.norm_after.weight, h * self.norm_after.bias
        return F.layer_norm(y, y.shape[-1:], weight.to(y.dtype), bias.to(y.dtype), self.norm_after.eps)

    def _project(self, x: Tensor) -> Tensor:
        norm = self.norm_before
        x = F.layer_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
        return F.linear(x, self.down.weight.to(x.dtype))


def batch_norm(x: Float[Tensor, "batch tokens dim"], norm: nn.BatchNorm1d) -> Float[Tensor, "batch tokens dim"]:
    """BatchNorm over all tokens of the batch, in float32 at least; answers in the type of `x`."""
    wide = x.flatten(0, 1).to(torch.promote_types(x.dtype, torch.float32))
    normed: Tensor = norm(wide)
    return normed.to(x.dtype).view_as(x)


def batch_norm_of_linear(
    z: Float[Tensor, "batch tokens narrow"], linear: nn.Linear, norm: nn.BatchNorm1d
) -> Float[Tensor, "batch tokens dim"]:
    """`norm(linear(z))` with the batch statistics taken in the narrow space.

    For y = U z the mean is U mean(z) and the variance of y_i is u_i^T Cov(z) u_i, so the wide tensor is written
    once instead of being read three times; the running statistics are those of BatchNorm.
    """
    u, rows = linear.weight, z.flatten(0, 1)
    wide = torch.promote_types(z.dtype, torch.float32)
    if norm.training:
        centre = rows.to(wide).mean(dim=0)
        centred = rows.to(wide) - centre
        count = centred.shape[0]
        covariance = centred.T @ centred / count
        mean = u @ centre
        variance = ((u @ covariance) * u).sum(dim=1)
        _track(norm, mean.detach(), variance.detach() * (count / max(count - 1, 1)))
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean, norm.running_var
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return F.linear(z, (u * scale[:, None]).to(z.dtype), (norm.bias - mean * scale).to(z.dtype))


def _track(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), norm.momentum)
