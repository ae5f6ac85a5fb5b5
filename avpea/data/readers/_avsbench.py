"""What the readers of AVSBench share: its tables, its options, and samples of pictures with a wav."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from avpea.data.readers._files import require_stem, safe
from avpea.data.readers._masks import MaskOptions
from avpea.errors import DataError
from avpea.formats.text import read_text
from avpea.labels import SPLITS, Annotations, MaskLabels, MaskSample, shortened
from avpea.tables import how_many

__all__ = ["AVSBenchOptions", "annotations", "find", "require_segments", "rows_of", "sample"]

_ID_LENGTH = 11  # characters of a video's id at YouTube, with which the names begin


@dataclass(frozen=True)
class AVSBenchOptions(MaskOptions):
    """Options of AVSBench. Its k-th picture is the last sixteenth of second k.

    Attributes:
        segments: Number of one-second segments in a sample.
    """

    frame_at_seconds: ClassVar[float] = 15 / 16
    segments: int = 5


def find(root: Path, name: str, folder: str) -> Path:
    """A table, in the root or in the folder of its part there.

    Raises:
        DataError: It is in neither.
    """
    for path in (root / name, root / folder / name):
        if path.is_file():
            return path
    raise DataError(
        f"{root} has no {name}, nor has {root / folder}; AVSBench is a folder with {folder}/{name} and what belongs to "
        "it: point --data.root there."
    )


def rows_of(path: Path, columns: Sequence[str], places: Sequence[int]) -> list[tuple[str, tuple[str, ...]]]:
    """Rows of a table: for each its file and line, and the values of some columns.

    The first line is a header, unless there is a split where one stands in a row.

    Args:
        path: The table.
        columns: Names of the columns, as a header may have them.
        places: Their places, for a header that has other names.

    Raises:
        DataError: It has no rows, or one is malformed.
    """
    try:
        lines = list(csv.reader(io.StringIO(read_text(path)), strict=True))
    except csv.Error as error:
        raise DataError(f"{path} is not CSV with commas ({error}); save it as such, or get it anew.") from None
    header = [name.strip().lower() for name in lines[0]] if lines else []
    where = [header.index(name) if name in header else place for name, place in zip(columns, places, strict=True)]
    split = dict(zip(columns, where, strict=True)).get("split", len(header))
    first = 0 if split < len(header) and header[split] in SPLITS else 1
    found = []
    for number, row in enumerate(lines[first:], start=first + 1):
        if any(cell.strip() for cell in row):
            if len(row) <= max(where):
                raise DataError(f"{path}, line {number}: found {len(row)} fields; expected {max(where) + 1} or more.")
            values = tuple(row[place].strip() for place in where)
            _check(f"{path}, line {number}", dict(zip(columns, values, strict=True)))
            found.append((f"{path}, line {number}", values))
    if not found:
        raise DataError(f"{path} has no rows below its header; expected one for each video, with {', '.join(columns)}.")
    return found


def _check(where: str, values: dict[str, str]) -> None:
    for name, value in values.items():
        if name == "split" and value not in SPLITS:
            raise DataError(f"{where}: found the split '{value}'; expected train, val or test.")
        require_stem(where, f"{name} '{value}'", value)


def sample(
    number: int, split: str, name: str, sound: Path, pictures: Iterable[Path], masks: Sequence[Path | None],
    options: AVSBenchOptions, category: str = "", colours: bool = False,
) -> MaskSample:  # fmt: skip
    """A sample of pictures with a wav; seconds after the last mask are not annotated."""
    shown = [None if path is None else str(path) for path in masks[: options.segments]]
    return MaskSample(
        key=f"{split}-{number:05d}-{safe(name)}",
        video_id=name,
        video=sound,
        start_seconds=0.0,
        segments=options.segments,
        split=split,
        masks=(*shown, *[None] * (options.segments - len(shown))),
        pictures=tuple(map(str, pictures))[: options.segments],
        side=options.mask_size,
        colours=colours,
        category=category,
    )


def annotations(
    name: str, root: Path, samples: Sequence[MaskSample], labels: MaskLabels, ids: Iterable[str]
) -> Annotations:
    """The annotations of a part of AVSBench, with remarks about ids that are cut, or there twice."""
    short = list(dict.fromkeys(one for one in ids if len(one) < _ID_LENGTH))
    notes = []
    if short:
        notes.append(
            f"{how_many(len(short), 'id has', 'ids have')} fewer than the {_ID_LENGTH} characters of a video's id at "
            f"YouTube, perhaps cut, as spreadsheets do with a leading '-' or '=': {shortened(short)}."
        )
    splits = {split: tuple(one for one in samples if one.split == split) for split in SPLITS}
    found = Annotations(name, root, labels, splits)
    if repeated := found.repeated_ids():
        many = how_many(len(repeated), "id has", "ids have")
        notes.append(f"{many} more than one row, all kept: {shortened(repeated)}.")
    notes += [f"There are no {split} rows." for split in SPLITS if not splits[split]]
    return Annotations(name, root, labels, splits, tuple(notes))


def require_segments(options: AVSBenchOptions, most: int) -> None:
    """Refuse more seconds than the videos have.

    Raises:
        DataError: There are more.
    """
    if options.segments > most:
        raise DataError(f"data.segments is {options.segments}, but a video has {most} seconds; set it to {most}.")
