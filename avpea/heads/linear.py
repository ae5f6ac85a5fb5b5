"""LAVISH's head: two linear layers on the CLS tokens of both streams."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["LinearHead"]


class LinearHead(nn.Module):
    """Linear(2D -> 512), Linear(512 -> classes + background), with nothing between (public code GenjiB/LAVISH).

    801,821 parameters with 28 classes and D = 768, 1,063,965 with D = 1024.

    Args:
        dim: Width of the tokens.
        num_classes: Event categories, background not counted.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.hidden = nn.Linear(2 * dim, 512)
        self.classes = nn.Linear(512, num_classes + 1)

    def forward(
        self,
        visual: Float[Tensor, "batch segments patches dim"],
        visual_cls: Float[Tensor, "batch segments dim"],
        audio_cls: Float[Tensor, "batch segments dim"],
    ) -> Float[Tensor, "batch segments categories"]:
        """Logits of each second by itself; the patches are not used."""
        logits: Tensor = self.classes(self.hidden(torch.cat((audio_cls, visual_cls), dim=-1)))
        return logits

    def loss(
        self, output: Float[Tensor, "batch segments categories"], labels: Int[Tensor, "batch segments"]
    ) -> dict[str, Tensor]:
        """Binary cross-entropy of the softmax against the one-hot label, mean over all entries, as in LAVISH."""
        target = F.one_hot(labels, self.num_classes + 1).to(output.dtype)
        log_p = output.log_softmax(dim=-1)
        # log(1 - p) without the cancellation near p = 1: the other classes' share of the softmax.
        others = torch.eye(self.num_classes + 1, dtype=torch.bool, device=output.device)
        log_not_p = log_p[..., None, :].masked_fill(others, -torch.inf).logsumexp(dim=-1)
        return {"cross_entropy": -(target * log_p + (1 - target) * log_not_p).mean()}

    def probabilities(
        self, output: Float[Tensor, "batch segments categories"]
    ) -> Float[Tensor, "batch segments categories"]:
        """Of each category in each second; the last one is background."""
        return output.softmax(dim=-1)

    def decide(self, output: Float[Tensor, "batch segments categories"]) -> Int[Tensor, "batch segments"]:
        """The most probable category of each second."""
        return output.argmax(dim=-1)
