"""What the heads for text are: tokens of a video and a text model, put together in groups of modalities."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from avpea.configs import HeadConfig, TextConfig
from avpea.text import TextModel

__all__ = ["GROUPS", "CaptionHead", "cls_tokens"]

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

    def registered_but_unused(self) -> dict[str, int]:
        """Parameters that the public code registers but never uses, by what they are."""
        return {}


def cls_tokens(
    tokens: Float[Tensor, "videos segments tokens dim"], has_cls: bool
) -> Float[Tensor, "videos segments dim"]:
    """CLS of each image; the mean of its tokens where there is none."""
    return tokens[:, :, 0] if has_cls else tokens.mean(dim=2)
