"""How alike a text and a video are, token by token, and the loss that makes those alike that belong together.

VALOR (Chen et al., 2023; public code TXH-mercury/VALOR), its multimodal grouping alignment in the "fine" form.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["TokenWeights", "contrastive_loss", "fine_similarity", "gathered"]


class TokenWeights(nn.Module):
    """How much each token counts, before the softmax over a row's tokens: two linear layers with a ReLU.

    Args:
        dim: Width of the projected tokens (512 in VALOR).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, tokens: Float[Tensor, "rows tokens dim"]) -> Float[Tensor, "rows tokens"]:
        """One score for each token."""
        scores: Tensor = self.score(tokens).squeeze(-1)
        return scores


def fine_similarity(
    text: Float[Tensor, "texts words dim"],
    text_weights: Float[Tensor, "texts words"],
    there: Bool[Tensor, "texts words"],
    video: Float[Tensor, "videos tokens dim"],
    video_weights: Float[Tensor, "videos tokens"],
) -> Float[Tensor, "texts videos"]:
    """Of each text and video: half of what each word's best token gives, and half of each token's best word.

    S = 1/2 [sum_t w_t max_v s_tv + sum_v w_v max_t s_tv], s the dot products.

    Args:
        text: Projected words of unit length.
        text_weights: Of the words, 0 for padding.
        there: Which words are no padding.
        video: Projected tokens of unit length: CLS of each frame, of each second of sound, or of both in turn.
        video_weights: Of the tokens.
    """
    products = torch.einsum("twd,vkd->tvwk", text, video)
    by_word = (products.amax(dim=3) * text_weights[:, None]).sum(dim=2)
    masked = products.masked_fill(~there[:, None, :, None], -torch.inf)
    by_token = (masked.amax(dim=2) * video_weights[None]).sum(dim=2)
    return (by_word + by_token) / 2


def contrastive_loss(similarity: Float[Tensor, "pairs pairs"], temperature: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Symmetric InfoNCE: row i belongs to column i; the mean of both directions' cross-entropies."""
    logits = similarity / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def gathered(rows: Float[Tensor, "rows ..."]) -> Float[Tensor, "all_rows ..."]:
    """The rows of all processes, each with as many; gradients flow back to the process that a row is from.

    What differs in length (words) is padded with zeros to the longest. Without several processes, the rows themselves.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    from torch.distributed.nn.functional import all_gather

    longest = torch.tensor(rows.shape[1], device=rows.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    missing = int(longest) - rows.shape[1]
    rows = torch.cat((rows, rows.new_zeros(len(rows), missing, *rows.shape[2:])), dim=1) if missing else rows
    return torch.cat(all_gather(rows.contiguous()))  # type: ignore[no-untyped-call]
