"""VALOR's heads for retrieval: embed texts, frames and sounds in one space, to compare them token by token."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avpea.embeddings import Embeddings, joined
from avpea.options import require
from avpea.tasks._text_head import TextHead, TextHeadOptions
from avpea.tasks.avr.heads._matching import TokenWeights
from avpea.text import Sentences, TextModel

__all__ = ["EXTENSION", "Matcher", "MatcherOptions"]

WIDTH = 512


@dataclass(frozen=True)
class MatcherOptions(TextHeadOptions):
    """Options of the matcher.

    Attributes:
        temperature: Initial temperature of the contrastive loss, which is trained (VALOR: CLIP's 0.01, or 0.07).
        padding: What padding does to the best word of a frame or sound: it is `ignored`, or is a word whose product is
            `zero`, as in VALOR's public code, which pads every text to `text.length`.
    """

    temperature: float = 0.07
    padding: Literal["ignored", "zero"] = "ignored"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, f"head.temperature is {self.temperature}; expected a number above 0.")
        seen_or_heard = "t" not in self.groups
        require(seen_or_heard, "head.groups has 't', but retrieval needs picture or sound; expected tva, tv or ta.")


class Matcher(TextHead):
    """Contrastive heads of text, frames and sounds, each with token weights (VALOR's public code, "fine").

    Layers of the public code, and their names here:

        contra_head_{t,v,a}.linear           project.{text,visual,audio}
        {text,video,audio}_fine_weight       weigh.{text,visual,audio}
        clip_model.logit_scale, contra_temp  log_scale

    Texts are encoded by the text model (BERT), as in VALOR-L; VALOR-B uses CLIP's text encoder.

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        text: The text model.
        options: Options of the head.
    """

    Options = MatcherOptions

    def __init__(self, visual_dim: int, audio_dim: int, text: TextModel, options: MatcherOptions) -> None:
        super().__init__(visual_dim, audio_dim, text, options)
        dims = {"text": text.dim, "visual": visual_dim, "audio": audio_dim}
        self.project = nn.ModuleDict({name: nn.Linear(dim, WIDTH, bias=False) for name, dim in dims.items()})
        self.weigh = nn.ModuleDict({name: TokenWeights(WIDTH) for name in dims})
        self.log_scale = nn.Parameter(torch.tensor(-math.log(options.temperature)))
        self.padding_counts = options.padding == "zero"

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """Divisor of the similarities in the loss."""
        return (-self.log_scale).exp()

    def forward(
        self, visual: Float[Tensor, "videos frames visual_dim"], audio: Float[Tensor, "videos clips audio_dim"]
    ) -> tuple[Embeddings, Embeddings]:
        """Embeddings of the CLS tokens of frames and of sounds."""
        return self.embed("visual", visual), self.embed("audio", audio)

    def grouped(self, seen: Embeddings, heard: Embeddings) -> dict[str, Embeddings]:
        """Embeddings to compare a text with, for each group."""
        groups = {"tva": joined(seen, heard), "tv": seen, "ta": heard}
        return {group: groups[group] for group in self.groups}

    def read(self, text: Sentences) -> Embeddings:
        """Embeddings of the words of texts."""
        prompts = self.prompts(len(text), text.token_ids.device)
        words = self.embed("text", self.text.read(text, prompts), text.mask)
        if not self.padding_counts:
            return words
        missing = self.text.length - text.mask.shape[1]
        padded = words.each(lambda part: torch.cat((part, part.new_zeros(len(part), missing, *part.shape[2:])), dim=1))
        return replace(padded, padding_counts=True)

    def embed(
        self,
        name: str,
        tokens: Float[Tensor, "rows tokens dim"],
        mask: Bool[Tensor, "rows tokens"] | None = None,
    ) -> Embeddings:
        """Project tokens of one kind (`text`, `visual` or `audio`), and score them."""
        unit = F.normalize(self.project[name](tokens), dim=-1)
        every = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Embeddings(unit, self.weigh[name](unit), every if mask is None else mask)


EXTENSION = Matcher
