"""What the tasks with texts share: the texts of a batch, and cleaned sentences."""

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.labels import CaptionSample
from avpea.tasks import Encoded, Task
from avpea.tasks._base import video_index
from avpea.tasks._text_head import TextHead
from avpea.text import Sentences

__all__ = ["TextTargets", "WritingTask", "caption_targets", "clean", "example_captions"]

_REMOVED = str.maketrans(dict.fromkeys("_-/", " ") | dict.fromkeys(set(string.punctuation) - set("_-/"), ""))


@dataclass(frozen=True)
class TextTargets:
    """The captions of a batch, one video's after another's, or the questions with their answers.

    Attributes:
        text: What people wrote.
        video: Which video of the batch each is about.
        questions: What each answers, where something was asked.
    """

    text: Sentences
    video: Int[Tensor, " texts"]
    questions: Sentences | None = None

    def to(self, device: torch.device | str) -> "TextTargets":
        """Move to a device."""
        asked = None if self.questions is None else self.questions.to(device)
        return replace(self, text=self.text.to(device), video=self.video.to(device), questions=asked)


class WritingTask(Task):
    """What captions and free answers share: what is looked at, and the loss of hidden words."""

    whole_videos = True

    def forward(self, encoded: Encoded, targets: Any = None) -> dict[str, Tensor | None]:
        """What the head may look at, for each group."""
        streams = (None, None) if encoded.visual is None else (encoded.frames, encoded.sounds)
        memories: dict[str, Tensor | None] = self.head(*streams, encoded.positions)
        return memories

    def loss(self, output: Any, targets: TextTargets) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The mean of the groups' cross-entropies of hidden words."""
        terms = self.head.loss(output, targets.text, targets.video, targets.questions)
        return self.total(terms), terms


def clean(text: str) -> str:
    """A text as VALOR's public code has the text model read it: lower case, without ASCII punctuation.

    What joins words (`_`, `-`, `/`) becomes a blank, so that `acoustic_guitar` stays two words; the public code removes
    it on one side of a comparison only.

    >>> clean("An acoustic_guitar's sound, well-known.")
    'an acoustic guitars sound well known'
    """
    return " ".join(text.lower().translate(_REMOVED).split())


def caption_targets(head: TextHead, samples: Sequence[CaptionSample]) -> TextTargets:
    """All captions of a batch."""
    return TextTargets(
        head.text.sentences([clean(caption) for sample in samples for caption in sample.captions]),
        video_index(len(sample.captions) for sample in samples),
    )


def example_captions(count: int, segments: int) -> list[Any]:
    """Samples with a caption each, to measure what a training step costs."""
    caption = "a dog barks loudly while a train passes and people talk on the platform of the station"
    return [
        CaptionSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", captions=(f"{caption} {i}",))
        for i in range(count)
    ]
