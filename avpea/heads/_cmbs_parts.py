"""Parts of the CMBS head (Xia & Zhao, CVPR 2022; public code marmot-xy/CMBS), one class for each box of its drawing."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["CrossDecoder", "Interaction", "SpatialAttention", "TimeEncoder"]


class SpatialAttention(nn.Module):
    """Audio-guided attention over image locations: a map of patches becomes one vector a second.

    Args:
        visual: Width of the visual map (512).
        audio: Width of the audio vector (256).
        hidden: Width of the attention's products (256).
        beta: Weight of the map's own attention beside the audio's (0.4).
    """

    def __init__(self, visual: int = 512, audio: int = 256, hidden: int = 256, beta: float = 0.4) -> None:
        super().__init__()
        self.beta = beta
        # Self-attention over locations.
        self.query = nn.Linear(visual, visual // 4)
        self.key = nn.Linear(visual, visual // 4)
        self.value = nn.Linear(visual, visual)
        self.norm = nn.LayerNorm(visual)
        self.dropout = nn.Dropout(0.2)
        # The map's own spatial attention.
        self.self_mean = nn.Linear(visual, hidden)
        self.self_each = nn.Linear(visual, hidden)
        self.self_score = nn.Linear(hidden, 1)
        # Channel attention guided by the sound.
        self.audio_channel = nn.Linear(audio, visual)
        self.visual_channel = nn.Linear(visual, visual)
        self.squeeze = nn.Linear(visual, hidden)
        self.excite = nn.Linear(hidden, visual)
        # Spatial attention guided by the sound.
        self.visual_spatial = nn.Linear(visual, hidden)
        self.audio_spatial = nn.Linear(audio, hidden)
        self.audio_score = nn.Linear(hidden, 1)

    def forward(
        self, visual: Float[Tensor, "rows locations visual"], audio: Float[Tensor, "rows audio"]
    ) -> Float[Tensor, "rows visual"]:
        """One visual vector for each second, seen where the sound points."""
        attention = (self.query(visual) @ self.key(visual).transpose(1, 2)).softmax(dim=-1)  # not scaled
        own = self.norm(visual + self.dropout(attention @ self.value(visual)))

        product = self.self_each(own).relu() * self.self_mean(own.mean(dim=1, keepdim=True)).relu()
        seen = _weighted_sum(self.self_score(product), own)

        guided = (self.audio_channel(audio).relu()[:, None] * self.visual_channel(own).relu()).mean(dim=1)
        channels = self.excite(self.squeeze(guided).relu()).sigmoid()
        visual = visual * (channels + 1)[:, None]  # the map itself, not its self-attended copy

        product = self.visual_spatial(visual).relu() * self.audio_spatial(audio).relu()[:, None]
        heard = _weighted_sum(self.audio_score(product), visual)
        return heard + self.beta * seen.sigmoid() * heard


def _weighted_sum(score: Tensor, values: Tensor) -> Tensor:
    return (score.tanh().softmax(dim=1) * values).sum(dim=1)


class TimeEncoder(nn.Module):
    """A linear map and two post-norm self-attention layers over the seconds; no positions."""

    def __init__(self, width_in: int, width: int = 256) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 1024, dropout=0.1, batch_first=True) for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "batch seconds width_in"]) -> Float[Tensor, "batch seconds width"]:
        """Each second in the light of the others."""
        x = self.project(x)
        for layer in self.layers:
            x = layer(x)
        return x


class CrossDecoder(nn.Module):
    """One post-norm layer in which a stream asks the other stream's encoding and itself."""

    def __init__(self, width_in: int, width: int = 256) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, width)
        self.attention = nn.MultiheadAttention(width, 4, dropout=0.1, batch_first=True)
        self.norm_attention = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 1024)
        self.narrow = nn.Linear(1024, width)
        self.norm_feed = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, x: Float[Tensor, "batch seconds width_in"], other: Float[Tensor, "batch seconds width"]
    ) -> Float[Tensor, "batch seconds width"]:
        """The stream `x` after asking `other`."""
        query = self.project(x)
        memory = torch.cat((other, query), dim=1)
        answer, _ = self.attention(query, memory, memory, need_weights=False)
        x = self.norm_attention(query + self.dropout(answer))
        return self.norm_feed(x + self.dropout(self.narrow(self.dropout(self.widen(x).relu()))))


class Interaction(nn.Module):
    """The two streams' product asks both of them."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, dropout=0.2, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, x: Float[Tensor, "batch seconds width"], y: Float[Tensor, "batch seconds width"]
    ) -> Float[Tensor, "batch seconds width"]:
        """The stream `x` joined with `y`."""
        joint = x * y
        memory = torch.cat((y, x), dim=1)
        answer, _ = self.attention(joint, memory, memory, need_weights=False)
        return self.norm(joint + self.dropout(answer))
