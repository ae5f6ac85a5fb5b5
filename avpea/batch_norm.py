"""BatchNorm whose statistics are those of a batch that several processes share."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avpea import distributed

__all__ = ["moments_of_all", "move", "norm_of_all"]


def norm_of_all(x: Float[Tensor, "batch dim ..."], norm: nn.BatchNorm1d) -> Float[Tensor, "batch dim ..."]:
    """BatchNorm over the batches of all processes; with a single one, and in evaluation, what `norm` computes."""
    if distributed.world().alone or not norm.training:
        normed: Tensor = norm(x)
        return normed
    rows = x.movedim(1, -1).to(torch.promote_types(x.dtype, torch.float32))
    over = tuple(range(rows.ndim - 1))
    mean = rows.mean(dim=over)
    mean, squares, count = moments_of_all(mean, (rows - mean).square().sum(dim=over), rows.numel() // x.shape[1])
    variance = squares / count
    move(norm, mean, variance, count)
    scaled = (rows - mean) * (norm.weight * torch.rsqrt(variance + norm.eps)) + norm.bias
    return scaled.movedim(-1, 1).to(x.dtype)


def moments_of_all(
    mean: Float[Tensor, " dim"], scatter: Float[Tensor, "..."], count: int
) -> tuple[Float[Tensor, " dim"], Float[Tensor, "..."], float]:
    """Mean, scatter about it, and number of the rows of all processes, from those of each, in a single exchange.

    What lies between the means of the processes is added to the scatter (Chan, Golub and LeVeque, 1979).

    Args:
        mean: Mean of the rows of this process.
        scatter: Sum of the squares of their deviations from it, or of the outer products (dim x dim).
        count: Their number.
    """
    here = distributed.world()
    if here.alone or not here.global_statistics:
        return mean, scatter, count
    own = torch.cat((mean.new_tensor([count]), mean, scatter.flatten()))
    table = distributed.total(F.pad(own[None], (0, 0, here.rank, here.size - 1 - here.rank)))
    counts, means, scatters = torch.split(table, [1, len(mean), scatter.numel()], dim=1)
    whole = counts.sum()
    together = (counts * means).sum(dim=0) / whole
    between = means - together
    apart = between.square().T @ counts if scatter.ndim == 1 else between.T @ (counts * between)
    return together, scatters.sum(dim=0).view_as(scatter) + apart.view_as(scatter), whole.item()


def move(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, count: float) -> None:
    """Update the running statistics as BatchNorm does it."""
    running_mean, running_var = norm.running_mean, norm.running_var
    assert running_mean is not None
    assert running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked += 1
    unbiased = variance.detach() * (count / max(count - 1, 1))
    running_mean.lerp_(mean.detach().to(running_mean.dtype), norm.momentum)
    running_var.lerp_(unbiased.to(running_var.dtype), norm.momentum)
