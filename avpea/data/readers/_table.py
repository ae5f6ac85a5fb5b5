"""Reading and checking tables in CSV or JSON Lines, and the rows of a manifest of events.

CSV is read as spreadsheets of all countries write it: separated by commas, semicolons, tabs or bars, with decimal
points or commas, with or without a byte order mark.
"""

import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from avpea.data.readers._text import read_text
from avpea.errors import DataError
from avpea.labels import SPLITS
from avpea.parsing import parse_json
from avpea.registry import did_you_mean

__all__ = ["Columns", "Row", "read_rows", "read_table", "split_of", "text_of"]

_SEPARATORS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)", re.ASCII)
_MOST_SECONDS = 1e6  # more than eleven days
_TIMES = ("start_seconds", "end_seconds")
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
    """

    where: str
    video: str
    start_seconds: float
    end_seconds: float
    label: str
    split: str


@dataclass(frozen=True)
class Columns:
    """The columns of a kind of table.

    Attributes:
        known: All columns.
        required: Columns that a CSV file must have.
        required_in_json: Keys that each object of a JSON Lines file must have.
        unused: Columns that may be there and are not used.
    """

    known: tuple[str, ...]
    required: tuple[str, ...]
    required_in_json: tuple[str, ...]
    unused: tuple[str, ...] = ()


# `avpea predict --csv` writes these too, so that its table, corrected, is a manifest.
_OF_PREDICTIONS = ("confidence", "doubtful", "error")
# In JSON the keys of an event may be left out if there is none.
_EVENTS = Columns(_COLUMNS, _REQUIRED, ("video",), _OF_PREDICTIONS)


def read_rows(path: Path) -> tuple[list[Row], bool]:
    """Read and check all rows of a manifest of events.

    Returns:
        The rows, and whether the manifest has a column `split`.

    Raises:
        DataError: The file is missing, empty, or neither CSV nor JSON Lines, or a row is malformed.
    """
    found = read_table(path, _EVENTS)
    has_split = "split" in found[0][1]
    return [_row(where, values, has_split) for where, values in found], has_split


def read_table(path: Path, columns: Columns) -> list[tuple[str, Mapping[str, object]]]:
    """Read a table: for each row its file and line, for errors, and its values by column.

    Raises:
        DataError: The file is missing, empty, or neither CSV nor JSON Lines, or its columns are wrong.
    """
    if not os.path.isfile(path):  # unlike Path's, it takes paths that are too long
        raise DataError(f"There is no manifest {path} (--data.root); expected a .csv or .jsonl file.")
    readers = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} ends in '{path.suffix}'; expected a manifest in .csv or .jsonl.")
    found = list(reader(path, read_text(path), columns))
    if not found:
        raise DataError(f"{path} has no rows; expected one a line, with {', '.join(columns.known)}.")
    return found


def _csv(path: Path, text: str, columns: Columns) -> Iterator[tuple[str, Mapping[str, object]]]:
    separator, skipped = _separator(text, columns)
    reader = csv.reader(io.StringIO(text), strict=True, delimiter=separator)
    try:
        for _ in range(skipped):
            next(reader)
        header = [name.strip().lower() for name in next(reader, [])]
        while header and not header[-1]:  # spreadsheets write separators for empty columns
            header.pop()
        _check_columns(f"{path}, line {reader.line_num}", header, columns, columns.required)
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: found {len(cells)} fields; expected {len(header)} as in the header "
                    f"(a name with '{separator}' goes between double quotes)."
                )
            yield where, _with_points(dict(zip(header, cells, strict=True)), separator)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}).") from None


def _with_points(values: dict[str, object], separator: str) -> dict[str, object]:
    """In tables that semicolons separate, the comma in a number comes before its decimals, as it does there."""
    if separator != ";":
        return values
    return {name: str(value).replace(",", ".") if name in _TIMES else value for name, value in values.items()}


def _separator(text: str, columns: Columns) -> tuple[str, int]:
    """The separator of the fields, and the number of lines before the header: Excel's `sep=;`, if it is there."""
    lines = text.split("\n", 2)
    if re.fullmatch(r'"?sep=."?', lines[0].strip(), re.IGNORECASE):
        return lines[0].strip().strip('"')[-1], 1

    def known(separator: str) -> int:
        names = [name.strip().strip('"').lower() for name in lines[0].split(separator)]
        return sum(name in columns.known for name in names)

    return max(_SEPARATORS, key=known), 0


def _json_lines(path: Path, text: str, columns: Columns) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        values = parse_json(line, str(path), DataError, line=number, remedy="expected one object a line")
        if not isinstance(values, dict):
            raise DataError(
                f"{where}: found {type(values).__name__}; expected an object with {', '.join(columns.known)}."
            )
        _check_columns(where, list(values), columns, columns.required_in_json)
        yield where, values


def _check_columns(where: str, names: list[str], columns: Columns, required: tuple[str, ...]) -> None:
    known = columns.known
    unknown = [name for name in names if name not in (*known, *columns.unused)]
    if unknown:
        raise DataError(f"{where}: no column is called '{unknown[0]}'.{did_you_mean(unknown[0], known)}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{where}: the column '{twice[0]}' is there twice; expected {', '.join(known)}.")
    missing = [name for name in required if name not in names]
    if missing:
        raise DataError(f"{where}: no column '{missing[0]}'; expected {', '.join(known)} ('split' may be left out).")


def _row(where: str, values: Mapping[str, object], has_split: bool) -> Row:
    video, label = (text_of(where, values, name) for name in ("video", "label"))
    if not video:
        raise DataError(f"{where}: the video is empty; expected a path relative to the manifest.")
    if values.get("error"):
        raise DataError(f"{where}: {video} could not be read when this table was written; mend it, or remove the row.")
    split = split_of(where, values, has_split)
    start, end = (_seconds(where, values, name) for name in ("start_seconds", "end_seconds"))
    if not label and start is None and end is None:
        return Row(where, video, 0.0, 0.0, "", split)
    if not label or start is None or end is None:
        raise DataError(
            f"{where}: found label '{label}', start {_shown(start)} and end {_shown(end)}; expected all "
            "three, or all three empty for a video without events."
        )
    if start >= end:
        raise DataError(f"{where}: the event starts at {start:g} s and ends at {end:g} s; expected start < end.")
    return Row(where, video, start, end, label, split)


def _shown(seconds: float | None) -> str:
    return "''" if seconds is None else f"{seconds:g}"


def split_of(where: str, values: Mapping[str, object], has_split: bool) -> str:
    """The split in a row; empty if the table has no such column.

    Raises:
        DataError: It is not a split, or only some rows have one.
    """
    split = text_of(where, values, "split")
    if ("split" in values) != has_split or (has_split and split not in SPLITS):
        raise DataError(f"{where}: found the split '{split}'; expected train, val or test in every row or in none.")
    return split


def text_of(where: str, values: Mapping[str, object], name: str) -> str:
    """The text in a column of a row, stripped; empty if the column is missing.

    Raises:
        DataError: It is not a text.
    """
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: found {name} = {value!r}; expected text.")
    if name != "video" and not value.isascii() and value.encode(errors="ignore").decode() != value:
        raise DataError(f"{where}: found {name} = {value!r}, which is no Unicode text; write it anew.")
    return value.strip()


def _seconds(where: str, values: Mapping[str, object], name: str) -> float | None:
    value = values.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    seconds = _read_seconds(value)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise DataError(
            f"{where}: found {name} = {value!r}; expected seconds, 0 or more, as in 2.5, or a time as in 1:02:03.5 "
            "(hours, minutes, seconds) or 2:03.5."
        )
    if seconds > _MOST_SECONDS:
        raise DataError(
            f"{where}: {name} is {seconds:g} s; expected at most {_MOST_SECONDS:,.0f}: seconds, not milliseconds."
        )
    return seconds


def _read_seconds(value: object) -> float:
    """Seconds from a number or a text; NaN if it is neither.

    `2,5` is two and a half, but `1,234` may be either. `12:30` is twelve minutes and a half.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    if not isinstance(value, str):
        return float(value)
    clock = _CLOCK.fullmatch(value.strip())
    if clock:
        hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in clock.groups())
        return math.nan if seconds >= 60 or (clock[1] and minutes >= 60) else 3600 * hours + 60 * minutes + seconds
    plain = _NUMBER.fullmatch(value.strip()) and not re.fullmatch(r"\d{1,3},\d{3}", value.strip())
    return float(value.replace(",", ".")) if plain else math.nan
