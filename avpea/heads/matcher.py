"""VALOR's head for retrieval: how alike a text and a video are, token by token (multimodal grouping alignment)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avpea.configs import HeadConfig, TextConfig
from avpea.errors import ExperimentError
from avpea.heads._caption import CaptionHead
from avpea.heads._matching import TokenWeights, fine_similarity
from avpea.text import Sentences, TextModel

__all__ = ["Matcher", "Side", "joined", "stacked"]

WIDTH = 512


@dataclass(frozen=True)
class Side:
    """Projected tokens of texts or of videos.

    Attributes:
        tokens: Of unit length.
        scores: What the softmax over a row's tokens makes weights of.
        there: Which tokens are no padding.
    """

    tokens: Float[Tensor, "rows tokens width"]
    scores: Float[Tensor, "rows tokens"]
    there: Bool[Tensor, "rows tokens"]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def weights(self) -> Float[Tensor, "rows tokens"]:
        """How much each token counts, in sum 1."""
        return self.scores.masked_fill(~self.there, -torch.inf).softmax(dim=-1)

    def pooled(self) -> Float[Tensor, "rows width"]:
        """One vector of unit length for each row: its tokens by weight."""
        return F.normalize((self.weights[..., None] * self.tokens).sum(dim=1), dim=-1)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Side":
        """The same done to tokens, scores and what is there."""
        return Side(change(self.tokens), change(self.scores), change(self.there))

    def to(self, device: torch.device | str) -> "Side":
        """Move to a device."""
        return self.each(lambda part: part.to(device))

    def __getitem__(self, rows: slice) -> "Side":
        """Some of the rows."""
        return self.each(lambda part: part[rows])

    def similarity(self, videos: "Side") -> Float[Tensor, "rows videos"]:
        """Of each of these texts and those videos."""
        return fine_similarity(self.tokens, self.weights, self.there, videos.tokens, videos.weights)


class Matcher(CaptionHead):
    """Contrastive heads of text, frames and sounds, each with its token weights (VALOR's public code, "fine").

    Layers of the public code, and those of ours that they are:

        contra_head_{t,v,a}.linear           project.{text,visual,audio}
        {text,video,audio}_fine_weight       weigh.{text,visual,audio}
        clip_model.logit_scale, contra_temp  log_scale

    Texts are read by the text model (BERT) in both sizes, as in VALOR-L; VALOR-B reads them by CLIP's own.

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        text: The text model.
        config: `groups` and `temperature`.
        texts: `prompt`.
    """

    def __init__(self, visual_dim: int, audio_dim: int, text: TextModel, config: HeadConfig, texts: TextConfig) -> None:
        super().__init__(visual_dim, audio_dim, text, config, texts)
        if "t" in config.groups:
            raise ExperimentError("head.groups has 't', but a text is found by what is seen or heard: tva, tv or ta.")
        dims = {"text": text.dim, "visual": visual_dim, "audio": audio_dim}
        self.project = nn.ModuleDict({name: nn.Linear(dim, WIDTH, bias=False) for name, dim in dims.items()})
        self.weigh = nn.ModuleDict({name: TokenWeights(WIDTH) for name in dims})
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """What similarities are divided by in the loss."""
        return (-self.log_scale).exp()

    def forward(
        self, visual: Float[Tensor, "videos frames visual_dim"], audio: Float[Tensor, "videos clips audio_dim"]
    ) -> tuple[Side, Side]:
        """CLS tokens of frames and of sounds, projected."""
        return self.side("visual", visual), self.side("audio", audio)

    def grouped(self, seen: Side, heard: Side) -> dict[str, Side]:
        """What a text is compared with in each group."""
        sides = {"tva": joined(seen, heard), "tv": seen, "ta": heard}
        return {group: sides[group] for group in self.groups}

    def read(self, text: Sentences) -> Side:
        """Texts to projected words."""
        prompts = self.prompts(len(text), text.words.device)
        return self.side("text", self.text.read(text, prompts), text.there)

    def side(
        self,
        name: str,
        tokens: Float[Tensor, "rows tokens dim"],
        there: Bool[Tensor, "rows tokens"] | None = None,
    ) -> Side:
        """Tokens to the common space, with their scores."""
        unit = F.normalize(self.project[name](tokens), dim=-1)
        all_there = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Side(unit, self.weigh[name](unit), all_there if there is None else there)


def joined(first: Side, second: Side) -> Side:
    """The tokens of both, one after the other; they share one softmax."""
    return _concatenated((first, second), dim=1)


def stacked(sides: Sequence[Side]) -> Side:
    """Single rows to one batch, padded on the right."""
    longest = max(side.scores.shape[1] for side in sides)

    def padded(rows: Tensor) -> Tensor:
        return torch.cat((rows, rows.new_zeros(1, longest - rows.shape[1], *rows.shape[2:])), dim=1)

    return _concatenated([side.each(padded) for side in sides], dim=0)


def _concatenated(sides: Sequence[Side], dim: int) -> Side:
    return Side(
        torch.cat([side.tokens for side in sides], dim),
        torch.cat([side.scores for side in sides], dim),
        torch.cat([side.there for side in sides], dim),
    )


# Of the public classes here, this one is the head.
EXTENSION = Matcher
