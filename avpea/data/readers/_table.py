"""Tables of annotations in CSV or JSON Lines, and the rows of a manifest of events."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from avpea.errors import DataError
from avpea.formats.rows import Columns, csv_rows, json_rows, label_in, require_readable, span_in, text_in
from avpea.formats.text import read_text
from avpea.labels import SPLITS, shortened
from avpea.tables import how_many

__all__ = ["Row", "TableRow", "each", "read_rows", "read_table", "split_of"]

T = TypeVar("T")
TableRow = tuple[str, Mapping[str, object]]  # file and line, for errors, and the values by column
_NAMED = 20  # of malformed rows

_REQUIRED = ("video", "start_seconds", "end_seconds", "label")
_COLUMNS = (*_REQUIRED, "split")


@dataclass(frozen=True)
class Row:
    """One row: an event, or with an empty label a video without events.

    Attributes:
        where: File and line, for errors.
        video: Path as written.
        start_seconds: Start of the event.
        end_seconds: End of the event.
        label: Class of the event.
        split: Split of the video; empty if the manifest has no such column.
        lane: Whether the event is `seen`, `heard` or `both`; empty if the manifest has no such column.
    """

    where: str
    video: str
    start_seconds: float
    end_seconds: float
    label: str
    split: str
    lane: str = ""


# `avpea predict --csv` writes these too, so that its table, corrected, is a manifest.
_OF_PREDICTIONS = ("confidence", "doubtful", "error")
# In JSON the keys of an event may be left out if there is none.
_EVENTS = Columns(_COLUMNS, _REQUIRED, ("video",), _OF_PREDICTIONS)
_LANES = Columns((*_COLUMNS, "lane"), _REQUIRED, ("video",), _OF_PREDICTIONS)
LANES = ("seen", "heard", "both")


def read_rows(path: Path, lanes: bool = False) -> tuple[list[Row], bool]:
    """Read and check all rows of a manifest of events, which with `lanes` may have a column `lane`.

    Returns:
        The rows, and whether the manifest has a column `split`.

    Raises:
        DataError: The file is missing, empty, or neither CSV nor JSON Lines, or a row is malformed.
    """
    found = read_table(path, _LANES if lanes else _EVENTS)
    has_split = "split" in found[0][1]
    rows = each(found, lambda where, values: _row(where, values, has_split))
    _require_lanes(found)
    return rows, has_split


def each(found: Sequence[TableRow], made: Callable[[str, Mapping[str, object]], T]) -> list[T]:
    """What is made of each row of a table.

    Raises:
        DataError: Rows are malformed: it says what is wrong with the first of them, and names the lines of the others.
    """
    rows: list[T] = []
    first: DataError | None = None
    others: list[str] = []
    for where, values in found:
        try:
            rows.append(made(where, values))
        except DataError as error:
            if first is None:
                first = error
            else:
                others.append(where.rpartition(", ")[2])
    if first is not None and others:
        many = how_many(len(others), "more row is", "more rows are")
        raise DataError(f"{first} {many} malformed: {shortened(others, _NAMED)}.")
    if first is not None:
        raise first
    return rows


def read_table(path: Path, columns: Columns) -> list[TableRow]:
    """Read a table: for each row its file and line, for errors, and its values by column.

    Raises:
        DataError: The file is missing, empty, or neither CSV nor JSON Lines, or its columns are wrong.
    """
    if not os.path.isfile(path):  # unlike Path's, it takes paths that are too long
        raise DataError(f"There is no manifest {path} (--data.root); expected a .csv or .jsonl file.")
    readers = {".csv": csv_rows, ".jsonl": json_rows, ".ndjson": json_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} ends in '{path.suffix}'; expected a manifest in .csv or .jsonl.")
    found = list(reader(str(path), read_text(path), columns))
    if not found:
        raise DataError(f"{path} has no rows; expected one a line, with {', '.join(columns.known)}.")
    return found


def _row(where: str, values: Mapping[str, object], has_split: bool) -> Row:
    video, label = text_in(where, values, "video"), label_in(where, values)
    if not video.strip():
        raise DataError(f"{where}: the video is empty; expected a path relative to the manifest.")
    require_readable(where, values)
    split = split_of(where, values, has_split)
    start, end = span_in(where, values, label) or (0.0, 0.0)
    return Row(where, video, start, end, label, split, _lane_in(where, values, label))


def _require_lanes(found: Sequence[TableRow]) -> None:
    """Refuse a table in which only some events have a lane, as JSON Lines can be: the others would be seen and heard.

    Raises:
        DataError: It is one.
    """
    events = [(where, values) for where, values in found if label_in(where, values)]
    without = [where for where, values in events if "lane" not in values]
    if 0 < len(without) < len(events):
        raise DataError(f"{without[0]}: found no lane; expected seen, heard or both in every event or in none.")


def _lane_in(where: str, values: Mapping[str, object], label: str) -> str:
    lane = text_in(where, values, "lane")
    if "lane" in values and bool(label) != (lane in LANES):
        raise DataError(f"{where}: found the lane '{lane}'; expected seen, heard or both, and none without an event.")
    return lane


def split_of(where: str, values: Mapping[str, object], has_split: bool) -> str:
    """The split in a row; empty if the table has no such column.

    Raises:
        DataError: It is not a split, or only some rows have one.
    """
    split = text_in(where, values, "split")
    if ("split" in values) != has_split or (has_split and split not in SPLITS):
        raise DataError(f"{where}: found the split '{split}'; expected train, val or test in every row or in none.")
    return split
