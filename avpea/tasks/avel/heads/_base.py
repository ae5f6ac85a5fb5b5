"""Base of the heads for event localization, which classify each second from the tokens of both streams."""

from abc import abstractmethod
from typing import Any, Literal, Self

from jaxtyping import Float, Int
from torch import Tensor

from avpea.labels import EventLabels
from avpea.tasks import Dims, Encoded, Head

__all__ = ["EventHead"]


class EventHead(Head):
    """A head for event localization; each head chooses the type of its output.

    A segment is one second; category `num_classes` is background.

    Attributes:
        reads: The streams whose tokens it uses: `both`, or `visual` alone.

    Args:
        dim: Width of the visual tokens.
        num_classes: Number of event classes, without background.
        audio_dim: Width of the audio tokens; None means `dim`.
    """

    reads: Literal["both", "visual"] = "both"

    @abstractmethod
    def __init__(self, dim: int, num_classes: int, audio_dim: int | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: EventLabels) -> Self:
        """Build a head for the classes; heads with their own options override this."""
        return cls(dims.visual, len(labels.class_names), dims.audio)

    def prepare(self, seconds: Int[Tensor, " categories"]) -> None:
        """Take the number of training seconds of each category, before training; by default it is not used."""

    def read(self, encoded: Encoded) -> Any:
        """The output, from the tokens of a batch of videos; heads that use more than `forward` takes override this."""
        return self(encoded.patches, encoded.visual_cls, encoded.audio_cls)

    @abstractmethod
    def forward(
        self,
        visual: Float[Tensor, "batch segments patches dim"],
        visual_cls: Float[Tensor, "batch segments dim"],
        audio_cls: Float[Tensor, "batch segments audio_dim"],
    ) -> Any:
        """The output, from the patch tokens of the frames and the CLS tokens of both streams."""

    @abstractmethod
    def loss(self, output: Any, labels: Int[Tensor, "batch segments"]) -> dict[str, Float[Tensor, ""]]:
        """Loss terms by name; the total is their sum."""

    @abstractmethod
    def probabilities(self, output: Any) -> Float[Tensor, "batch segments categories"]:
        """Probability of each category in each segment; the last is background, and they sum to 1."""

    @abstractmethod
    def decide(self, output: Any) -> Int[Tensor, "batch segments"]:
        """Predicted category of each segment."""
