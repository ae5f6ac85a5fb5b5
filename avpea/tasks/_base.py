"""What every task is: it turns both token streams into an output, and knows its loss, metrics and answer."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from avpea import registry
from avpea.errors import AvpeaError
from avpea.experiment import Experiment
from avpea.labels import Labels
from avpea.metrics.figures import Figure
from avpea.sections import HeadOptions, TaskOptions
from avpea.tables import Table

__all__ = [
    "Answer",
    "Dims",
    "Encoded",
    "Figure",
    "Head",
    "HeadOptions",
    "Task",
    "TaskOptions",
    "Viewing",
    "Window",
    "video_index",
]


@dataclass(frozen=True)
class Dims:
    """Widths of the tokens that an encoder gives.

    Attributes:
        visual: Of the visual stream.
        audio: Of the audio stream.
    """

    visual: int
    audio: int


@dataclass(frozen=True)
class Encoded:
    """What an encoder gives a task: the tokens of both streams for a batch of videos.

    Images are the videos' segments in turn: all of the first video, then all of the second. A video has as many frames
    as segments; how many images its sound has, the encoder decides.

    Attributes:
        visual: Tokens of the frames; None where the head reads no video.
        audio: Tokens of the log-mel images, likewise.
        segments: Segments of a video.
        num_prefix_tokens: Tokens before the patches, in the visual stream.
        has_cls: Whether token 0 is a CLS token.
        negatives: Tokens of frames of other videos, where training wants them.
        positions: Which of its video's segments each one is; None where they are all there.
    """

    visual: Float[Tensor, "images visual_tokens dim"] | None
    audio: Float[Tensor, "images_of_sound audio_tokens audio_dim"] | None
    segments: int
    num_prefix_tokens: int
    has_cls: bool
    negatives: Float[Tensor, "images visual_tokens dim"] | None = None
    positions: Int[Tensor, "videos segments"] | None = None

    @property
    def frames(self) -> Float[Tensor, "videos segments visual_tokens dim"]:
        """Tokens of the frames, by video."""
        assert self.visual is not None
        return self.visual.reshape(-1, self.segments, *self.visual.shape[1:])

    @property
    def sounds(self) -> Float[Tensor, "videos sounds audio_tokens audio_dim"]:
        """Tokens of the sound, by video."""
        assert self.visual is not None
        assert self.audio is not None
        videos = len(self.visual) // self.segments
        return self.audio.reshape(videos, -1, *self.audio.shape[1:])

    @property
    def patches(self) -> Float[Tensor, "videos segments patches dim"]:
        """Patch tokens of the frames, by video."""
        return self.frames[:, :, self.num_prefix_tokens :]

    @property
    def negative_patches(self) -> Float[Tensor, "videos segments patches dim"] | None:
        """Patch tokens of the frames of other videos, one for each segment; None where there are none."""
        if self.negatives is None:
            return None
        patches = self.negatives[:, self.num_prefix_tokens :]
        return patches.reshape(-1, self.segments, *patches.shape[1:])

    @property
    def visual_cls(self) -> Float[Tensor, "videos segments dim"]:
        """CLS of each frame, or the mean of its tokens where there is none."""
        return self._cls(self.frames)

    @property
    def audio_cls(self) -> Float[Tensor, "videos sounds audio_dim"]:
        """CLS of each image of sound, or the mean of its tokens; an image of one token has that one."""
        return self._cls(self.sounds)

    def _cls(self, tokens: Float[Tensor, "... tokens dim"]) -> Float[Tensor, "... dim"]:
        return tokens[..., 0, :] if self.has_cls else tokens.mean(dim=-2)


class Head(nn.Module, ABC):
    """The trained module after the encoder; what it takes and answers is an affair of its task.

    A file in `avpea/tasks/TASK/heads/` with one subclass is a head's name.

    Attributes:
        Options: What a recipe can tell it: a subclass of `HeadOptions`.
        reads_video: Whether it sees or hears anything at all.
        frozen_negatives: Whether a training step wants frames of other videos, as the frozen backbone sees them.
        fused_optimizer: Whether one kernel for all weights pays, as it does with a large table of words (docs/log.md).
    """

    Options: ClassVar[type[HeadOptions]] = HeadOptions
    reads_video: bool = True
    frozen_negatives: bool = False
    fused_optimizer: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def build(cls, options: Any, dims: Dims, labels: Any) -> Self:
        """A new head.

        Args:
            options: Of its own class.
            dims: Widths of the tokens.
            labels: What it answers with.

        Raises:
            ExperimentError, WeightsError: An option that it cannot serve; weights of its own cannot be had.
        """

    @classmethod
    def require_files(cls, options: Any) -> None:
        """Refuse, before any work, files of its own that are known not to be there.

        Raises:
            WeightsError: As `build`.
        """

    def half_precision(self) -> None:
        """Compute in bfloat16, where that is worth it; the weights, which train, stay as they are."""

    def registered_but_unused(self) -> dict[str, int]:
        """Parameters that the head's public code registers but never uses, by what they are."""
        return {}


@dataclass(frozen=True)
class Window:
    """A stretch of a clip that a model looks at in one pass.

    Attributes:
        start: Its first segment.
        stop: The segment after its last one.
        first_new: The first segment that no window before it has.
        frames: RGB frames, one for each second.
        log_mel: Log-mel of each second.
    """

    start: int
    stop: int
    first_new: int
    frames: UInt8[Tensor, "1 segments height width 3"]
    log_mel: Float[Tensor, "1 segments rows mel_bins"]


@runtime_checkable
class Viewing(Protocol):
    """A video in front of a trained model: what a task makes an answer for a person of."""

    @property
    def path(self) -> Path:
        """The file."""

    def whole(self) -> Any:
        """Decode the whole video, second by second, to an `avpea.media.Clip`."""

    def spread(self) -> Any:
        """Decode as many seconds as the model was trained on, spread over the whole video, to a `Clip`."""

    def windows(self, clip: Any) -> Iterator[Window]:
        """Windows of as many seconds as the model was trained on; the last one ends with the clip."""

    def run(self, window: Window, targets: Any = None) -> Any:
        """The model's output for a window."""


class Answer(ABC):
    """What a person gets for a video."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `--json` prints them."""

    @abstractmethod
    def report(self) -> Iterator[str | Table]:
        """What a person reads on the terminal."""

    def plot(self, path: str | Path) -> None:
        """Draw it.

        Raises:
            AvpeaError: There is no picture of such an answer.
        """
        raise AvpeaError(f"There is no picture of what is answered here; leave out {path}.")


class Task(nn.Module, ABC):
    """A task with its trained head. A folder in `avpea/tasks/` whose `task.py` has one subclass is a task's name.

    Between the model and the task go tensors only: `targets` makes them from the samples of a batch.

    Attributes:
        Options: What a recipe can tell it: a subclass of `TaskOptions`.
        figure: The metric that selects an epoch and that runs are compared by.
        needs: What its data set is annotated with.
        heads: What its heads are subclasses of.
        default_head: The one that it has where a recipe names none.
        whole_videos: Whether what it asks for holds for a video's segments together, so that some of them will do.
        verb: The method of a `Predictor` that gives its answer; empty where there is none for a person.
        use: The command that a trained run is for, with `{run}` for its folder.
        tag: What such models are called on the hub.
        example: Python that uses a `Predictor`, for the model card.

    Args:
        head: What answers.
        labels: What it answers with.
    """

    Options: ClassVar[type[TaskOptions]] = TaskOptions
    figure: ClassVar[Figure]
    needs: ClassVar[type[Labels]]
    heads: ClassVar[Any]
    default_head: ClassVar[str]
    whole_videos: ClassVar[bool] = False
    verb: ClassVar[str] = ""
    use: ClassVar[str]
    tag: ClassVar[str]
    example: ClassVar[str]

    def __init__(self, head: Any, labels: Any) -> None:
        super().__init__()
        self.head = head
        self.labels = labels

    @classmethod
    def build(cls, experiment: Experiment, dims: Dims, labels: Labels) -> Self:
        """The task of an experiment with a new head.

        Raises:
            ExperimentError, WeightsError: As `Head.build`.
        """
        head: type[Head] = registry.load("head", experiment.head.name)
        return cls(head.build(experiment.head, dims, labels), labels)

    def require_metrics(self) -> None:
        """Refuse, before any work, to go without what `evaluate` needs.

        Raises:
            AvpeaError: A library is not installed.
        """

    @abstractmethod
    def targets(self, samples: Sequence[Any]) -> Any:
        """What a batch asks for, as tensors: a tensor, or something with `to(device)`."""

    @abstractmethod
    def forward(self, encoded: Encoded, targets: Any = None) -> Any:
        """Tokens to an output.

        Args:
            encoded: Of both streams.
            targets: What is asked; a task whose answer does not depend on it does without.
        """

    @abstractmethod
    def loss(self, output: Any, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and its named terms."""

    @abstractmethod
    def answers(self, output: Any, targets: Any) -> list[Any]:
        """What is answered for each sample of the batch, on the CPU."""

    def complete(self, samples: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
        """The answers once those of a whole split are known, for tasks that compare its samples with each other."""
        return list(answers)

    @abstractmethod
    def evaluate(self, samples: Sequence[Any], answers: Sequence[Any]) -> dict[str, Any]:
        """Metrics by name, as plain values; `figure.metric` and `figure.breakdown` are among them."""

    @abstractmethod
    def score(self, sample: Any, answer: Any) -> float:
        """How many of what a sample asks for are answered correctly, or how well, as `figure` has it."""

    def weight(self, sample: Any) -> int:
        """How many answers a sample asks for, of which `score` counts the correct ones."""
        return int(sample.weight)

    @abstractmethod
    def row(self, sample: Any, answer: Any) -> dict[str, Any]:
        """What was annotated, answered and how sure, as plain values for a line of a file."""

    @abstractmethod
    def examples(self, count: int, segments: int) -> list[Any]:
        """Made-up samples, to measure what a training step costs."""

    def references(self, train: Sequence[Any], samples: Sequence[Any]) -> dict[str, float]:
        """What answers without looking or listening score, by name: only the training samples are known."""
        return {}

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterable[str | Table]:
        """What a person reads of an evaluation, below the figure itself: by default the figure's breakdown."""
        parts = metrics[cls.figure.breakdown]
        cells = [(name, "-" if share is None else f"{100 * share:.2f}") for name, share in parts.items()]
        yield Table([cls.figure.part, cls.figure.heading()], cells)

    def predict(self, viewing: Viewing, *asked: Any, **options: Any) -> Answer:
        """The answer for a person, about one video; in inference mode.

        A task names in its own signature what it takes besides, such as a question.

        Raises:
            AvpeaError: There is none, or what is asked cannot be answered.
        """
        raise AvpeaError(f"A {self.tag} model has no answer about a single video.")

    @staticmethod
    def total(terms: dict[str, Tensor]) -> Tensor:
        """The sum of named terms."""
        return torch.stack(list(terms.values())).sum()


def video_index(counts: Iterable[int]) -> Int[Tensor, " rows"]:
    """Which video each row belongs to, when each video has so many rows in turn."""
    of_each = torch.tensor(list(counts), dtype=torch.int64)
    return torch.arange(len(of_each)).repeat_interleave(of_each)
