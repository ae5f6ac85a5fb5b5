"""LAVISH's head: two linear layers on the CLS tokens of both streams, or of one, for each segment separately."""

from typing import Any, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea.labels import EventLabels
from avpea.tasks import Dims
from avpea.tasks.avel.heads._weighted import WeightedHead

__all__ = ["LinearHead"]


class LinearHead(WeightedHead):
    """Linear(D + D' -> 512), Linear(512 -> classes + 1), with nothing between them (public code GenjiB/LAVISH).

    With 28 classes it has 801,821 parameters (D = D' = 768) or 1,063,965 (1024). If it reads the visual stream alone,
    the first layer is Linear(D -> 512), with 512 D' parameters less.

    Args:
        dim: Width D of the visual tokens.
        num_classes: Number of event classes, without background.
        audio_dim: Width D' of the audio tokens; None means `dim`.
        balanced: Whether seconds are weighted by the frequency of their category in training.
        reads: The streams whose CLS tokens it uses.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        audio_dim: int | None = None,
        balanced: bool = False,
        reads: Literal["both", "visual"] = "both",
    ) -> None:
        super().__init__(dim, num_classes, audio_dim, balanced, reads)
        self.hidden = nn.Linear(dim + (audio_dim or dim) if reads == "both" else dim, 512)
        self.classes = nn.Linear(512, num_classes + 1)

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: EventLabels) -> Self:
        """Build a head for the classes."""
        balanced = options.class_weights == "balanced"
        return cls(dims.visual, len(labels.class_names), dims.audio, balanced, options.reads)

    def forward(
        self,
        visual: Float[Tensor, "batch segments patches dim"],
        visual_cls: Float[Tensor, "batch segments dim"],
        audio_cls: Float[Tensor, "batch segments audio_dim"],
    ) -> Float[Tensor, "batch segments categories"]:
        """Logits of each category, background last; the patch tokens are not used."""
        joined = torch.cat((audio_cls, visual_cls), dim=-1) if self.reads == "both" else visual_cls
        logits: Tensor = self.classes(self.hidden(joined))
        return logits

    def loss(
        self, output: Float[Tensor, "batch segments categories"], labels: Int[Tensor, "batch segments"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Binary cross-entropy of the softmax against the one-hot label, mean over all entries, as in LAVISH.

        Computed from the logits, so that it keeps value and gradient where a probability rounds to 0 or 1;
        there PyTorch's `BCELoss`, which LAVISH uses, clamps the logarithm at -100.
        """
        own = torch.eye(self.num_classes + 1, dtype=torch.bool, device=output.device)
        log_p = output.log_softmax(dim=-1)
        log_not_p = log_p[..., None, :].masked_fill(own, -torch.inf).logsumexp(dim=-1)  # log of all the others
        return {"cross_entropy": self.weighted(-torch.where(own[labels], log_p, log_not_p), labels).mean()}
