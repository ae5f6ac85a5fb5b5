"""Base of the heads that can weigh each second by how rare its category is, and that can do without the sound."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.options import require_choice
from avpea.tasks import HeadOptions
from avpea.tasks.avel.heads._base import EventHead

__all__ = ["WeightedHead", "WeightedOptions"]

Reads = Literal["both", "visual"]


@dataclass(frozen=True)
class WeightedOptions(HeadOptions):
    """Options of heads that can weigh categories, and that can read the visual stream alone.

    Attributes:
        reads: The streams whose tokens the head reads. With `visual`, whatever it knows of the sound came through the
            adapters' exchange, and it has no weights for the sound's tokens.
        class_weights: Weight of a second in the loss. `none`: all the same; `balanced`: inversely proportional to the
            number of training seconds of its category (background is one), so that rare classes count as much as
            frequent ones.
    """

    reads: Reads = "both"
    class_weights: Literal["none", "balanced"] = "none"


class WeightedHead(EventHead):
    """A head whose output are logits of the categories in each second.

    Args:
        dim: Width of the visual tokens.
        num_classes: Number of event classes, without background.
        audio_dim: Width of the audio tokens; None means `dim`.
        balanced: Whether seconds are weighted by the frequency of their category in training.
        reads: The streams whose tokens it uses.
    """

    Options = WeightedOptions
    weights: Float[Tensor, " categories"]

    def __init__(
        self,
        dim: int,
        num_classes: int,
        audio_dim: int | None = None,
        balanced: bool = False,
        reads: Reads = "both",
    ) -> None:
        require_choice("reads", reads, Reads)
        super().__init__(dim, num_classes, audio_dim)
        self.balanced, self.reads = balanced, reads
        # Only for the loss, so no part of a checkpoint.
        self.register_buffer("weights", torch.ones(num_classes + 1), persistent=False)

    def prepare(self, seconds: Int[Tensor, " categories"]) -> None:
        """With `balanced`, weigh each category by N / (K n): N seconds in all, n of it, K categories that have any."""
        if self.balanced:
            weights = seconds.sum() / ((seconds > 0).sum() * seconds.clamp(min=1))
            self.weights = weights.to(self.weights)

    def weighted(self, losses: Tensor, labels: Int[Tensor, "batch segments"]) -> Tensor:
        """The losses of the seconds, weighted."""
        if not self.balanced:
            return losses
        weights = self.weights[labels]
        return losses * weights.reshape(*weights.shape, *[1] * (losses.ndim - weights.ndim))

    def probabilities(self, output: Any) -> Float[Tensor, "batch segments categories"]:
        """The softmax of the logits."""
        chances: Tensor = output.softmax(dim=-1)
        return chances

    def decide(self, output: Any) -> Int[Tensor, "batch segments"]:
        """The most probable category of each segment."""
        best: Tensor = output.argmax(dim=-1)
        return best
