"""What a task answers a user from, what it answers, and what it tells of its mistakes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from avpea.errors import AvpeaError
from avpea.formats import Stretch
from avpea.tables import Table

__all__ = ["Answer", "Confusion", "Mistake", "Viewing", "Window", "beginning"]


@dataclass(frozen=True)
class Window:
    """A stretch of a clip that a model processes in one pass.

    Attributes:
        start: Index of the first segment.
        stop: Index after the last segment.
        first_new: Index of the first segment that is in no earlier window.
        frames: RGB frames, one per second.
        log_mel: Log-mel of each second.
    """

    start: int
    stop: int
    first_new: int
    frames: UInt8[Tensor, "1 segments height width 3"]
    log_mel: Float[Tensor, "1 sounds rows mel_bins"]


@runtime_checkable
class Viewing(Protocol):
    """A video and a trained model: what a task needs to answer a user."""

    @property
    def path(self) -> Path:
        """The video file."""

    def whole(self) -> Any:
        """The whole video: an `avpea.media.Clip`, or a `Film`, whose length is known when its last window is."""

    def spread(self) -> Any:
        """Decode as many seconds as the model was trained on, spread over the video, to a `Clip`."""

    def windows(self, clip: Any) -> Iterator[Window]:
        """Windows of as many seconds as the model was trained on, on its device; the last one ends with the clip."""

    def run(self, window: Window, targets: Any = None) -> Any:
        """The model's output for a window; targets may be on any device."""

    def respond(self, window: Window) -> Any:
        """The task's answer about a window, as `Task.respond` makes it."""


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        of: What its rows and columns are, such as `class`.
        names: Names of its rows and columns.
        counts: Number of answers by what is annotated (row) and predicted (column).
    """

    of: str
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer in an evaluation.

    Attributes:
        key: Key of its sample.
        second: Index of its segment in the sample; None if it is about all of it.
        expected: What is annotated.
        answered: What was answered.
        confidence: Confidence of the answer in [0, 1], if there is one.
        about: What was asked, if anything.
    """

    key: str
    second: int | None
    expected: str
    answered: str
    confidence: float | None = None
    about: str = ""


def beginning(schema: str, video: Path, clip: Any) -> dict[str, Any]:
    """What the plain values of every answer begin with.

    Args:
        schema: Name and version of the form of the values, such as `avpea-events-1`.
        video: The video file.
        clip: Its decoded frames and sound.
    """
    return {
        "schema": schema,
        "video": str(video),
        "duration_seconds": round(clip.duration_seconds, 3),
        "declared_seconds": round(clip.declared_seconds, 3),
        "remarks": clip.remarks(),
    }


class Answer(ABC):
    """A task's answer to a user about a video."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `--json` prints them."""

    @abstractmethod
    def report(self) -> Iterator[str | Table]:
        """The answer as text and tables for the terminal."""

    def rows(self) -> Iterable[Sequence[Any]]:
        """The answer as rows of a table: a cell for each of the task's `columns`; none if there is nothing to say."""
        return ()

    def stretches(self) -> Iterable[Stretch]:
        """The stretches of the video that the answer is about, in order of time, for the task's `stretches`."""
        return ()

    def plot(self, path: str | Path) -> None:
        """Draw the answer to a file.

        Raises:
            AvpeaError: There is no picture of this kind of answer.
        """
        raise AvpeaError(f"There is no picture of this kind of answer; leave out {path}.")
