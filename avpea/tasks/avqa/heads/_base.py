"""What every head for question answering is: tokens of a video and the words of questions to answers."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avpea.labels import QuestionLabels
from avpea.tasks import Dims, Head, HeadOptions

__all__ = [
    "UNKNOWN_ANSWER",
    "AnsweringHead",
    "MatchingHead",
    "QuestionHead",
    "QuestionOptions",
    "QuestionOutput",
    "answer_loss",
    "match_loss",
    "shuffled_frames",
]

UNKNOWN_ANSWER = -1  # index of an answer that no output stands for


@dataclass(frozen=True)
class QuestionOptions(HeadOptions):
    """Options of heads that learn from frames that do not belong to a sound.

    Attributes:
        negatives: Where training takes such frames from: `batch`: other videos of the batch, as the encoder sees them;
            `frozen`: any other videos of the split, as the frozen backbone sees them without adapters (LAVISH, and
            AVST, which has no adapters).
    """

    negatives: Literal["batch", "frozen"] = "batch"


@dataclass(frozen=True)
class QuestionOutput:
    """What a head makes of a batch of videos and of the questions about them.

    Attributes:
        answers: Logits of each answer; None where the head answers nothing (the grounding stage).
        match: Logits of "the frame is not the sound's" and "it is": one row for each segment's own frame, followed
            by one for the negative of that segment, videos in turn. None where there were no negatives.
        matching: The class of each row of `match`: 1, 0, 1, 0, ...
        spatial: Where in its frame each segment's sound is: shares of the patches that sum to 1. None without video.
        seen: Share of each segment's picture in the answer, mean over attention heads; None without video. They sum
            to 1, except in training, where dropout acts on them.
        heard: The same of each segment's sound.
    """

    answers: Float[Tensor, "questions num_answers"] | None = None
    match: Float[Tensor, "rows 2"] | None = None
    matching: Int[Tensor, " rows"] | None = None
    spatial: Float[Tensor, "videos segments patches"] | None = None
    seen: Float[Tensor, "questions segments"] | None = None
    heard: Float[Tensor, "questions segments"] | None = None


class QuestionHead(Head):
    """A head for tasks with questions; one that reads no video takes None for both streams.

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        num_words: Words of the vocabulary, padding (index 0) included.
        num_answers: Answers to choose from.
    """

    @abstractmethod
    def __init__(self, visual_dim: int, audio_dim: int, num_words: int, num_answers: int) -> None:
        super().__init__()

    @classmethod
    def build(cls, options: HeadOptions, dims: Dims, labels: QuestionLabels) -> Self:
        """A new head for the words and answers."""
        words, answers = labels.vocabulary.words, labels.vocabulary.answers
        head = cls(dims.visual, dims.audio, len(words), len(answers))
        head.frozen_negatives = getattr(options, "negatives", "batch") == "frozen"
        return head

    @abstractmethod
    def forward(
        self,
        visual: Float[Tensor, "videos segments patches visual_dim"],
        audio: Float[Tensor, "videos segments audio_tokens audio_dim"],
        token_ids: Int[Tensor, "questions length"],
        video: Int[Tensor, " questions"],
        negatives: Float[Tensor, "videos segments patches visual_dim"] | None = None,
    ) -> QuestionOutput:
        """From the tokens of both streams and the words of any number of questions about each video.

        Args:
            visual: Patch tokens of the frames, without CLS.
            audio: All tokens of the audio stream.
            token_ids: Words as indices in the vocabulary, padded on the right with 0, always to the same length.
            video: Which video of the batch each question is about.
            negatives: Patch tokens of frames of other videos, one for each segment.
        """

    @abstractmethod
    def loss(self, output: QuestionOutput, answers: Int[Tensor, " questions"]) -> dict[str, Float[Tensor, ""]]:
        """Named terms; the total is their sum.

        Args:
            output: Of `forward`.
            answers: Index of each question's answer; -1, an answer that no output stands for, does not count.
        """


class AnsweringHead(QuestionHead):
    """A head whose output has `answers`."""


class MatchingHead(QuestionHead):
    """A head whose output has `spatial`, and `match` where there are negatives."""


def answer_loss(output: QuestionOutput, answers: Int[Tensor, " questions"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the questions whose answer is known; 0, with a gradient of 0, where none is."""
    assert output.answers is not None
    total = F.cross_entropy(output.answers, answers, ignore_index=UNKNOWN_ANSWER, reduction="sum")
    return total / (answers != UNKNOWN_ANSWER).sum().clamp(min=1)


def match_loss(output: QuestionOutput) -> Float[Tensor, ""]:
    """Mean cross-entropy of "the frame is the sound's", over own frames and negatives."""
    assert output.match is not None
    assert output.matching is not None
    return F.cross_entropy(output.match, output.matching)


def shuffled_frames(
    visual: Float[Tensor, "videos segments patches dim"], generator: torch.Generator | None = None
) -> Float[Tensor, "videos segments patches dim"] | None:
    """Negatives from the batch: for each segment a random segment of a random other video.

    Videos are told apart by their place in the batch. Gradients flow through what is picked.

    Args:
        visual: Patch tokens of the frames.
        generator: Source of chance, on the CPU; None means torch's global one, on the CPU for every device.

    Returns:
        None for a batch of one video, which has no other.
    """
    videos, segments = visual.shape[:2]
    if videos < 2:
        return None
    step = torch.randint(1, videos, (videos, segments), generator=generator)
    other = (torch.arange(videos)[:, None] + step) % videos
    moment = torch.randint(segments, (videos, segments), generator=generator)
    return visual[other.to(visual.device), moment.to(visual.device)]
