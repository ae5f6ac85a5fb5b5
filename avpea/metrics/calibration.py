"""Calibration of probabilities: a temperature, and how far confidence is from accuracy.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "BINS",
    "NO_ANSWER",
    "Bin",
    "Reliability",
    "fit_temperature",
    "negative_log_likelihood",
    "reliability",
    "temper",
]

NO_ANSWER = -1  # the index of the right answer where no category is right
BINS = 10
LOWEST, HIGHEST = 0.2, 20.0  # bounds of a temperature
_SMALLEST = 1e-37  # in float32 the softmax of a sure model rounds to 0, whose logarithm is not finite


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in [from, to); the last bin includes its end.

    Attributes:
        start: Lowest confidence.
        stop: Highest confidence.
        confidence: Mean confidence.
        accuracy: Share of answers that are right.
        count: Number of answers.
    """

    start: float
    stop: float
    confidence: float
    accuracy: float
    count: int

    def to_dict(self) -> dict[str, float | int]:
        """Plain values."""
        values = asdict(self)
        return {"from": values.pop("start"), "to": values.pop("stop"), **values}


@dataclass(frozen=True)
class Reliability:
    """How far confidence is from accuracy.

    Attributes:
        expected_calibration_error: Mean distance of confidence and accuracy over the bins, by their answers; in [0, 1].
        bins: Bins of equal width that have answers, in order.
    """

    expected_calibration_error: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `evaluation-SPLIT.json`."""
        return {
            "expected_calibration_error": self.expected_calibration_error,
            "bins": [one.to_dict() for one in self.bins],
        }


def reliability(
    confidence: Float[Tensor, " answers"], correct: Bool[Tensor, " answers"], bins: int = BINS
) -> Reliability:
    """Expected calibration error over bins of equal width.

    Args:
        confidence: Confidence of each answer, in [0, 1].
        correct: Whether it is right.
        bins: Number of bins.

    Raises:
        ValueError: There are no answers.
    """
    if not len(confidence):
        raise ValueError("there are no answers, so their confidence has no error")
    sure = confidence.double()
    place = (sure * bins).floor().long().clamp(0, bins - 1)
    found = []
    for index in sorted(set(place.tolist())):
        own = place == index
        means = float(sure[own].mean()), float(correct[own].double().mean())
        found.append(Bin(index / bins, (index + 1) / bins, *means, int(own.sum())))
    error = sum(one.count * abs(one.confidence - one.accuracy) for one in found) / len(sure)
    return Reliability(error, tuple(found))


def temper(probabilities: Float[Tensor, "*rows categories"], temperature: float) -> Float[Tensor, "*rows categories"]:
    """Probabilities at a temperature: p^(1/T), normalised, which for a softmax is that of the logits divided by T.

    A temperature above 1 makes them less sure; the order of the categories stays.
    """
    if temperature == 1:
        return probabilities
    log = probabilities.double().clamp(min=_SMALLEST).log() / temperature
    return log.softmax(dim=-1).to(probabilities.dtype)


def negative_log_likelihood(
    probabilities: Float[Tensor, "answers categories"], truth: Int[Tensor, " answers"], temperature: float = 1.0
) -> float:
    """Mean of -log p of the right categories at a temperature."""
    log = (probabilities.double().clamp(min=_SMALLEST).log() / temperature).log_softmax(dim=-1)
    return -float(log.gather(1, truth[:, None]).mean())


def fit_temperature(probabilities: Float[Tensor, "answers categories"], truth: Int[Tensor, " answers"]) -> float:
    """The temperature in [0.2, 20] at which the right categories have the largest likelihood.

    The likelihood is convex in 1 / T, so that bisecting its derivative finds the one minimum.

    Args:
        probabilities: Probability of each category, for each answer.
        truth: Index of the right category.

    Raises:
        ValueError: There are no answers.
    """
    if not len(truth):
        raise ValueError("there are no answers to fit a temperature to")
    log = probabilities.double().clamp(min=_SMALLEST).log()
    own = log.gather(1, truth[:, None]).squeeze(1)

    def slope(temperature: float) -> float:
        """Derivative by 1 / T, which grows with it: mean log p under the model less that of the right categories."""
        return float(((log / temperature).softmax(dim=1) * log).sum(dim=1).sub(own).mean())

    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(60):
        middle = (low + high) / 2
        # A positive slope: a smaller 1 / T, that is a larger T, is better.
        low, high = (middle, high) if slope(math.exp(middle)) > 0 else (low, middle)
    return math.exp((low + high) / 2)
