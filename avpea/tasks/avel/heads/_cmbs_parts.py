"""Parts of the CMBS head (Xia & Zhao, CVPR 2022; public code marmot-xy/CMBS)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "ATTENTION_HEADS",
    "FEED_FORWARD",
    "CrossDecoder",
    "Interaction",
    "SpatialAttention",
    "TimeEncoder",
]

ATTENTION_HEADS = 4
FEED_FORWARD = 1024
OWN_ATTENTION = 0.4  # beta


class SpatialAttention(nn.Module):
    """Audio-guided attention over image locations: pools the patches of a frame to one vector.

    Args:
        visual: Width of the visual map.
        audio: Width of the audio vector.
        hidden: Width of the audio-visual products that are scored.
    """

    def __init__(self, visual: int, audio: int, hidden: int) -> None:
        super().__init__()
        # Self-attention of the map.
        self.query = nn.Linear(visual, visual // 4)
        self.key = nn.Linear(visual, visual // 4)
        self.value = nn.Linear(visual, visual)
        self.norm = nn.LayerNorm(visual)
        self.dropout = nn.Dropout(0.2)
        # Locations by the map itself.
        self.self_mean = nn.Linear(visual, hidden)
        self.self_each = nn.Linear(visual, hidden)
        self.self_score = nn.Linear(hidden, 1)
        # Channels by the sound.
        self.audio_channel = nn.Linear(audio, visual)
        self.visual_channel = nn.Linear(visual, visual)
        self.squeeze = nn.Linear(visual, hidden)
        self.excite = nn.Linear(hidden, visual)
        # Locations by the sound.
        self.visual_spatial = nn.Linear(visual, hidden)
        self.audio_spatial = nn.Linear(audio, hidden)
        self.audio_score = nn.Linear(hidden, 1)

    def forward(
        self, visual: Float[Tensor, "rows locations visual"], audio: Float[Tensor, "rows audio"]
    ) -> Float[Tensor, "rows visual"]:
        """One visual vector for each row, pooled where the sound points."""
        attention = (self.query(visual) @ self.key(visual).transpose(1, 2)).softmax(dim=-1)  # not scaled
        own = self.norm(visual + self.dropout(attention @ self.value(visual)))
        product = self.self_each(own).relu() * self.self_mean(own.mean(dim=1, keepdim=True)).relu()
        seen = _weighted_sum(self.self_score(product), own)

        product = self.audio_channel(audio).relu()[:, None] * self.visual_channel(own).relu()
        channels = self.excite(self.squeeze(product.mean(dim=1)).relu()).sigmoid()
        visual = visual * (channels + 1)[:, None]  # the map as it came, not `own`

        product = self.visual_spatial(visual).relu() * self.audio_spatial(audio).relu()[:, None]
        heard = _weighted_sum(self.audio_score(product), visual)
        return heard + OWN_ATTENTION * seen.sigmoid() * heard


def _weighted_sum(
    score: Float[Tensor, "rows locations 1"], values: Float[Tensor, "rows locations width"]
) -> Float[Tensor, "rows width"]:
    return (score.tanh().softmax(dim=1) * values).sum(dim=1)


class TimeEncoder(nn.Module):
    """A linear layer and two post-norm self-attention layers over the segments, without positions.

    Args:
        width_in: Width of the input.
        width: Width of the output.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, width)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, ATTENTION_HEADS, FEED_FORWARD, dropout=0.1, batch_first=True)
                for _ in range(2)
            )
        )

    def forward(self, x: Float[Tensor, "batch segments width_in"]) -> Float[Tensor, "batch segments width"]:
        """The encoded segments."""
        encoded: Tensor = self.layers(self.project(x))
        return encoded


class CrossDecoder(nn.Module):
    """One post-norm layer in which a stream attends to the other stream's encoding and to itself.

    Args:
        width_in: Width of the input.
        width: Width of the output.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, width)
        self.attention = nn.MultiheadAttention(width, ATTENTION_HEADS, dropout=0.1, batch_first=True)
        self.norm_attention = nn.LayerNorm(width)
        self.widen = nn.Linear(width, FEED_FORWARD)
        self.narrow = nn.Linear(FEED_FORWARD, width)
        self.norm_feed = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, x: Float[Tensor, "batch segments width_in"], other: Float[Tensor, "batch segments width"]
    ) -> Float[Tensor, "batch segments width"]:
        """The stream `x` after attending to `other`."""
        query = self.project(x)
        memory = torch.cat((other, query), dim=1)
        answer, _ = self.attention(query, memory, memory, need_weights=False)
        x = self.norm_attention(query + self.dropout(answer))
        hidden = self.dropout(self.widen(x).relu())
        decoded: Tensor = self.norm_feed(x + self.dropout(self.narrow(hidden)))
        return decoded


class Interaction(nn.Module):
    """The product of two streams attends to both of them.

    Args:
        width: Width of both streams.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, ATTENTION_HEADS, dropout=0.2, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, x: Float[Tensor, "batch segments width"], y: Float[Tensor, "batch segments width"]
    ) -> Float[Tensor, "batch segments width"]:
        """The stream `x` joined with `y`."""
        product = x * y
        memory = torch.cat((y, x), dim=1)
        answer, _ = self.attention(product, memory, memory, need_weights=False)
        joined: Tensor = self.norm(product + self.dropout(answer))
        return joined
