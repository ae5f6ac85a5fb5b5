"""The metric by which runs are compared: its names, and how its values are printed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Figure", "epoch_kept", "headline"]


@dataclass(frozen=True)
class Figure:
    """The metric that selects the best epoch and by which runs are compared; in [0, 1], except CIDEr.

    Attributes:
        metric: Key in the metrics of an evaluation.
        name: Name in a sentence.
        breakdown: Key of the same metric by class, or by type of question.
        part: What `breakdown` is by, as the heading of a column.
        parts: What `breakdown` is by, as the heading of a section.
        unit: Unit of 100 times the value.
        beside: Other metrics that a comparison also shows, each with its heading.
    """

    metric: str
    name: str
    breakdown: str
    part: str = "part"
    parts: str = "Parts"
    unit: str = "%"
    beside: Mapping[str, str] = field(default_factory=dict)

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"{100 * value:.2f} " + (self.unit if self.unit == "%" else f"({self.unit})")

    def reached(self, value: float) -> str:
        """A value with its name and unit."""
        return f"{self.name} {self.shown(value)}"

    def heading(self) -> str:
        """Name and unit, capitalised, but not a name such as mIoU."""
        unit = "in percent" if self.unit == "%" else self.unit
        name = self.name if self.name[1:2].isupper() else self.name[0].upper() + self.name[1:]
        return f"{name} {unit}"


def epoch_kept(results: Mapping[str, object]) -> str:
    """Which epoch a model is of, and why, from what a checkpoint or an evaluation records."""
    if results.get("kept") == "last":
        return f"Epoch {results.get('epoch')}, the last one"
    if results.get("selected_on") is None and results.get("epoch") is not None:
        return "Weights that were selected on no split: training was stopped in its first epoch, or they are imported"
    return f"Epoch {results.get('epoch')}, selected on {results.get('selected_on')}"


def headline(published: Mapping[str, object]) -> str:
    """The first number of a published row, the one it is known for; empty if there is none."""
    return next((f"{value:.2f}" for value in published.values() if isinstance(value, float | int)), "")
