"""A linear layer on the mean CLS tokens of a video."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpea.labels import EventLabels
from avpea.tasks import Dims, Head, HeadOptions

__all__ = ["EXTENSION", "ClipLinear"]


@dataclass(frozen=True)
class ClipLinearOptions(HeadOptions):
    """Options of the head.

    Attributes:
        dropout: Of the mean tokens.
    """

    dropout: float = 0.0


class ClipLinear(Head):
    """Linear(D + D' -> classes)."""

    Options = ClipLinearOptions

    def __init__(self, dims: Dims, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(dims.visual + dims.audio, classes)

    @classmethod
    def build(cls, options: ClipLinearOptions, dims: Dims, labels: EventLabels) -> "ClipLinear":
        """A new head for the classes."""
        return cls(dims, len(labels.class_names), options.dropout)

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Logits (videos, classes) from CLS tokens (videos, segments, dim) of both streams."""
        logits: Tensor = self.classes(self.dropout(torch.cat((seen, heard), dim=-1).mean(dim=1)))
        return logits

    def loss(self, output: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy."""
        return {"cross_entropy": F.cross_entropy(output, labels)}


EXTENSION = ClipLinear
