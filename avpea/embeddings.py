"""Embeddings of the tokens of texts and videos, and their similarity.

VALOR (Chen et al., 2023; public code TXH-mercury/VALOR), its multimodal grouping alignment in the "fine" form.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Embeddings", "fine_similarity", "joined", "stacked"]


@dataclass(frozen=True)
class Embeddings:
    """Projected tokens of texts or of videos.

    Attributes:
        tokens: Projected tokens, of unit length.
        scores: Score of each token; a softmax over the tokens of a row gives their weights.
        mask: True for tokens that are not padding.
        padding_counts: Whether padding takes part in the maximum over the tokens, with a product of 0.
    """

    tokens: Float[Tensor, "rows tokens width"]
    scores: Float[Tensor, "rows tokens"]
    mask: Bool[Tensor, "rows tokens"]
    padding_counts: bool = False

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def weights(self) -> Float[Tensor, "rows tokens"]:
        """Weight of each token; the weights of a row sum to 1."""
        return self.scores.masked_fill(~self.mask, -torch.inf).softmax(dim=-1)

    def pooled(self) -> Float[Tensor, "rows width"]:
        """One vector of unit length for each row: the weighted mean of its tokens, normalised."""
        return F.normalize((self.weights[..., None] * self.tokens).sum(dim=1), dim=-1)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Embeddings":
        """Apply a function to tokens, scores and mask."""
        return Embeddings(change(self.tokens), change(self.scores), change(self.mask), self.padding_counts)

    def to(self, device: torch.device | str) -> "Embeddings":
        """Move to a device."""
        return self.each(lambda part: part.to(device))

    def __getitem__(self, rows: slice) -> "Embeddings":
        """Select rows."""
        return self.each(lambda part: part[rows])

    def similarity(self, videos: "Embeddings") -> Float[Tensor, "rows videos"]:
        """Similarity of each of these texts to each video."""
        given = self.tokens, self.weights, self.mask, videos.tokens, videos.weights, videos.mask
        return fine_similarity(*given, padding_counts=self.padding_counts)


def fine_similarity(
    text: Float[Tensor, "texts words dim"],
    text_weights: Float[Tensor, "texts words"],
    mask: Bool[Tensor, "texts words"],
    video: Float[Tensor, "videos tokens dim"],
    video_weights: Float[Tensor, "videos tokens"],
    video_mask: Bool[Tensor, "videos tokens"],
    *,
    padding_counts: bool = False,
) -> Float[Tensor, "texts videos"]:
    """Similarity of each text to each video, from each word's best token and each token's best word.

    S = 1/2 [sum_t w_t max_v s_tv + sum_v w_v max_t s_tv], where s are dot products.

    Args:
        text: Projected words of unit length.
        text_weights: Weights of the words, 0 for padding.
        mask: True for words that are not padding.
        video: Projected tokens of unit length: CLS of each frame, of each second of sound, or both, frames first.
        video_weights: Weights of the tokens, 0 for padding.
        video_mask: True for tokens that are not padding.
        padding_counts: Whether padding takes part in the maximum over words, with a product of 0, as in VALOR's public
            code; it then raises the score of a token that is unlike every word.
    """
    products = torch.einsum("twd,vkd->tvwk", text, video)
    of_video = products.masked_fill(~video_mask[None, :, None], -torch.inf)
    by_word = (of_video.amax(dim=3) * text_weights[:, None]).sum(dim=2)
    masked = products.masked_fill(~mask[:, None, :, None], 0.0 if padding_counts else -torch.inf)
    by_token = (masked.amax(dim=2) * video_weights[None]).sum(dim=2)
    return (by_word + by_token) / 2


def joined(first: Embeddings, second: Embeddings) -> Embeddings:
    """The tokens of both, concatenated row by row; their weights come from one softmax."""
    return _concatenated((first, second), dim=1)


def stacked(some: Sequence[Embeddings]) -> Embeddings:
    """One batch from single rows, padded on the right."""
    longest = max(one.scores.shape[1] for one in some)

    def padded(rows: Tensor) -> Tensor:
        return torch.cat((rows, rows.new_zeros(1, longest - rows.shape[1], *rows.shape[2:])), dim=1)

    return _concatenated([one.each(padded) for one in some], dim=0)


def _concatenated(some: Sequence[Embeddings], dim: int) -> Embeddings:
    return Embeddings(
        torch.cat([one.tokens for one in some], dim),
        torch.cat([one.scores for one in some], dim),
        torch.cat([one.mask for one in some], dim),
        some[0].padding_counts,
    )
