"""What every head for event localization is: tokens of both streams to an answer for each second."""

from abc import abstractmethod
from typing import Any, Self

from jaxtyping import Float, Int
from torch import Tensor

from avpea.labels import EventLabels
from avpea.tasks import Dims, Head, HeadOptions

__all__ = ["EventHead"]


class EventHead(Head):
    """A head for event localization; what `forward` answers is its own affair.

    A segment is one second; category `num_classes` is background.

    Args:
        dim: Width of the visual tokens.
        num_classes: Event categories, background not counted.
        audio_dim: Width of the audio tokens; None means `dim`.
    """

    @abstractmethod
    def __init__(self, dim: int, num_classes: int, audio_dim: int | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes

    @classmethod
    def build(cls, options: HeadOptions, dims: Dims, labels: EventLabels) -> Self:
        """A new head for the classes; one with options of its own overrides this."""
        return cls(dims.visual, len(labels.class_names), dims.audio)

    @abstractmethod
    def forward(
        self,
        visual: Float[Tensor, "batch segments patches dim"],
        visual_cls: Float[Tensor, "batch segments dim"],
        audio_cls: Float[Tensor, "batch segments audio_dim"],
    ) -> Any:
        """From the patch tokens of the frames and the CLS tokens of both streams."""

    @abstractmethod
    def loss(self, output: Any, labels: Int[Tensor, "batch segments"]) -> dict[str, Float[Tensor, ""]]:
        """Named terms; the total is their sum."""

    @abstractmethod
    def probabilities(self, output: Any) -> Float[Tensor, "batch segments categories"]:
        """Of each category in each segment; the last one is background, and they sum to 1."""

    @abstractmethod
    def decide(self, output: Any) -> Int[Tensor, "batch segments"]:
        """The answered category of each segment."""
