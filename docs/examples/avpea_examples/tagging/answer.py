"""What a person gets: the tags of a video, each with its probability."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.tables import Table
from avpea.tasks import Answer


@dataclass(frozen=True)
class Tags(Answer):
    """Tags of a video, the most probable first."""

    video: Path
    tags: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        return {"video": str(self.video), "tags": dict(self.tags)}

    def rows(self) -> Iterator[tuple[str, float]]:
        yield from self.tags

    def report(self) -> Iterator[str | Table]:
        yield f"{self.video}:"
        yield Table(["tag", "probability"], [(name, f"{share:.2f}") for name, share in self.tags])
