"""How well a text finds its video, and a video its text: recall at K and ranks. Pure functions."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["CUTS", "both_ranks", "dual_softmax", "ranks", "recalls"]

CUTS = (1, 5, 10)


def ranks(similarity: Float[Tensor, "queries items"], own: Int[Tensor, " queries"]) -> Int[Tensor, " queries"]:
    """At which place each query finds its own item, from 1.

    What is as similar as the own item counts as before it, so that a model that likes everything alike gains nothing
    by it (sorting would break such ties by luck).

    Args:
        similarity: Higher is more alike.
        own: Column of each query's item.
    """
    reached = similarity.gather(1, own[:, None])
    return (similarity >= reached).sum(dim=1)


def recalls(places: Int[Tensor, " queries"]) -> dict[str, float]:
    """Share of queries whose item is among the first 1, 5 and 10, their mean, and the median place.

    >>> recalls(torch.tensor([1, 2, 7, 40]))
    {'r1': 0.25, 'r5': 0.5, 'r10': 0.75, 'mean_recall': 0.5, 'median_rank': 4.5}
    """
    found = {f"r{cut}": float((places <= cut).double().mean()) for cut in CUTS}
    middle = float(torch.quantile(places.double(), 0.5))
    return {**found, "mean_recall": sum(found.values()) / len(CUTS), "median_rank": middle}


def dual_softmax(similarity: Float[Tensor, "texts videos"], temperature: float = 0.01) -> Float[Tensor, "texts videos"]:
    """Similarities times how much each video prefers the text among all texts (an option of VALOR's public code).

    It looks at all queries at once, which a search engine cannot: figures with it are named so.
    """
    return similarity * (similarity / temperature).softmax(dim=0)


def both_ranks(
    similarity: Float[Tensor, "texts videos"], video: Int[Tensor, " texts"]
) -> tuple[Int[Tensor, " texts"], Int[Tensor, " videos"]]:
    """At which place each text finds its video, and each video the first of its texts, from 1.

    Args:
        similarity: Of each text and video.
        video: Column of each text's video; every video has a text.
    """
    every = ranks(similarity.T[video], torch.arange(len(video)))
    best = torch.full((similarity.shape[1],), len(video), dtype=every.dtype)
    return ranks(similarity, video), best.scatter_reduce(0, video, every, "amin")
