"""Mean and deviation over seeds, and a paired bootstrap interval over test videos and seeds."""

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
    """Percentile interval of the difference in mean accuracy, `ours` minus `theirs`, on the same test videos.

    Each bootstrap sample draws videos with replacement, the same ones for both, and seeds separately for each: the
    interval covers the variance of the test set and of training, the latter only roughly if seeds are few. With one
    seed each it is the ordinary paired bootstrap over videos.

    Args:
        ours: Share of correct answers for each test video, one row per seed.
        theirs: The same for the other row of the comparison, with the same videos as columns.
        asked: Weight of each video, such as its number of questions; None weighs all videos equally.
        draws: Number of bootstrap samples.
        confidence: Share of the samples inside the interval.
        seed: Random seed.
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
