"""Parts of AVST (Li et al., CVPR 2022; public code GeWu-Lab/MUSIC-AVQA).

Comments beside the layers give their names in the public code.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["VGGISH_DIM", "WIDTH", "Grounded", "QuestionEncoder", "TemporalGrounding", "VideoGrounding"]

WIDTH = 512
VGGISH_DIM = 128  # width of a VGGish embedding, the public code's sound


@dataclass(frozen=True)
class Grounded:
    """Output of spatial grounding for each segment, which does not depend on the question.

    Attributes:
        audio: Vector of the sound.
        visual: Vector of the frame, pooled where the sound points.
        spatial: Attention of the sound to the frame's patches.
        match: Logits of the match head, own frames and negatives interleaved; None without negatives.
        matching: 1 for own frames, 0 for negatives; None without negatives.
    """

    audio: Float[Tensor, "videos segments width"]
    visual: Float[Tensor, "videos segments width"]
    spatial: Float[Tensor, "videos segments patches"]
    match: Float[Tensor, "rows 2"] | None
    matching: Int[Tensor, " rows"] | None


class VideoGrounding(nn.Module):
    """Spatial grounding of each segment's sound in its frame, and the match head; uses no question.

    With VGGish's single vector of width 128 and a map of width 512 (ResNet-18) these are the public code's layers.
    Tokens of a ViT are projected first, and those of the sound are averaged (LAVISH, CVPR 2023).

    Args:
        visual_dim: Width of the visual tokens; 512 needs no projection.
        audio_dim: Width of the audio tokens.
    """

    def __init__(self, visual_dim: int, audio_dim: int) -> None:
        super().__init__()
        self.audio_in = nn.Linear(audio_dim, WIDTH)  # fc_a1; in LAVISH its own projection
        self.audio_out = nn.Linear(WIDTH, WIDTH)  # fc_a2
        self.visual_in = nn.Identity() if visual_dim == WIDTH else nn.Linear(visual_dim, WIDTH)  # LAVISH only
        self.join = nn.Linear(2 * WIDTH, WIDTH)  # fc_gl
        self.match = nn.Sequential(
            *(nn.Linear(2 * WIDTH, 512), nn.ReLU()),  # fc1
            *(nn.Linear(512, 256), nn.ReLU()),  # fc2
            *(nn.Linear(256, 128), nn.ReLU()),  # fc3
            nn.Linear(128, 2),  # fc4
        )

    def forward(
        self,
        visual: Float[Tensor, "videos segments patches visual_dim"],
        audio: Float[Tensor, "videos segments audio_tokens audio_dim"],
        negatives: Float[Tensor, "videos segments patches visual_dim"] | None = None,
    ) -> Grounded:
        """Ground each segment separately; a negative is matched with the segment's own sound."""
        # The mean of projected tokens is the projection of their mean, which costs less.
        sound = self.audio_out(self.audio_in(audio.mean(dim=2)).relu())
        seen, spatial = self.locate(visual, sound)
        if negatives is None:
            return Grounded(sound, seen, spatial, None, None)
        other, _ = self.locate(negatives, sound)
        pairs = torch.stack((torch.cat((sound, seen), dim=-1), torch.cat((sound, other), dim=-1)), dim=2)
        match = self.match(pairs.flatten(0, 2))
        matching = torch.tensor([1, 0], device=match.device).repeat(len(match) // 2)
        return Grounded(sound, seen, spatial, match, matching)

    def locate(
        self, visual: Float[Tensor, "videos segments patches visual_dim"], sound: Float[Tensor, "videos segments width"]
    ) -> tuple[Float[Tensor, "videos segments width"], Float[Tensor, "videos segments patches"]]:
        """One vector for each frame, from the mean of its patches and from those like the sound; and its attention."""
        patches = self.visual_in(visual)
        units = F.normalize(patches, dim=-1)
        spatial = (units @ F.normalize(sound, dim=-1)[..., None]).squeeze(-1).softmax(dim=-1)
        found = (spatial[..., None, :] @ units).squeeze(-2)
        both = torch.cat((patches.mean(dim=2), found), dim=-1)  # the mean is not normalised
        return self.join(both.tanh()), spatial


class QuestionEncoder(nn.Module):
    """Words to one vector (QstEncoder). Padding goes through the LSTM as any word, as in the public code.

    So a question's vector depends on the length that it is padded to: always use the same.

    Args:
        num_words: Words of the vocabulary, padding included.
    """

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, WIDTH)  # word2vec; the vector of padding trains too
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.join = nn.Linear(2 * WIDTH, WIDTH)  # fc

    def forward(self, token_ids: Int[Tensor, "questions length"]) -> Float[Tensor, "questions width"]:
        """From the LSTM's last hidden and cell states."""
        words = self.words(token_ids).tanh()
        if torch.is_autocast_enabled(words.device.type):
            # It would be cast to this anyway, but then oneDNN computes it, which cannot on processors without AVX-512.
            words = words.to(torch.get_autocast_dtype(words.device.type))
        _, (hidden, cell) = self.lstm(words)
        vector: Tensor = self.join(torch.cat((hidden[0], cell[0]), dim=-1).tanh())
        return vector


class TemporalGrounding(nn.Module):
    """A question attends to the segments of one stream; there is no residual around the attention."""

    def __init__(self) -> None:
        super().__init__()  # names in the public code: of the visual, of the audio stream
        self.attention = nn.MultiheadAttention(WIDTH, 4, dropout=0.1, batch_first=True)  # attn_v, attn_a
        self.first = nn.Linear(WIDTH, WIDTH)  # linear11, linear21
        self.dropout_inner = nn.Dropout(0.1)  # dropout1, dropout3
        self.second = nn.Linear(WIDTH, WIDTH)  # linear12, linear22
        self.dropout_outer = nn.Dropout(0.1)  # dropout2, dropout4
        self.norm = nn.LayerNorm(WIDTH)  # norm1, norm2

    def forward(
        self, question: Float[Tensor, "questions width"], stream: Float[Tensor, "questions segments width"]
    ) -> tuple[Float[Tensor, "questions width"], Float[Tensor, "questions segments"]]:
        """The attended stream plus the mean of its segments; and the attention to each segment."""
        found, shares = self.attention(question[:, None], stream, stream)
        found, shares = found.squeeze(1), shares.squeeze(1)
        hidden = self.dropout_inner(self.first(found).relu())
        answer = self.norm(found + self.dropout_outer(self.second(hidden)))
        return answer + stream.mean(dim=1), shares
