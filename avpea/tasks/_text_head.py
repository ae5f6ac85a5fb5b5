"""Base of heads with a text model, which combine it with the tokens of a video in groups of modalities."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch

from avpea.labels import Labels
from avpea.options import require
from avpea.tasks import Dims, Head, HeadOptions
from avpea.text import Sentences, TextModel, TextOptions, build_text, require_text

__all__ = ["GROUPS", "TextHead", "TextHeadOptions"]

GROUPS = {"tva": "picture and sound", "tv": "picture alone", "ta": "sound alone", "t": "neither"}


@dataclass(frozen=True)
class TextHeadOptions(HeadOptions):
    """Options of heads with a text model.

    Attributes:
        groups: Modalities that the text model attends to: `tva` picture and sound, `tv` picture alone, `ta` sound
            alone, `t` neither. Each group has its own loss; answers come from the first.
        prompt: Prompt for each text, or before each question (VALOR-L: `describe the video with natural language`,
            `answer the question`, `project language in common space`; VALOR-B: none).
        joined: What becomes of words joined by `_`, `-` or `/` (`stubble-faced`): they are `split` into two words, or
            `kept` as one (`stubblefaced`), as in VALOR's public code.
        text: Options of the text model.
    """

    groups: tuple[Literal["tva", "tv", "ta", "t"], ...] = ("tva",)
    prompt: str = ""
    joined: Literal["split", "kept"] = "split"
    text: TextOptions = field(default_factory=TextOptions)

    def __post_init__(self) -> None:
        different = len(set(self.groups)) == len(self.groups) > 0
        require(different, f"head.groups is {list(self.groups)}; expected one or more groups, each once.")

    def rebuilt(self) -> Self:
        """The options without pretrained weights; a folder is kept, as it holds configuration and vocabulary."""
        if self.text.weights != "pretrained":
            return self
        return replace(self, text=replace(self.text, weights="random"))


class TextHead(Head):
    """A head with a text model, which is trained with it.

    Attributes:
        writes: Whether the text model writes.

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        text: The text model.
        options: Options of the head.
    """

    Options = TextHeadOptions
    writes: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, visual_dim: int, audio_dim: int, text: TextModel, options: Any) -> None:
        super().__init__()
        self.text = text
        self.groups: Sequence[str] = options.groups
        self.prompt: str = options.prompt
        self.joined: Literal["split", "kept"] = options.joined
        self.reads_video = any(group != "t" for group in options.groups)

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: Labels) -> Self:
        """Build a new head with its text model; the labels are not used."""
        return cls(dims.visual, dims.audio, build_text(options.text, writes=cls.writes), options)

    @classmethod
    def require_files(cls, options: Any) -> None:
        """Require the files of the text model."""
        require_text(options.text)

    def half_precision(self) -> None:
        """Let the text model compute in bfloat16."""
        self.text.bf16 = True

    def prompts(self, number: int, device: torch.device) -> Sentences | None:
        """The recipe's prompt, repeated for each text; None if it has none."""
        if not self.prompt:
            return None
        one = self.text.sentences([self.prompt]).to(device)
        return Sentences(one.token_ids.expand(number, -1), one.mask.expand(number, -1))
