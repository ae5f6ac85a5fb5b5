"""The head of tagging: the mean of both streams over the video, and a linear layer."""

import torch
from torch import Tensor, nn

from avpea.labels import EventLabels
from avpea.tasks import Dims, Head, HeadOptions


class TagHead(Head):
    """One logit for each class."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Linear(dim, num_classes)

    @classmethod
    def build(cls, options: HeadOptions, dims: Dims, labels: EventLabels) -> "TagHead":
        return cls(dims.visual + dims.audio, len(labels.class_names))

    def forward(self, visual_cls: Tensor, audio_cls: Tensor) -> Tensor:
        return self.classes(torch.cat((visual_cls.mean(dim=1), audio_cls.mean(dim=1)), dim=-1))
