"""The base class of a tracker, and what it is told about a run."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

__all__ = ["About", "Outcome", "Tracker", "as_text", "flat"]

Outcome = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class About:
    """What a tracker is told about a run.

    Attributes:
        folder: The run's folder, whose name is that of the run.
        options: All options of the experiment, as plain values.
    """

    folder: Path
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The run's name, for people."""
        return as_text(self.folder.absolute().name)


class Tracker(ABC):
    """Follows one run, in the process that writes its files. What it raises costs a sentence and not the training.

    Attributes:
        title: Its name, for people.
        package: The package that it needs.
        extra: The extra of avpea that brings this package.
        remembers: Whether `trackers.json` keeps the run's identifier and how many epochs were logged.
    """

    title: ClassVar[str]
    package: ClassVar[str]
    extra: ClassVar[str]
    remembers: ClassVar[bool] = True

    @abstractmethod
    def start(self, about: About, known: str, epochs: int) -> tuple[str, int, str]:
        """Begin, or go on with the tracker's run.

        Args:
            about: The run.
            known: Identifier of the tracker's run, if an earlier session began one; else empty.
            epochs: Number of epochs that it has been told.

        Returns:
            The identifier to go on with; the number of epochs that the tracker knows; and a sentence for the user,
            which may be empty.
        """

    @abstractmethod
    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of an epoch."""

    @abstractmethod
    def end(self, best: Mapping[str, float], outcome: Outcome) -> None:
        """Take the best epoch's numbers, and end; a later session may go on."""


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Options by dotted name, as text. The paper's results, whose names anybody can choose, are left out."""
    found: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and prefix + name != "published":
            found |= flat(value, f"{prefix}{name}.")
        elif prefix + name != "published":
            found[prefix + name] = as_text(value)
    return found


def as_text(value: Any) -> str:
    """A value as text that is valid UTF-8, whatever a file name is."""
    return str(value).encode("utf-8", "backslashreplace").decode()
