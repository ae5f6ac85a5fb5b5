"""What a whole video shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.tables import Table
from avpea.tasks import Answer

__all__ = ["ClipAnswer"]


@dataclass(frozen=True)
class ClipAnswer(Answer):
    """A video's label."""

    video: Path
    label: str
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"video": str(self.video), "label": self.label, "confidence": round(self.confidence, 4)}

    def report(self) -> Iterator[str | Table]:
        """In a sentence."""
        yield f"{self.video}: {self.label} ({self.confidence:.2f})"

    def plot(self, path: str | Path) -> None:
        """A bar."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3, 1))
        figure.add_subplot().barh([self.label], [self.confidence])
        figure.savefig(path)
