"""Temperature and calibration error against plain formulas and another optimiser."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize  # type: ignore[import-untyped]

from avpea.metrics.calibration import fit_temperature, negative_log_likelihood, reliability, temper


def made_up(seed: int, scale: float, rows: int = 400, categories: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of which `scale` = 1 would be right, times `scale`, and answers drawn from the right ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, categories, generator=generator, dtype=torch.float64)
    return scale * logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0, 8.0])
def test_the_temperature_is_the_one_of_the_highest_likelihood(scale: float) -> None:
    logits, truth = made_up(0, scale)

    def loss(temperature: float) -> float:
        log = logits.numpy() / temperature
        log = log - np.log(np.exp(log).sum(axis=1, keepdims=True))
        return -float(log[np.arange(len(truth)), truth.numpy()].mean())

    best = optimize.minimize_scalar(loss, bounds=(0.2, 20), method="bounded", options={"xatol": 1e-9}).x
    found = fit_temperature(logits.softmax(dim=1), truth)
    assert found == pytest.approx(best, rel=1e-5)
    assert found == pytest.approx(scale, rel=0.15)
    assert negative_log_likelihood(logits.softmax(dim=1), truth, found) == pytest.approx(loss(best))


def test_a_temperature_is_bounded() -> None:
    sure = torch.tensor([[0.99, 0.01], [0.98, 0.02]])
    assert fit_temperature(sure, torch.tensor([0, 0])) == pytest.approx(0.2)  # all right: no temperature is too low
    assert fit_temperature(sure, torch.tensor([1, 1])) == pytest.approx(20)
    with pytest.raises(ValueError, match="no answers"):
        fit_temperature(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))


def test_tempering_divides_the_logits() -> None:
    logits, _ = made_up(1, 2.0)
    for temperature in (0.5, 1.0, 3.0):
        expected = (logits / temperature).softmax(dim=1)
        torch.testing.assert_close(temper(logits.softmax(dim=1), temperature), expected)
        torch.testing.assert_close(
            temper(temper(logits.softmax(dim=1), temperature), 1 / temperature), logits.softmax(1)
        )
    one = temper(torch.tensor([[1.0, 0.0, 0.0]]), 2.0)  # a softmax that was rounded to 0
    assert one.isfinite().all()
    assert float(one.sum()) == pytest.approx(1)
    assert one.argmax() == 0


def test_calibration_error_is_the_plain_sum() -> None:
    generator = torch.Generator().manual_seed(2)
    confidence = torch.rand(500, generator=generator)
    confidence[:3] = torch.tensor([0.0, 0.5, 1.0])  # the edges of bins
    correct = torch.rand(500, generator=generator) < confidence**2
    total = 0.0
    for index in range(10):
        low, high = index / 10, (index + 1) / 10
        own = [
            (c, r) for c, r in zip(confidence.tolist(), correct.tolist(), strict=True)
            if low <= c < high or (index == 9 and c == 1)
        ]  # fmt: skip
        if own:
            total += abs(sum(c for c, _ in own) - sum(r for _, r in own))
    found = reliability(confidence, correct)
    assert found.expected_calibration_error == pytest.approx(total / 500)
    assert sum(one.count for one in found.bins) == 500
    assert found.to_dict()["bins"][0].keys() == {"from", "to", "confidence", "accuracy", "count"}


def test_calibration_error_that_one_can_count() -> None:
    found = reliability(torch.tensor([0.8, 0.8, 0.3]), torch.tensor([True, False, False]))
    assert [(one.start, one.accuracy, one.count) for one in found.bins] == [(0.3, 0.0, 1), (0.8, 0.5, 2)]
    assert found.expected_calibration_error == pytest.approx((2 * 0.3 + 0.3) / 3)
    with pytest.raises(ValueError, match="no answers"):
        reliability(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    assert math.isclose(reliability(torch.ones(2), torch.tensor([True, True])).expected_calibration_error, 0.0)
