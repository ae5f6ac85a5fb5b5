"""Base classes: a task turns both token streams into an output, and defines its loss, metrics and answer."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea import registry
from avpea.errors import AvpeaError
from avpea.experiment import Experiment
from avpea.formats import Stretch
from avpea.labels import Labels
from avpea.metrics.figures import Figure
from avpea.sections import HeadOptions, TaskOptions
from avpea.tables import Table
from avpea.tasks._answer import Answer, Confusion, Mistake, Viewing, Window, beginning
from avpea.tasks._calibration import Calibration, Chances
from avpea.tasks._encoded import Dims, Encoded

__all__ = [
    "Answer",
    "Calibration",
    "Chances",
    "Confusion",
    "Dims",
    "Encoded",
    "Figure",
    "Head",
    "HeadOptions",
    "Mistake",
    "Stretch",
    "Task",
    "TaskOptions",
    "Viewing",
    "Window",
    "beginning",
]


class Head(nn.Module, ABC):
    """The trained module after the encoder; its task defines what it takes and returns.

    Each file in `avpea/tasks/TASK/heads/` defines one head, which is called by the file's name.

    Attributes:
        Options: Options in a recipe, a subclass of `HeadOptions`.
        reads_video: Whether the head uses any tokens of the video.
        frozen_negatives: Whether training uses frames of other videos, encoded by the frozen backbone alone.
        reads_stages: Whether the head uses the visual tokens at the end of each stage of a Swin.
    """

    Options: ClassVar[type[HeadOptions]] = HeadOptions
    reads_video: bool = True
    reads_stages: bool = False
    frozen_negatives: bool = False

    @classmethod
    @abstractmethod
    def build(cls, options: Any, dims: Dims, labels: Any) -> Self:
        """Build a new head.

        Args:
            options: Options of the class `Options`.
            dims: Widths of the tokens.
            labels: Labels that the head predicts.

        Raises:
            ExperimentError: An option does not fit.
            WeightsError: Pretrained weights of the head cannot be loaded.
        """

    @classmethod
    def require_files(cls, options: Any) -> None:
        """Refuse, before any work, if files that `build` needs are known to be missing.

        Raises:
            WeightsError: A file is missing.
        """

    def half_precision(self) -> None:
        """Compute in bfloat16 where that pays; the trained weights stay in float32."""

    def registered_but_unused(self) -> dict[str, int]:
        """Number of parameters that the head's public code registers but never uses, by layer."""
        return {}


class Task(nn.Module, ABC):
    """A task with its trained head. Each `avpea/tasks/NAME/task.py` defines one task, which is called by its folder.

    Only tensors pass between model and task: `targets` makes them from the samples of a batch.

    Attributes:
        Options: Options in a recipe, a subclass of `TaskOptions`.
        figure: Metric that selects the best epoch and compares runs.
        needs: Kind of labels that its data set must have.
        heads: Base class of its heads.
        default_head: Name of the head if a recipe names none.
        whole_videos: Whether an answer is about a whole video, so that training may use only some of its segments.
        augments: Options of `train.augment` that leave its annotations true.
        verb: Name that `Predictor.predict` also goes by; empty if the task has no answer for a user.
        serves: What a server calls `predict`, if not by `verb`; such as `localize`.
        columns: Columns of a table of its answers, without the video; empty if there is no such table.
        stretches: What an answer is about, if that is stretches of the video, such as `events`; else empty.
        worst: What `mistakes` returns, in words.
        use: Command to use a trained run with; `{run}` stands for the run folder.
        tag: Tag of such models on the hub.
        example: Python code that uses a `Predictor`, for the model card.
        unexported: Why `avpea export` refuses such models; empty if their output needs frames and sound alone.
        calibration: What was fitted on the selection split after training; None before, and for models without it.

    Args:
        head: The trained head.
        labels: Labels that the head predicts.
    """

    Options: ClassVar[type[TaskOptions]] = TaskOptions
    figure: ClassVar[Figure]
    needs: ClassVar[type[Labels]]
    heads: ClassVar[Any]
    default_head: ClassVar[str]
    whole_videos: ClassVar[bool] = False
    augments: ClassVar[tuple[str, ...]] = ("time_masks", "mel_masks")
    verb: ClassVar[str] = ""
    serves: ClassVar[str] = ""
    columns: ClassVar[tuple[str, ...]] = ()
    stretches: ClassVar[str] = ""
    worst: ClassVar[str] = "surest wrong answers"
    use: ClassVar[str]
    tag: ClassVar[str]
    example: ClassVar[str]
    unexported: ClassVar[str] = "the task does not say that its output needs frames and sound alone"
    calibration: Calibration | None

    def __init__(self, head: Any, labels: Any) -> None:
        super().__init__()
        self.head = head
        self.labels = labels
        self.calibration = None

    @property
    def device(self) -> torch.device:
        """The device of its head, where targets and prompts must be; answers are on the CPU."""
        return next(self.parameters()).device

    @classmethod
    def build(cls, experiment: Experiment, dims: Dims, labels: Labels) -> Self:
        """Build the task of an experiment, with a new head.

        Raises:
            ExperimentError, WeightsError: From `Head.build`.
        """
        head: type[Head] = registry.load("head", experiment.head.name)
        return cls(head.build(experiment.head, dims, labels), labels)

    def require_metrics(self) -> None:
        """Refuse, before any work, if a library that `evaluate` needs is missing.

        Raises:
            AvpeaError: The library is not installed.
        """

    @abstractmethod
    def targets(self, samples: Sequence[Any]) -> Any:
        """The targets of a batch: a tensor, or an object of tensors with `to(device)`."""

    @abstractmethod
    def forward(self, encoded: Encoded, targets: Any = None) -> Any:
        """The output for a batch.

        Args:
            encoded: Tokens of both streams.
            targets: Targets from `targets`; needed if the output depends on them, as with questions.
        """

    def loss(self, output: Any, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss, and its terms by name; by default those of `head.loss`."""
        terms = self.head.loss(output, targets)
        return self.total(terms), terms

    def validation_loss(self, output: Any, targets: Any) -> Tensor:
        """The loss in evaluation, to compare with that of training; by default the total of `loss`."""
        return self.loss(output, targets)[0]

    def prepare(self, train: Sequence[Any]) -> None:
        """Take from the training samples what the loss needs to know, before training starts; by default nothing."""

    @abstractmethod
    def answers(self, output: Any, targets: Any) -> list[Any]:
        """The answer for each sample of the batch, on the CPU."""

    def respond(self, encoded: Encoded, targets: Any = None, output: Any = None) -> list[Any]:
        """The answer for each sample of the batch, from its tokens.

        A task whose answers need more of the tokens than its output holds overrides it.

        Args:
            encoded: Tokens of both streams.
            targets: Targets from `targets`; needed if the output depends on them.
            output: The output for the batch, if it is there already.
        """
        return self.answers(self(encoded, targets) if output is None else output, targets)

    def chances(self, samples: Sequence[Any], answers: Sequence[Any]) -> Chances | None:
        """The probabilities behind a split's answers, on which confidence is calibrated; None if there are none.

        A task that returns them gets `calibration` after training, and applies its temperature in `answers`.
        """
        return None

    def choose(self, samples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Options of `predict`, such as a threshold, that do best on a split.

        The answers were made before the temperature in `calibration` was known.
        """
        return {}

    def features(self, samples: Sequence[Any], answers: Sequence[Any]) -> Float[Tensor, "rows width"] | None:
        """What answers hold of their inputs, by which an input unlike those of training is known; None for nothing."""
        return None

    def complete(self, samples: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
        """Complete the answers of a whole split, for tasks that compare its samples with each other."""
        return list(answers)

    @abstractmethod
    def evaluate(self, samples: Sequence[Any], answers: Sequence[Any]) -> dict[str, Any]:
        """Metrics by name, as plain values, including `figure.metric` and `figure.breakdown`."""

    @abstractmethod
    def score(self, sample: Any, answer: Any) -> float:
        """Number of correct answers for a sample, or its score, on the scale of `figure`."""

    def weight(self, sample: Any) -> int:
        """Number of answers that a sample needs, of which `score` counts the correct ones."""
        return int(sample.weight)

    def weight_of_answer(self, sample: Any, answer: Any) -> int:
        """`weight`, unless the answer itself says how many answers the sample was asked for."""
        return self.weight(sample)

    @abstractmethod
    def row(self, sample: Any, answer: Any) -> dict[str, Any]:
        """Annotation, answer and confidence, as plain values for a line of a file."""

    @abstractmethod
    def examples(self, count: int, segments: int) -> list[Any]:
        """Made-up samples, for measuring the cost of a training step."""

    def references(self, train: Sequence[Any], samples: Sequence[Any]) -> dict[str, float]:
        """Scores of baselines that know the training samples but not the videos, by name."""
        return {}

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterable[str | Table]:
        """An evaluation as text and tables, printed below the metric; by default its breakdown."""
        parts = metrics[cls.figure.breakdown]
        cells = [(name, "-" if share is None else f"{100 * share:.2f}") for name, share in parts.items()]
        yield Table([cls.figure.part, cls.figure.heading()], cells)

    @classmethod
    def confusion(cls, metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Confusion | None:
        """The confusion matrix of an evaluation, for a report; None if answers are no classes.

        Args:
            metrics: The metrics of the evaluation.
            rows: What `row` returned for each sample.
        """
        return None

    @classmethod
    def mistakes(cls, rows: Sequence[Mapping[str, Any]], count: int) -> list[Mistake]:
        """The wrong answers that tell most about the model, the surest first, for a report.

        Args:
            rows: What `row` returned for each sample.
            count: How many at most.
        """
        return []

    def predict(self, viewing: Viewing, *asked: Any, **options: Any) -> Answer:
        """The answer to a user about one video; called in inference mode.

        A task that takes further input, such as a question, adds it to the signature.

        Raises:
            AvpeaError: The task has no answer about a single video, or not to this input.
        """
        raise AvpeaError(f"A {self.tag} model has no answer about a single video.")

    @staticmethod
    def total(terms: dict[str, Tensor]) -> Tensor:
        """The sum of loss terms."""
        return torch.stack(list(terms.values())).sum()
