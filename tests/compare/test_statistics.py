"""The bootstrap against scipy's, and against what is known without it."""

import math

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from avpea.compare.statistics import mean_and_std, paired_bootstrap


def test_mean_and_std() -> None:
    assert mean_and_std([1.0, 2.0, 3.0]) == (2.0, 1.0)
    mean, std = mean_and_std([0.5])
    assert mean == 0.5
    assert math.isnan(std)


def test_one_seed_is_the_paired_bootstrap_over_videos() -> None:
    generator = np.random.default_rng(3)
    theirs = generator.random(60)
    ours = np.clip(theirs + 0.05 + 0.2 * generator.standard_normal(60), 0, 1)
    low, high = paired_bootstrap(ours[None], theirs[None])
    oracle = stats.bootstrap(
        (ours, theirs), lambda a, b, axis: (a - b).mean(axis=axis), paired=True, vectorized=True, n_resamples=10_000,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert low == pytest.approx(oracle.low, abs=0.004)
    assert high == pytest.approx(oracle.high, abs=0.004)


def test_seeds_that_differ_widen_the_interval() -> None:
    generator = np.random.default_rng(4)
    videos = generator.random(200)
    steady = np.tile(videos, (3, 1))
    shaken = steady + np.array([[-0.05], [0.0], [0.05]])
    narrow = paired_bootstrap(steady + 0.1, steady)
    wide = paired_bootstrap(shaken + 0.1, steady)
    assert narrow == pytest.approx((0.1, 0.1))  # every video gains as much
    assert wide[1] - wide[0] == pytest.approx(2 * 0.05, abs=0.01)  # all three draws alike: one time in 27


def test_the_same_draws_each_time_and_an_interval_that_knows_its_side() -> None:
    generator = np.random.default_rng(5)
    ours, theirs = generator.random((2, 3, 40))
    assert paired_bootstrap(ours, theirs) == paired_bootstrap(ours, theirs)
    low, high = paired_bootstrap(ours, theirs)
    assert (-high, -low) == pytest.approx(paired_bootstrap(theirs, ours), abs=0.02)
    assert low < (ours.mean() - theirs.mean()) < high
    tight = paired_bootstrap(ours, theirs, confidence=0.5)
    assert low < tight[0] < tight[1] < high


def test_coverage_is_about_what_it_says() -> None:
    """Videos drawn from a known world: the interval holds the true difference nearly as often as it claims."""
    generator = np.random.default_rng(6)
    hits = 0
    for _ in range(200):
        theirs = generator.random((1, 50))
        ours = theirs + 0.1 + 0.3 * generator.standard_normal((1, 50))
        low, high = paired_bootstrap(ours, theirs, draws=600)
        hits += low <= 0.1 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_videos_count_for_what_is_asked_of_them() -> None:
    # Two questions about the first video, none gained; one about the second, gained: 1/3, not 1/2.
    ours, theirs, asked = np.array([[0.0, 1.0]] * 2), np.array([[0.0, 0.0]] * 2), np.array([2, 1])
    low, high = paired_bootstrap(ours, theirs, asked)
    assert (low, high) == (0.0, 1.0)
    many = np.tile(ours, 200), np.tile(theirs, 200), np.tile(asked, 200)
    low, high = paired_bootstrap(*many)
    assert low < 1 / 3 < high
    assert high < 0.45


def test_groups_that_are_drawn_too_widen_the_interval() -> None:
    """Ten classes whose differences are their own: with them drawn anew, the error is that of ten values."""
    generator = np.random.default_rng(7)
    classes = np.repeat(np.arange(10), 40)
    theirs = generator.random((1, 400))
    of_class = 0.2 * generator.standard_normal(10)
    ours = theirs + of_class[classes]
    clips = paired_bootstrap(ours, theirs)
    drawn = paired_bootstrap(ours, theirs, groups=[[f"class {one}" for one in classes]])
    expected = stats.bootstrap((of_class,), np.mean, n_resamples=10_000, rng=np.random.default_rng(0))
    interval = expected.confidence_interval
    assert drawn[1] - drawn[0] == pytest.approx(interval.high - interval.low, rel=0.25)
    assert clips[1] - clips[0] < (drawn[1] - drawn[0]) / 3
    own = [list(range(400))]  # of each video by itself: a little wider, as everything is drawn twice
    twice = paired_bootstrap(ours, theirs, groups=own)
    assert twice[1] - twice[0] == pytest.approx((clips[1] - clips[0]) * 3**0.5, rel=0.15)
    few = paired_bootstrap(ours[:, :2], theirs[:, :2], groups=[[0, 1], [0, 1], [0, 1]])
    assert all(map(math.isfinite, few))
