"""How the figures that runs are compared by are called and printed."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Figure", "figure_of", "headline"]


@dataclass(frozen=True)
class Figure:
    """A metric in [0, 1], or above 1 for CIDEr, as a person reads it.

    Attributes:
        name: In a sentence.
        part: What it is divided into.
        parts: The same as a heading.
        unit: Of its hundredfold.
    """

    name: str
    part: str = "part"
    parts: str = "Parts"
    unit: str = "%"

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"{100 * value:.2f} " + (self.unit if self.unit == "%" else f"({self.unit})")

    def reached(self, value: float) -> str:
        """A value with its name and unit."""
        return f"{self.name} {self.shown(value)}"

    def heading(self) -> str:
        """Name and unit, as a sentence begins."""
        unit = "in percent" if self.unit == "%" else self.unit
        return f"{self.name[0].upper()}{self.name[1:]} {unit}"


_FIGURES = {
    "segment_accuracy": Figure("segment accuracy", "class", "Classes"),
    "overall_accuracy": Figure("overall accuracy", "type of question", "Types of questions"),
    "match_accuracy": Figure("match accuracy", "frame", "Frames"),
    "mean_recall": Figure("mean recall", "recall", "Recalls"),
    "cider": Figure("CIDEr", "score", "Scores", "times 100"),
}


def figure_of(metric: str) -> Figure:
    """The figure of a task's `metric`; one that an extension brings is called as it is."""
    return _FIGURES.get(metric, Figure(metric.replace("_", " ")))


def headline(published: Mapping[str, object]) -> str:
    """The first number of a published row, which is the one that it is known by; nothing where there is none."""
    return next((f"{value:.2f}" for value in published.values() if isinstance(value, float | int)), "")
