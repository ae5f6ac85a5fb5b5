"""What every task is: it turns both token streams into an output, and knows its loss, metrics and answer."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea import registry
from avpea.configs import HeadConfig
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.questions import QuestionVocabulary

__all__ = ["Task", "by_video", "cls_tokens", "head_class", "owners"]


class Task(nn.Module, ABC):
    """A task with its trained head. A file in `avpea/tasks/` with one subclass is a task's name.

    Between the model and the task go tensors only: `targets` makes them from the samples of a batch.

    Attributes:
        metric: The figure of `evaluate`, in [0, 1], that selects an epoch and that runs are compared by.
        needs: What its data set is annotated with.
        whole_videos: Whether what it asks for holds for a video's segments together, so that some of them will do.
        use: The command that a trained run is for, with `{run}` for its folder.
        breakdown: The figure of `evaluate` that gives the metric by class, or by type of question.
        reads_video: Whether the head sees and hears anything at all.
        frozen_negatives: Whether a training step wants frames of other videos, as the frozen backbone sees them.

    Args:
        head: What answers.
    """

    metric: ClassVar[str]
    breakdown: ClassVar[str]
    use: ClassVar[str]
    needs: ClassVar[Literal["events", "questions", "captions"]] = "events"
    whole_videos: ClassVar[bool] = False
    reads_video: bool = True
    frozen_negatives: bool = False

    @abstractmethod
    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    @classmethod
    @abstractmethod
    def build(
        cls,
        experiment: Experiment,
        visual_dim: int,
        audio_dim: int,
        num_classes: int,
        questions: QuestionVocabulary | None = None,
    ) -> "Task":
        """The task with a new head.

        Args:
            experiment: Names the head, and a text model where there is one.
            visual_dim: Width of the visual tokens.
            audio_dim: Width of the audio tokens.
            num_classes: Categories that the head answers with, background not counted.
            questions: What the head can read and answer, for tasks with questions.

        Raises:
            ExperimentError: No such head, or one of another task.
            WeightsError: The text model cannot be had.
        """

    def require_metrics(self) -> None:
        """Refuse, before any work, to go without what `evaluate` needs.

        Raises:
            AvpeaError: A library is not installed.
        """

    @abstractmethod
    def targets(self, samples: Sequence[Any]) -> Any:
        """What a batch asks for, as tensors: a tensor, or something with `to(device)`."""

    @abstractmethod
    def forward(
        self,
        visual: Tensor | None,
        audio: Tensor | None,
        targets: Any = None,
        negatives: Tensor | None = None,
        *,
        segments: int,
        num_prefix_tokens: int,
        has_cls: bool,
        places: Tensor | None = None,
    ) -> Any:
        """Tokens (images, tokens, dim) of both streams to an output; images are videos' seconds in turn.

        Args:
            visual: Tokens of the frames; None where the head reads no video.
            audio: Tokens of the log-mel images, likewise.
            targets: What is asked; a task whose answer does not depend on it does without.
            negatives: Tokens of frames of other videos, where training wants them.
            segments: Segments of a video.
            num_prefix_tokens: Tokens before the patches, in the visual stream.
            has_cls: Whether token 0 is a CLS token.
            places: Which of its video's segments each one is, (videos, segments); None where they are all there.
        """

    @abstractmethod
    def loss(self, output: Any, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and its named terms."""

    @abstractmethod
    def answers(self, output: Any, targets: Any) -> list[Any]:
        """What is answered for each sample of the batch, on the CPU."""

    def settle(self, samples: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
        """The answers once those of a whole split are known, for tasks that compare its samples with each other."""
        return list(answers)

    @abstractmethod
    def evaluate(self, samples: Sequence[Any], answers: Sequence[Any], class_names: Sequence[str]) -> dict[str, Any]:
        """Metrics by name, as plain values."""

    @abstractmethod
    def right(self, sample: Any, answer: Any) -> float:
        """How many of what a sample asks for are answered rightly, or how well, as `metric` has it."""

    def asked(self, sample: Any) -> int:
        """How many answers a sample asks for, of which `right` counts the right ones."""
        return int(sample.weight)

    @abstractmethod
    def row(self, sample: Any, answer: Any, class_names: Sequence[str]) -> dict[str, Any]:
        """What was annotated, answered and how sure, as plain values for a line of a file."""

    @abstractmethod
    def examples(self, count: int, segments: int) -> list[Any]:
        """Made-up samples, to measure what a training step costs."""

    def references(self, train: Sequence[Any], samples: Sequence[Any]) -> dict[str, float]:
        """What answers without looking or listening score, by name: only the training samples are known."""
        return {}

    @staticmethod
    def total(terms: dict[str, Tensor]) -> Tensor:
        """The sum of named terms."""
        return torch.stack(list(terms.values())).sum()


def head_class(config: HeadConfig, kind: type[nn.Module], task: str) -> Any:
    """The head that a recipe names, if it is of the kind that a task takes.

    Raises:
        ExperimentError: No such head, or one of another task.
    """
    found = registry.load("head", config.name)
    if not issubclass(found, kind):
        fitting = [name for name in registry.names("head") if issubclass(registry.load("head", name), kind)]
        raise ExperimentError(
            f"head.name is '{config.name}', which is no head of the task '{task}'; it takes {', '.join(fitting)}."
        )
    return found


def by_video(rows: Tensor, segments: int) -> Tensor:
    """Rows of images to (videos, segments, ...)."""
    return rows.reshape(-1, segments, *rows.shape[1:])


def cls_tokens(tokens: Float[Tensor, "... tokens dim"], has_cls: bool) -> Float[Tensor, "... dim"]:
    """CLS of each image; the mean of its tokens where there is none. Of an image of one token, either is that token."""
    return tokens[..., 0, :] if has_cls else tokens.mean(dim=-2)


def owners(counts: Iterable[int]) -> Int[Tensor, " rows"]:
    """Which video each row belongs to, when each video has so many rows in turn."""
    of_each = torch.tensor(list(counts), dtype=torch.int64)
    return torch.arange(len(of_each)).repeat_interleave(of_each)
