"""The masks of what sounds in a video."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float16, UInt8
from torch import Tensor

from avpea.tables import Table, clock
from avpea.tasks import Answer, beginning

__all__ = ["Segmentation"]


@dataclass(frozen=True)
class Segmentation(Answer):
    """A mask of what sounds for each second of a video.

    Attributes:
        video: The video file.
        duration_seconds: Length of the video.
        class_names: Names of the classes, without background.
        masks: Class of each pixel of each second; 0 is background.
        chances: Probability of there being what sounds.
        clip: Decoded frames and sound.
    """

    video: Path
    duration_seconds: float
    class_names: tuple[str, ...]
    masks: UInt8[Tensor, "seconds side side"]
    chances: Float16[Tensor, "seconds side side"]
    clip: Any

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what was found in each second, with its box as shares of the frame from its top left corner."""
        return {
            **beginning("avpea-masks-1", self.video, self.clip),
            "seconds": [
                {
                    "start_seconds": float(second),
                    "objects": [self._object(second, number) for number in self._in(second)],
                }
                for second in range(len(self.masks))
            ],
        }

    def _in(self, second: int) -> list[int]:
        """The classes in a second."""
        return [number for number in self.masks[second].flatten().bincount().nonzero().flatten().tolist() if number]

    def _object(self, second: int, number: int) -> dict[str, Any]:
        """What is masked as a class in a second."""
        mask: Bool[Tensor, "side side"] = self.masks[second] == number
        side = len(mask)
        rows, columns = (mask.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        return {
            "label": self.class_names[number - 1],
            "share": round(float(mask.float().mean()), 4),
            "box": [round(edge / side, 4) for edge in box],
            "confidence": round(float(self.chances[second][mask].float().mean()), 4),
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A row for each object in each second."""
        for second in range(len(self.masks)):
            for number in self._in(second):
                found = self._object(second, number)
                end = max(float(second), min(second + 1.0, self.duration_seconds))
                yield (
                    float(second), round(end, 3), found["label"], found["share"], *found["box"], found["confidence"],
                )  # fmt: skip

    def report(self) -> Iterator[str | Table]:
        """The seconds in which something sounds, with its share of the frame."""
        found = list(self.rows())
        sounding = len({row[0] for row in found})
        yield f"{self.video}: {clock(self.duration_seconds, decimals=1)}, something sounds in {sounding} seconds"
        yield from self.clip.remarks()
        if not found:
            yield "In no second was anything that sounds found in the picture."
            return
        cells = [(clock(row[0]), row[2], f"{100 * row[3]:.1f} %", f"{row[8]:.2f}") for row in found]
        yield Table(["second", "what", "share of the frame", "confidence"], cells)

    def plot(self, path: str | Path) -> None:
        """Draw each second's frame with its mask."""
        from avpea import plot

        plot.overlay(
            Path(path),
            title=self.video.name,
            frames=self.clip.frames,
            masks=self.masks,
            class_names=self.class_names,
            frame_aspect=self.clip.frame_aspect,
        )
