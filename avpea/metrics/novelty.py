"""How unlike the training set an input is: its distance to the training mean of the class that it was given.

docs/results.md compares it with other scores.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["class_means", "novelty"]


def class_means(
    features: Float[Tensor, "rows width"], classes: Int[Tensor, " rows"], count: int
) -> Float[Tensor, "count width"]:
    """Mean features of each of `count` classes; a class that does not occur gets the mean of all rows.

    Raises:
        ValueError: There are no rows.
    """
    if not len(classes):
        raise ValueError("there are no features to take the mean of")
    rows = features.double()
    own = classes.bincount(minlength=count)[:, None]
    sums = torch.zeros(count, rows.shape[1], dtype=torch.float64).index_add_(0, classes, rows)
    return torch.where(own > 0, sums / own.clamp(min=1), rows.mean(dim=0)).float()


def novelty(
    features: Float[Tensor, "rows width"], classes: Int[Tensor, " rows"], means: Float[Tensor, "classes width"]
) -> Float[Tensor, " rows"]:
    """Euclidean distance of each row to the mean of its class."""
    apart = features.double() - means[classes].double()
    distance: Tensor = torch.linalg.vector_norm(apart, dim=1)
    return distance.float()
