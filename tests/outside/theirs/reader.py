"""A reader: `NAME LABEL` a line, one line a video of as many seconds as a sample has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.data.readers import Reader, ReaderOptions
from avpea.labels import SPLITS, Annotations, EventLabels, EventSample

__all__ = ["EXTENSION", "Lines"]


@dataclass(frozen=True)
class LinesOptions(ReaderOptions):
    """Options of the reader.

    Attributes:
        suffix: Of the video files.
    """

    suffix: str = ".mp4"


class Lines(Reader):
    """Lines of `train.txt`, `val.txt` and `test.txt`."""

    labels = EventLabels
    Options = LinesOptions

    @staticmethod
    def read(options: Any) -> Annotations:
        """Read the three files; videos lie beside them."""
        root = Path(options.root)
        rows = {split: [line.split() for line in (root / f"{split}.txt").read_text().splitlines()] for split in SPLITS}
        names = tuple(sorted({label for some in rows.values() for _, label in some}))
        splits = {
            split: tuple(
                EventSample(
                    key=f"{split}-{name}",
                    video_id=name,
                    video=root / f"{name}{options.suffix}",
                    start_seconds=0.0,
                    segments=options.segments,
                    split=split,
                    labels=(names.index(label),) * options.segments,
                )
                for name, label in some
            )
            for split, some in rows.items()
        }
        return Annotations("lines", root, EventLabels(names), splits)


EXTENSION = Lines
