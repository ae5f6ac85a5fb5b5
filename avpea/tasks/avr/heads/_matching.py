"""Token weights, and the contrastive loss of texts and videos.

VALOR (Chen et al., 2023; public code TXH-mercury/VALOR), its multimodal grouping alignment in the "fine" form.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["TokenWeights", "contrastive_loss"]


class TokenWeights(nn.Module):
    """Scores of tokens before the softmax over a row: two linear layers with a ReLU between.

    Args:
        dim: Width of the projected tokens (512 in VALOR).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, tokens: Float[Tensor, "rows tokens dim"]) -> Float[Tensor, "rows tokens"]:
        """A score for each token."""
        scores: Tensor = self.score(tokens).squeeze(-1)
        return scores


def contrastive_loss(similarity: Float[Tensor, "pairs pairs"], temperature: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Symmetric InfoNCE: row i belongs to column i; the mean of both directions' cross-entropies."""
    logits = similarity / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
