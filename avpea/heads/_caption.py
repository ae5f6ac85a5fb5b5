"""What the heads for text are: tokens of a video and a text model, put together in groups of modalities."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from avpea.configs import HeadConfig, TextConfig
from avpea.text import Sentences, TextModel

__all__ = ["GROUPS", "CaptionHead"]

GROUPS = {"tva": "picture and sound", "tv": "picture alone", "ta": "sound alone", "t": "neither"}


class CaptionHead(nn.Module, ABC):
    """A head with a text model, which is trained with it.

    Attributes:
        writes: Whether its text model writes.

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        text: The text model.
        config: Of the head.
        texts: Of the text.
    """

    writes: bool = False

    @abstractmethod
    def __init__(self, visual_dim: int, audio_dim: int, text: TextModel, config: HeadConfig, texts: TextConfig) -> None:
        super().__init__()
        self.text = text
        self.groups: Sequence[str] = config.groups
        self.prompt = texts.prompt

    @abstractmethod
    def forward(self, *arguments: Any) -> Any:
        """Its task says which tokens it takes."""

    @property
    def reads_video(self) -> bool:
        """Whether any group sees or hears anything."""
        return any(group != "t" for group in self.groups)

    def prompts(self, number: int, device: torch.device) -> Sentences | None:
        """The recipe's prompt, once for each text; None where it has none."""
        if not self.prompt:
            return None
        one = self.text.sentences([self.prompt]).to(device)
        return Sentences(one.words.expand(number, -1), one.there.expand(number, -1))

    def registered_but_unused(self) -> dict[str, int]:
        """Parameters that the public code registers but never uses, by what they are."""
        return {}
