"""A head for event localization: the cosine between a second's tokens and a vector of each class."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpea.labels import EventLabels
from avpea.options import require
from avpea.tasks import Dims, HeadOptions
from avpea.tasks.avel.heads import EventHead


@dataclass(frozen=True)
class CosineOptions(HeadOptions):
    """Options of the cosine head.

    Attributes:
        temperature: Cosines are divided by it before the softmax.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"head.temperature is {self.temperature}; expected a number above 0.")


class CosineHead(EventHead):
    """Both streams' CLS tokens side by side, compared with one trained vector for each class and for background."""

    Options = CosineOptions

    def __init__(self, dim: int, num_classes: int, audio_dim: int | None = None, temperature: float = 0.1) -> None:
        super().__init__(dim, num_classes, audio_dim)
        self.vectors = nn.Parameter(torch.randn(num_classes + 1, dim + (audio_dim or dim)))
        self.temperature = temperature

    @classmethod
    def build(cls, options: CosineOptions, dims: Dims, labels: EventLabels) -> "CosineHead":
        return cls(dims.visual, len(labels.class_names), dims.audio, options.temperature)

    def forward(self, visual: Tensor, visual_cls: Tensor, audio_cls: Tensor) -> Tensor:
        both = torch.cat((visual_cls, audio_cls), dim=-1)
        return F.normalize(both, dim=-1) @ F.normalize(self.vectors, dim=-1).T / self.temperature

    def loss(self, output: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(output.flatten(0, 1), labels.flatten())}

    def probabilities(self, output: Tensor) -> Tensor:
        return output.softmax(dim=-1)

    def decide(self, output: Tensor) -> Tensor:
        return output.argmax(dim=-1)
