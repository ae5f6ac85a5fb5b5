"""Base of the heads for questions, which answer them from their words and the tokens of a video."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avpea import draws
from avpea.distributed import gathered, mean_of
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

UNKNOWN_ANSWER = -1  # index of an answer that is not among the outputs


@dataclass(frozen=True)
class QuestionOptions(HeadOptions):
    """Options of heads that are also trained with negatives: frames that do not belong to a sound.

    Attributes:
        negatives: Source of the negatives in training: `batch` takes frames of other videos in the batch, encoded with
            adapters; `frozen` takes frames of any other videos in the split, encoded by the frozen backbone alone (as
            in LAVISH, and in AVST, which has no adapters).
    """

    negatives: Literal["batch", "frozen"] = "batch"


@dataclass(frozen=True)
class QuestionOutput:
    """Output of a head for a batch of videos and the questions about them.

    Attributes:
        answers: Logits of the answers; None for a head that answers no questions (the grounding stage).
        match: Logits of "the frame is not of this sound" and "it is", in the order of videos, then segments: for each
            segment a row for its own frame, then one for its negative. None without negatives.
        matching: Class of each row of `match`: 1, 0, 1, 0, ...
        spatial: Attention of each segment's sound to the patches of its frame; sums to 1. None without video.
        seen: Attention of each question to the frame of each segment, mean over attention heads; None without video.
            Sums to 1, except in training, because of dropout.
        heard: Attention of each question to the sound of each segment, like `seen`.
    """

    answers: Float[Tensor, "questions num_answers"] | None = None
    match: Float[Tensor, "rows 2"] | None = None
    matching: Int[Tensor, " rows"] | None = None
    spatial: Float[Tensor, "videos segments patches"] | None = None
    seen: Float[Tensor, "questions segments"] | None = None
    heard: Float[Tensor, "questions segments"] | None = None


class QuestionHead(Head):
    """A head for tasks with questions; a head that reads no video is given None for both streams.

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        num_words: Number of words in the vocabulary, padding (index 0) included.
        num_answers: Number of answers.
    """

    @abstractmethod
    def __init__(self, visual_dim: int, audio_dim: int, num_words: int, num_answers: int) -> None:
        super().__init__()

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: QuestionLabels) -> Self:
        """Build a head for the vocabulary."""
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
        """The output, for any number of questions about each video.

        Args:
            visual: Patch tokens of the frames, without CLS.
            audio: All tokens of the audio stream.
            token_ids: Indices of words in the vocabulary, padded on the right with 0, always to the same length.
            video: Index in the batch of each question's video.
            negatives: Patch tokens of frames of other videos, one frame for each segment.
        """

    @abstractmethod
    def loss(self, output: QuestionOutput, answers: Int[Tensor, " questions"]) -> dict[str, Float[Tensor, ""]]:
        """Loss terms by name; the total is their sum.

        Args:
            output: Output of `forward`.
            answers: Index of each question's answer; -1 for an answer that is not among the outputs and is ignored.
        """


class AnsweringHead(QuestionHead):
    """A head whose output has `answers`."""


class MatchingHead(QuestionHead):
    """A head whose output has `spatial` and, with negatives, `match`."""


def answer_loss(output: QuestionOutput, answers: Int[Tensor, " questions"]) -> Float[Tensor, ""]:
    """Mean cross-entropy over questions with a known answer; 0, with a gradient of 0, if there are none."""
    assert output.answers is not None
    total = F.cross_entropy(output.answers, answers, ignore_index=UNKNOWN_ANSWER, reduction="sum")
    return mean_of(total, (answers != UNKNOWN_ANSWER).sum())


def match_loss(output: QuestionOutput) -> Float[Tensor, ""]:
    """Mean cross-entropy of the match, over own frames and negatives."""
    assert output.match is not None
    assert output.matching is not None
    total = F.cross_entropy(output.match, output.matching, reduction="sum")
    return mean_of(total, torch.tensor(len(output.match), device=total.device))


def shuffled_frames(
    visual: Float[Tensor, "videos segments patches dim"], generator: torch.Generator | None = None
) -> Float[Tensor, "videos segments patches dim"] | None:
    """Negatives from the batch: for each segment, a random segment of a random other video.

    Every index in the batch counts as another video. Gradients flow through the drawn tokens.

    Args:
        visual: Patch tokens of the frames.
        generator: Random generator on the CPU; None means that of the batch (`avpea.draws`).

    Returns:
        Patch tokens of the drawn frames; None for a batch of one video.
    """
    every, first = gathered(visual)  # of the batches of all processes
    videos, segments = every.shape[:2]
    if videos < 2:
        return None
    generator = draws.generator("shuffled frames") if generator is None else generator
    step = torch.randint(1, videos, (videos, segments), generator=generator)
    other = (torch.arange(videos)[:, None] + step) % videos
    moment = torch.randint(segments, (videos, segments), generator=generator)
    own = slice(first, first + len(visual))
    return every[other[own].to(visual.device), moment[own].to(visual.device)]
