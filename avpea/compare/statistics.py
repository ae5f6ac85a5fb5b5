"""What seeds and test videos allow to be said: mean and deviation, and a paired bootstrap interval."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped

__all__ = ["mean_and_std", "paired_bootstrap"]


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN for the deviation of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def paired_bootstrap(
    ours: Float[np.ndarray, "our_seeds videos"],
    theirs: Float[np.ndarray, "their_seeds videos"],
    asked: Shaped[np.ndarray, " videos"] | None = None,
    *,
    draws: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the difference in mean accuracy, ours less theirs, on the same test videos.

    In each draw the videos are drawn with replacement, the same ones for both sides, and so are the seeds of each
    side: the interval holds the luck of the test set and the luck of training. With few seeds the latter is known
    only roughly. With one seed on each side it is the plain paired bootstrap over videos.

    Args:
        ours: Share of right answers of each test video, a row for each seed.
        theirs: The same of what we compare with; columns are the same videos.
        asked: Answers of each video, which its share counts for (questions); None: all videos alike.
        draws: Bootstrap samples.
        confidence: Share of the draws inside the interval.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    videos = ours.shape[1]
    counts = np.ones(videos) if asked is None else asked
    differences = np.empty(draws)
    for start in range(0, draws, 1000):
        some = min(1000, draws - start)
        weights = generator.multinomial(videos, np.full(videos, 1 / videos), size=some) * counts
        weights = weights / weights.sum(axis=1, keepdims=True)
        sides = []
        for side in (ours, theirs):
            seeds = len(side)
            drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=some) / seeds
            sides.append(np.einsum("ds,sv,dv->d", drawn, side, weights, optimize=True))
        differences[start : start + some] = sides[0] - sides[1]
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)
