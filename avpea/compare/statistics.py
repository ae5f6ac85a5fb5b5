"""Mean and deviation over seeds, and a paired bootstrap interval over test videos and seeds."""

import math
import statistics
from collections.abc import Hashable, Sequence

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
    groups: Sequence[Sequence[Hashable]] = (),
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
        groups: Further things that are drawn anew, such as classes and source recordings, each as the group of each
            video: a video's weight is the product of how often it and its groups were drawn (the pigeonhole bootstrap
            of Owen, 2007). The interval then is about other classes and sources too, and not only about other clips
            of these.
        draws: Number of bootstrap samples.
        confidence: Share of the samples inside the interval.
        seed: Random seed.
    """
    generator = np.random.default_rng(seed)
    videos = ours.shape[1]
    counts = np.ones(videos) if asked is None else asked
    differences: list[Float[np.ndarray, " some_draws"]] = []
    for start in range(0, draws, 1000):
        some = min(1000, draws - start)
        weights = generator.multinomial(videos, np.full(videos, 1 / videos), size=some) * counts
        for group in groups:
            names, of_video = np.unique(np.array([str(one) for one in group]), return_inverse=True)
            chance = np.full(len(names), 1 / len(names))
            weights = weights * generator.multinomial(len(names), chance, size=some)[:, of_video]
        weights = weights[weights.any(axis=1)]  # few groups may be drawn so that no video is left
        weights = weights / weights.sum(axis=1, keepdims=True)
        sides = []
        for side in (ours, theirs):
            seeds = len(side)
            drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(weights)) / seeds
            sides.append(np.einsum("ds,sv,dv->d", drawn, side, weights, optimize=True))
        differences.append(sides[0] - sides[1])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(differences), [tail, 1 - tail])
    return float(low), float(high)
