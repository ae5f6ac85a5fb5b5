"""LAVISH's head: two linear layers on the CLS tokens of both streams, for each segment separately."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea.tasks.avel.heads._base import EventHead

__all__ = ["LinearHead"]


class LinearHead(EventHead):
    """Linear(D + D' -> 512), Linear(512 -> classes + 1), with nothing between them (public code GenjiB/LAVISH).

    With 28 classes it has 801,821 parameters (D = D' = 768) or 1,063,965 (1024).

    Args:
        dim: Width D of the visual tokens.
        num_classes: Number of event classes, without background.
        audio_dim: Width D' of the audio tokens; None means `dim`.
    """

    def __init__(self, dim: int, num_classes: int, audio_dim: int | None = None) -> None:
        super().__init__(dim, num_classes, audio_dim)
        self.hidden = nn.Linear(dim + (audio_dim or dim), 512)
        self.classes = nn.Linear(512, num_classes + 1)

    def forward(
        self,
        visual: Float[Tensor, "batch segments patches dim"],
        visual_cls: Float[Tensor, "batch segments dim"],
        audio_cls: Float[Tensor, "batch segments audio_dim"],
    ) -> Float[Tensor, "batch segments categories"]:
        """Logits of each category, background last; the patch tokens are not used."""
        logits: Tensor = self.classes(self.hidden(torch.cat((audio_cls, visual_cls), dim=-1)))
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
        return {"cross_entropy": -torch.where(own[labels], log_p, log_not_p).mean()}

    def probabilities(
        self, output: Float[Tensor, "batch segments categories"]
    ) -> Float[Tensor, "batch segments categories"]:
        """The softmax of the logits."""
        return output.softmax(dim=-1)

    def decide(self, output: Float[Tensor, "batch segments categories"]) -> Int[Tensor, "batch segments"]:
        """The most probable category of each segment."""
        return output.argmax(dim=-1)
