"""How a figure that runs are compared by is called and printed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Figure", "headline"]


@dataclass(frozen=True)
class Figure:
    """The metric that selects an epoch and that runs are compared by, in [0, 1] or, as CIDEr, above.

    Attributes:
        metric: Its name among the metrics of an evaluation.
        name: In a sentence.
        breakdown: The metric that gives the same by class, or by type of question.
        part: What that divides it into.
        parts: The same as a heading.
        unit: Of its hundredfold.
        beside: Other metrics that a comparison shows beside it, each with its heading.
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
        """Name and unit, as a sentence begins."""
        unit = "in percent" if self.unit == "%" else self.unit
        return f"{self.name[0].upper()}{self.name[1:]} {unit}"


def headline(published: Mapping[str, object]) -> str:
    """The first number of a published row, which is the one that it is known by; nothing where there is none."""
    return next((f"{value:.2f}" for value in published.values() if isinstance(value, float | int)), "")
