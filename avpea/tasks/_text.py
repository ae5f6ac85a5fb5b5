"""What the tasks with captions share: the videos of a batch as a head for text takes them, and cleaned sentences."""

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.dataset import CaptionSample
from avpea.experiment import Experiment
from avpea.heads._caption import CaptionHead
from avpea.heads.writer import Writer
from avpea.tasks._base import Task, by_video, head_class, owners
from avpea.text import Sentences, build_text

__all__ = ["Told", "WritingTask", "build_head", "captions_of", "clean", "images_of", "made_up"]

H = TypeVar("H", bound=CaptionHead)

_REMOVED = str.maketrans(dict.fromkeys("_-/", " ") | dict.fromkeys(set(string.punctuation) - set("_-/"), ""))


@dataclass(frozen=True)
class Told:
    """The captions of a batch, one video's after another's, or the questions with their answers.

    Attributes:
        text: What people wrote.
        video: Which video of the batch each is about.
        questions: What each answers, where something was asked.
    """

    text: Sentences
    video: Int[Tensor, " texts"]
    questions: Sentences | None = None

    def to(self, device: torch.device | str) -> "Told":
        """Move to a device."""
        asked = None if self.questions is None else self.questions.to(device)
        return replace(self, text=self.text.to(device), video=self.video.to(device), questions=asked)


class WritingTask(Task):
    """What captions and free answers share: what is looked at, and the loss of hidden words.

    Args:
        head: What writes.
    """

    whole_videos = True

    def __init__(self, head: Writer) -> None:
        super().__init__(head)
        self.reads_video = head.reads_video

    def forward(
        self,
        visual: Float[Tensor, "images visual_tokens dim"] | None,
        audio: Float[Tensor, "images_of_sound audio_tokens audio_dim"] | None,
        targets: Any = None,
        negatives: Tensor | None = None,
        *,
        segments: int,
        num_prefix_tokens: int,
        has_cls: bool,
        places: Tensor | None = None,
    ) -> dict[str, Tensor | None]:
        """What the head may look at, for each group."""
        streams = (None, None) if visual is None or audio is None else images_of(visual, audio, segments)
        memories: dict[str, Tensor | None] = self.head(*streams, places)
        return memories

    def loss(self, output: Any, targets: Told) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
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


def build_head(experiment: Experiment, kind: type[H], task: str, visual_dim: int, audio_dim: int) -> H:
    """The head of an experiment with its text model.

    Raises:
        ExperimentError: No such head, or one of another task.
        WeightsError: The text model cannot be had.
    """
    head: type[H] = head_class(experiment.head, kind, task)
    text = build_text(experiment.text, writes=head.writes)
    return head(visual_dim, audio_dim, text, experiment.head, experiment.text)


def captions_of(head: CaptionHead, samples: Sequence[CaptionSample]) -> Told:
    """All captions of a batch."""
    return Told(
        head.text.sentences([clean(caption) for sample in samples for caption in sample.captions]),
        owners(len(sample.captions) for sample in samples),
    )


def images_of(visual: Tensor, audio: Tensor, segments: int) -> tuple[Tensor, Tensor]:
    """Tokens (images, tokens, dim) of both streams to (videos, images, tokens, dim).

    A video has as many frames as segments; how many images its sound has, the encoder decides.
    """
    videos = len(visual) // segments
    return by_video(visual, segments), by_video(audio, len(audio) // videos)


def made_up(count: int, segments: int) -> list[Any]:
    """Samples with a caption each, to measure what a training step costs."""
    caption = "a dog barks loudly while a train passes and people talk on the platform of the station"
    return [
        CaptionSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", captions=(f"{caption} {i}",))
        for i in range(count)
    ]
