"""The parts of MGN: transformer blocks, and blocks that group the tokens of a stream by group tokens."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.drop import DropPath
from torch import Tensor, nn

__all__ = ["HEADS", "TOKEN_WIDTH", "WIDTH", "AttentionBlock", "GroupingBlock"]

WIDTH = 128
HEADS = 8
TOKEN_WIDTH = WIDTH // 2  # of the layers that mix group tokens
DROP_PATH = 0.1


class Attention(nn.Module):
    """Multi-head attention of queries over keys; 4 w² + 4 w parameters."""

    def __init__(self, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = (nn.Linear(WIDTH, width) for width in (WIDTH, 2 * WIDTH, WIDTH))

    def split(self, x: Float[Tensor, "videos tokens width"]) -> Float[Tensor, "videos heads tokens part"]:
        """By head."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(
        self, queries: Float[Tensor, "videos tokens width"], keys: Float[Tensor, "videos others width"]
    ) -> Float[Tensor, "videos tokens width"]:
        """What each query reads."""
        key, value = map(self.split, self.key_value(keys).chunk(2, dim=-1))
        read = F.scaled_dot_product_attention(self.split(self.query(queries)), key, value)
        answer: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return answer


class MLP(nn.Sequential):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class AttentionBlock(nn.Module):
    """A pre-norm transformer block, dropped for a tenth of the videos in training; 12 w² + 13 w parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attn, self.norm_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.mlp = Attention(), MLP(WIDTH, 4 * WIDTH)
        self.drop = DropPath(DROP_PATH)

    def forward(self, x: Float[Tensor, "videos tokens width"]) -> Float[Tensor, "videos tokens width"]:
        """The tokens after the block."""
        normed = self.norm_attn(x)
        x = x + self.drop(self.attention(normed, normed))
        added: Tensor = self.drop(self.mlp(self.norm_mlp(x)))
        return x + added


class GroupingBlock(nn.Module):
    """Group tokens become what is assigned to them (as in GroupViT).

    The group tokens are mixed with each other by an MLP over their number and read the other tokens, of which each is
    then divided among them: softmax over the groups, or, if `hard`, one group (with Gumbel noise in training, and
    straight through for the gradient). 24 w² + 30 w + 64 · 2 n + 64 + n parameters with n groups.

    Args:
        groups: Number of group tokens n; any other number is resampled linearly to n for the MLP, and back.
        hard: Whether each token belongs to one group.
    """

    def __init__(self, groups: int, *, hard: bool = False) -> None:
        super().__init__()
        self.groups, self.hard = groups, hard
        self.norm_groups, self.norm_tokens, self.norm_mixed = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.mix = MLP(groups, TOKEN_WIDTH)
        self.read, self.norm_read, self.widen = Attention(), nn.LayerNorm(WIDTH), MLP(WIDTH, 4 * WIDTH)
        self.norm_ready = nn.LayerNorm(WIDTH)
        self.assign = Attention(heads=1)
        self.norm_new, self.channels = nn.LayerNorm(WIDTH), MLP(WIDTH, 4 * WIDTH)

    def forward(
        self, tokens: Float[Tensor, "videos tokens width"], groups: Float[Tensor, "videos groups width"]
    ) -> tuple[Float[Tensor, "videos groups width"], Float[Tensor, "videos groups tokens"]]:
        """The new group tokens, and the weight of each token in each of them."""
        tokens = self.norm_tokens(tokens)
        ready = self.norm_mixed(self._mixed(self.norm_groups(groups)))
        ready = ready + self.read(ready, tokens)
        ready = self.norm_ready(ready + self.widen(self.norm_read(ready)))
        key, value = self.assign.key_value(tokens).chunk(2, dim=-1)
        weights = self._weights(self.assign.query(ready) @ key.mT * WIDTH**-0.5)
        shares = weights / (weights.sum(dim=-1, keepdim=True) + 1)
        new = ready + self.assign.out(shares.to(value.dtype) @ value)
        return new + self.channels(self.norm_new(new)), weights

    def _mixed(self, groups: Float[Tensor, "videos groups width"]) -> Float[Tensor, "videos groups width"]:
        # Resampled to as many they are the same numbers; asking whether they are would fix the number in an export.
        mixed: Tensor = self.mix(_resampled(groups.mT, self.groups))
        return _resampled(mixed, groups.shape[1]).mT

    def _weights(self, logits: Float[Tensor, "videos groups tokens"]) -> Float[Tensor, "videos groups tokens"]:
        """Softmax over the groups and then, as in the public code, 1 and its softmax over the tokens; or hard ones."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if not self.hard:
            return 1 + logits.softmax(dim=-2).softmax(dim=-1)
        if self.training:
            return F.gumbel_softmax(logits, hard=True, dim=-2)
        soft = logits.softmax(dim=-2)
        one = soft.new_zeros(soft.shape).scatter(-2, soft.argmax(dim=-2, keepdim=True), 1.0)
        return one - soft.detach() + soft


def _resampled(x: Float[Tensor, "videos width tokens"], count: int) -> Float[Tensor, "videos width count"]:
    return F.interpolate(x, size=count, mode="linear", align_corners=False)
