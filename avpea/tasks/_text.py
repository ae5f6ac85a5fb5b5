"""Bases of the tasks with texts, the texts of a batch, and cleaning of sentences."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.labels import CaptionLabels, CaptionSample
from avpea.tasks import Encoded, Task
from avpea.tasks._encoded import video_index
from avpea.text import Sentences

__all__ = ["CaptionTask", "TextTargets", "WritingTask", "clean"]

_JOINING = "_-/"
_REMOVED = str.maketrans(dict.fromkeys(string.punctuation, ""))
_SPLIT = _REMOVED | str.maketrans(dict.fromkeys(_JOINING, " "))


@dataclass(frozen=True)
class TextTargets:
    """The captions of a batch, or its questions and answers, in the order of the videos.

    Attributes:
        text: Annotated captions or answers.
        video: Index in the batch of each text's video.
        questions: Question of each answer; None for captions.
    """

    text: Sentences
    video: Int[Tensor, " texts"]
    questions: Sentences | None = None

    def to(self, device: torch.device | str) -> "TextTargets":
        """Move to a device."""
        questions = None if self.questions is None else self.questions.to(device)
        return TextTargets(self.text.to(device), self.video.to(device), questions)


class CaptionTask(Task):
    """A task whose samples are videos with captions."""

    needs = CaptionLabels
    whole_videos = True

    def targets(self, samples: Sequence[CaptionSample]) -> TextTargets:
        """All captions of a batch."""
        return TextTargets(
            self.head.text.sentences(
                [clean(caption, self.head.joined) for sample in samples for caption in sample.captions]
            ),
            video_index(len(sample.captions) for sample in samples),
        )

    def examples(self, count: int, segments: int) -> list[CaptionSample]:
        """Samples with one caption each."""
        caption = "a dog barks loudly while a train passes and people talk on the platform of the station"
        return [
            CaptionSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", captions=(f"{caption} {i}",))
            for i in range(count)
        ]


class WritingTask(Task):
    """A task whose answers are written word by word, trained to predict masked words."""

    whole_videos = True

    def forward(self, encoded: Encoded, targets: Any = None) -> dict[str, Tensor | None]:
        """The memory that the text model attends to, for each group of modalities."""
        streams = (None, None) if encoded.visual is None else (encoded.frames, encoded.sounds)
        memories: dict[str, Tensor | None] = self.head(*streams, encoded.positions, encoded.sound_positions)
        return memories

    def loss(self, output: Any, targets: TextTargets) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Cross-entropy of the masked words, mean over the groups."""
        terms = self.head.loss(output, targets.text, targets.video, targets.questions)
        return self.total(terms), terms


def clean(text: str, joined: Literal["split", "kept"] = "split") -> str:
    """Convert a text to lower case without ASCII punctuation, as VALOR's public code does for the text model.

    Args:
        text: Any text.
        joined: What becomes of words joined by `_`, `-` or `/`: they are `split` into words, so that `acoustic_guitar`
            is two; or `kept` as one without the character, as in the public code.

    >>> clean("An acoustic_guitar's sound, well-known.")
    'an acoustic guitars sound well known'
    >>> clean("A stubble-faced man.", "kept")
    'a stubblefaced man'
    """
    return " ".join(text.lower().translate(_SPLIT if joined == "split" else _REMOVED).split())
