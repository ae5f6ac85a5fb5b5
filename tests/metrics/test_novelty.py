"""Distances to class means that one can count."""

import pytest
import torch

from avpea.metrics.novelty import class_means, novelty


def test_distance_to_the_mean_of_the_given_class() -> None:
    rows = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 9.0]])
    means = class_means(rows, torch.tensor([0, 0, 2]), 3)
    assert means[0].tolist() == [1, 0]
    assert means[2].tolist() == [0, 9]
    assert means[1].tolist() == pytest.approx([2 / 3, 3])  # no row has class 1: the mean of all
    found = novelty(torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([0, 2]), means)
    assert found.tolist() == [2, 5]
    with pytest.raises(ValueError, match="no features"):
        class_means(rows[:0], torch.zeros(0, dtype=torch.int64), 3)
