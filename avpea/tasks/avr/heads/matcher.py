"""VALOR's heads for retrieval: texts, frames and sounds in one space, compared token by token."""

import math
from dataclasses import dataclass

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
        temperature: The contrastive loss's at the start (VALOR: CLIP's 0.01, or 0.07).
    """

    temperature: float = 0.07

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, f"head.temperature is {self.temperature}; expected a number above 0.")
        seen_or_heard = "t" not in self.groups
        require(seen_or_heard, "head.groups has 't', but a text is found by what is seen or heard: tva, tv or ta.")


class Matcher(TextHead):
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
        options: Its options.
    """

    Options = MatcherOptions

    def __init__(self, visual_dim: int, audio_dim: int, text: TextModel, options: MatcherOptions) -> None:
        super().__init__(visual_dim, audio_dim, text, options)
        dims = {"text": text.dim, "visual": visual_dim, "audio": audio_dim}
        self.project = nn.ModuleDict({name: nn.Linear(dim, WIDTH, bias=False) for name, dim in dims.items()})
        self.weigh = nn.ModuleDict({name: TokenWeights(WIDTH) for name in dims})
        self.log_scale = nn.Parameter(torch.tensor(-math.log(options.temperature)))

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """What similarities are divided by in the loss."""
        return (-self.log_scale).exp()

    def forward(
        self, visual: Float[Tensor, "videos frames visual_dim"], audio: Float[Tensor, "videos clips audio_dim"]
    ) -> tuple[Embeddings, Embeddings]:
        """CLS tokens of frames and of sounds, projected."""
        return self.embed("visual", visual), self.embed("audio", audio)

    def grouped(self, seen: Embeddings, heard: Embeddings) -> dict[str, Embeddings]:
        """What a text is compared with in each group."""
        groups = {"tva": joined(seen, heard), "tv": seen, "ta": heard}
        return {group: groups[group] for group in self.groups}

    def read(self, text: Sentences) -> Embeddings:
        """Texts to projected words."""
        prompts = self.prompts(len(text), text.token_ids.device)
        return self.embed("text", self.text.read(text, prompts), text.mask)

    def embed(
        self,
        name: str,
        tokens: Float[Tensor, "rows tokens dim"],
        mask: Bool[Tensor, "rows tokens"] | None = None,
    ) -> Embeddings:
        """Tokens to the common space, with their scores."""
        unit = F.normalize(self.project[name](tokens), dim=-1)
        every = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Embeddings(unit, self.weigh[name](unit), every if mask is None else mask)


EXTENSION = Matcher
