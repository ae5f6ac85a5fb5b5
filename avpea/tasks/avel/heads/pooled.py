"""A regularised head for few clips: CLS token and mean of the patches of both streams, for each segment separately."""

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea.labels import EventLabels
from avpea.options import require
from avpea.tasks import Dims, Encoded
from avpea.tasks.avel.heads._weighted import WeightedHead, WeightedOptions

__all__ = ["EXTENSION", "PooledHead", "PooledOptions"]


@dataclass(frozen=True)
class PooledOptions(WeightedOptions):
    """Options of the pooled head.

    Attributes:
        hidden: Width between its two linear layers.
        dropout: Share of the pooled values that are zeroed in training.
        label_smoothing: Share of a second's label that is spread evenly over all categories.
    """

    hidden: int = 256
    dropout: float = 0.3
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self.hidden >= 1, f"head.hidden is {self.hidden}; expected 1 or more.")
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            require(0 <= value < 1, f"head.{name} is {value}; expected a share from 0 to below 1.")


class PooledHead(WeightedHead):
    """Linear(2 D + 2 D' -> hidden), Linear(hidden -> classes + 1) on normalised CLS tokens and means of the patches.

    Each of the four vectors of a second has its own LayerNorm, and dropout follows. The mean of the patches is what the
    CLS token of a frozen network leaves out; with few clips it helps most in the audio stream (docs/own-videos.md).
    If it reads the visual stream alone, there are two vectors and Linear(2 D -> hidden).

    Args:
        dim: Width D of the visual tokens.
        num_classes: Number of event classes, without background.
        audio_dim: Width D' of the audio tokens; None means `dim`.
        options: Options of the head.
    """

    Options = PooledOptions

    def __init__(
        self, dim: int, num_classes: int, audio_dim: int | None = None, options: PooledOptions | None = None
    ) -> None:
        self.options = options or PooledOptions()
        super().__init__(dim, num_classes, audio_dim, self.options.class_weights == "balanced", self.options.reads)
        heard = [audio_dim or dim] * 2 if self.reads == "both" else []
        widths = [*heard, dim, dim]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.dropout = nn.Dropout(self.options.dropout)
        self.hidden = nn.Linear(sum(widths), self.options.hidden)
        self.classes = nn.Linear(self.options.hidden, num_classes + 1)

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: EventLabels) -> Self:
        """Build a head for the classes."""
        return cls(dims.visual, len(labels.class_names), dims.audio, options)

    def read(self, encoded: Encoded) -> Float[Tensor, "batch segments categories"]:
        """The logits, with the mean of each second's audio patches."""
        patches = encoded.sounds[:, :, encoded.num_prefix_tokens :]
        heard = patches.mean(dim=2) if patches.shape[2] else None  # VGGish has a single token
        logits: Tensor = self(encoded.patches, encoded.visual_cls, encoded.audio_cls, heard)
        return logits

    def forward(
        self,
        visual: Float[Tensor, "batch segments patches dim"],
        visual_cls: Float[Tensor, "batch segments dim"],
        audio_cls: Float[Tensor, "batch segments audio_dim"],
        audio_mean: Float[Tensor, "batch segments audio_dim"] | None = None,
    ) -> Float[Tensor, "batch segments categories"]:
        """Logits of each category, background last; without `audio_mean` the CLS token stands for it too."""
        heard = (audio_cls, audio_cls if audio_mean is None else audio_mean) if self.reads == "both" else ()
        pooled = (*heard, visual_cls, visual.mean(dim=2))
        joined = torch.cat([norm(one) for norm, one in zip(self.norms, pooled, strict=True)], dim=-1)
        logits: Tensor = self.classes(self.hidden(self.dropout(joined)))
        return logits

    def loss(
        self, output: Float[Tensor, "batch segments categories"], labels: Int[Tensor, "batch segments"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy over the seconds."""
        smoothing = self.options.label_smoothing
        losses = F.cross_entropy(output.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing)
        return {"cross_entropy": self.weighted(losses.reshape(labels.shape), labels).mean()}


EXTENSION = PooledHead
