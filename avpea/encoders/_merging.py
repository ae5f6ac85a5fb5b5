"""Token merging, ToMe (Bolya et al., ICLR 2023): blocks that pass on fewer tokens, with nothing trained.

Within a block, after its attention, tokens alternate between two sets; each of the first finds the most similar one of
the second, by the cosine of their attention keys, and the r most similar pairs become the mean of the tokens that they
stand for. CLS and registers are spared. Attention is proportional: a token that stands for s others counts s times.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avpea.backbones import Transformer
from avpea.errors import ExperimentError

__all__ = ["Merged", "merge_tokens", "require_merging"]


class Merged(NamedTuple):
    """What has become of the tokens of one stream.

    Attributes:
        sizes: How many of the original tokens each token stands for.
        sources: For each original token, the index of the token that stands for it.
    """

    sizes: Int[Tensor, "images tokens"]
    sources: Int[Tensor, "images original"]

    @classmethod
    def none(cls, tokens: Float[Tensor, "images tokens dim"]) -> "Merged":
        """Before anything is merged."""
        images, count = tokens.shape[:2]
        each = torch.arange(count, dtype=torch.int16, device=tokens.device)
        return cls(torch.ones_like(each).expand(images, -1), each.expand(images, -1))

    def bias(self, dtype: torch.dtype) -> Float[Tensor, "images 1 1 tokens"] | None:
        """What proportional attention adds to the logits: the sizes' logarithms; None before anything is merged."""
        if self.sizes.shape == self.sources.shape:
            return None
        wide = torch.promote_types(dtype, torch.float32)
        return self.sizes.to(wide).log().to(dtype)[:, None, None]

    def spread(self, tokens: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images original dim"]:
        """A token for each original one: the one that stands for it."""
        if self.sizes.shape == self.sources.shape:
            return tokens
        return tokens.gather(1, self.sources.long()[..., None].expand(-1, -1, tokens.shape[-1]))


def require_merging(backbone: Transformer, reader: str = "") -> None:
    """Refuse a transformer whose tokens cannot be merged.

    Args:
        backbone: The transformer.
        reader: Name of the adapter that reads the outputs of several blocks token by token, if one does.

    Raises:
        ExperimentError: Its blocks depend on where a token is, by rotary positions or windows, or there is a `reader`.
    """
    if reader:
        raise ExperimentError(
            f"encoder.merge_visual and encoder.merge_audio merge tokens, but adapter.name '{reader}' reads the same "
            "tokens after several blocks; leave them at 0, or choose an adapter that stands beside, such as 'av_pea'."
        )
    if not all(hasattr(block, "attend_with_keys") for block in backbone.blocks):
        raise ExperimentError(
            f"encoder.merge_visual and encoder.merge_audio merge tokens, but the blocks of '{backbone.name}' have "
            "rotary positions or windows, in which each token keeps its place; leave them at 0, or name a plain ViT."
        )


def merge_tokens(
    tokens: Float[Tensor, "images tokens dim"],
    keys: Float[Tensor, "images tokens key_dim"],
    merged: Merged,
    count: int,
    spared: int,
) -> tuple[Float[Tensor, "images fewer_tokens dim"], Merged]:
    """Merge the most similar tokens of each image.

    Args:
        tokens: The tokens.
        keys: What similarity is measured by: the attention's keys, the mean of all heads.
        merged: What the tokens stand for.
        count: How many tokens to merge into others, r; at most half of those that may be.
        spared: Number of tokens at the start that are left alone.
    """
    total = tokens.shape[1]
    count = min(count, (total - spared) // 2)
    if count <= 0:
        return tokens, merged
    with torch.no_grad():
        target = _targets(keys, count, spared)
        assignment = F.one_hot(target, total - count).transpose(1, 2)  # images, fewer tokens, tokens
        weights = assignment * merged.sizes[:, None]
        sizes = weights.sum(dim=-1)
        wide = torch.promote_types(tokens.dtype, torch.float32)
        shares = (weights.to(wide) / sizes[..., None]).to(tokens.dtype)
        sources = target.gather(1, merged.sources.long()).to(torch.int16)
    return shares @ tokens, Merged(sizes.to(torch.int16), sources)


def _targets(keys: Tensor, count: int, spared: int) -> Int[Tensor, "images tokens"]:
    """For each token the index of the one that it is afterwards.

    The spared ones come first, then those of the first set that are left, then the second set, each in their order.
    """
    images, total = keys.shape[:2]
    first, second = torch.arange(0, total, 2, device=keys.device), torch.arange(1, total, 2, device=keys.device)
    keys = F.normalize(keys.float(), dim=-1)
    free = (first >= spared)[:, None] & (second >= spared)
    similar = (keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)).masked_fill(~free, -torch.inf)
    best, partner = similar.max(dim=-1)
    gone = best.argsort(dim=-1, descending=True, stable=True)[:, :count]  # of the first set
    stays = torch.ones_like(best, dtype=torch.bool).scatter_(1, gone, False)
    # Sorted by this, the tokens that are left are in their new order. The first set comes before the second here, and
    # no strided slice is assigned to: a graph for ONNX needs a dozen operators for one.
    ranks = (
        torch.where(first < spared, first, total + first).masked_fill(~stays, 4 * total),
        torch.where(second < spared, second, 2 * total + second).expand(images, -1),
    )
    place = torch.cat(ranks, dim=1).argsort(dim=-1).argsort(dim=-1)
    of_first, of_second = place[:, : len(first)], place[:, len(first) :]
    moved = of_second.gather(1, partner.gather(1, gone))
    of_each = torch.cat((of_first.scatter(1, gone, moved), of_second), dim=1)
    return of_each[:, torch.cat((first, second)).argsort()]
