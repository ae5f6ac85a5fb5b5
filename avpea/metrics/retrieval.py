"""Ranks and recall at K, from text to video and from video to text."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["CUTS", "both_ranks", "dual_softmax", "ranks", "recalls"]

CUTS = (1, 5, 10)


def ranks(similarity: Float[Tensor, "queries items"], own: Int[Tensor, " queries"]) -> Int[Tensor, " queries"]:
    """The rank of each query's own item, from 1.

    Items with the same similarity as the own item rank before it, so a model that gives everything the same similarity
    gains nothing (sorting would break ties at random).

    Args:
        similarity: Similarity of each query to each item; higher is more similar.
        own: Column of each query's own item.
    """
    reached = similarity.gather(1, own[:, None])
    return (similarity >= reached).sum(dim=1)


def recalls(ranked: Int[Tensor, " queries"]) -> dict[str, float]:
    """From ranks: the share of queries with a rank up to 1, 5 and 10, the mean of the three, and the median rank.

    >>> recalls(torch.tensor([1, 2, 7, 40]))
    {'r1': 0.25, 'r5': 0.5, 'r10': 0.75, 'mean_recall': 0.5, 'median_rank': 4.5}
    """
    found = {f"r{cut}": float((ranked <= cut).double().mean()) for cut in CUTS}
    middle = float(torch.quantile(ranked.double(), 0.5))
    return {**found, "mean_recall": sum(found.values()) / len(CUTS), "median_rank": middle}


def dual_softmax(similarity: Float[Tensor, "texts videos"], temperature: float = 0.01) -> Float[Tensor, "texts videos"]:
    """Similarities times the softmax over all texts for each video (an option of VALOR's public code).

    It needs all queries at once, which a search engine does not have, so figures with it are labelled as such.
    """
    return similarity * (similarity / temperature).softmax(dim=0)


def both_ranks(
    similarity: Float[Tensor, "texts videos"], video: Int[Tensor, " texts"]
) -> tuple[Int[Tensor, " texts"], Int[Tensor, " videos"]]:
    """The rank of each text's video, and the best rank among each video's texts, from 1.

    Only texts of other videos rank before a video's best text: its own ones do not, however alike they are.

    Args:
        similarity: Similarity of each text to each video.
        video: Column of each text's video; every video has a text.
    """
    own = video[:, None] == torch.arange(similarity.shape[1], device=video.device)
    best = similarity.masked_fill(~own, -torch.inf).amax(dim=0)
    return ranks(similarity, video), ((similarity >= best) & ~own).sum(dim=0) + 1
