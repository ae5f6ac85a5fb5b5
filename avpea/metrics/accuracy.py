"""Accuracies of event localization: pure functions of answers and labels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["confusion_matrix", "per_class_accuracy", "segment_accuracy"]


def segment_accuracy(answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"]) -> float:
    """Share of seconds answered rightly, background included (the AVE protocol), in [0, 1]."""
    return float((answers == labels).double().mean())


def confusion_matrix(
    answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"], categories: int
) -> Int[Tensor, "categories categories"]:
    """Number of seconds by annotated category (row) and answered category (column)."""
    pairs = labels.flatten() * categories + answers.flatten()
    return torch.bincount(pairs, minlength=categories * categories).view(categories, categories)


def per_class_accuracy(confusion: Int[Tensor, "categories categories"]) -> Float[Tensor, " categories"]:
    """Share of each annotated category's seconds answered rightly; NaN for a category without seconds."""
    return confusion.diagonal().double() / confusion.sum(dim=1)
