"""Rows of tables in CSV and JSON Lines, checked: their columns, their texts, and times in them.

CSV is read as spreadsheets of all countries write it: separated by commas, semicolons, tabs or bars, with decimal
points or commas, with or without a byte order mark. `formats.csv_line` puts an apostrophe before what a spreadsheet
would take for a formula; here it is taken off. A video whose name a table cannot hold is `file:` and the name with
escapes, as `formats.file_cell` writes it.
"""

import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from avpea.errors import DataError
from avpea.parsing import parse_json
from avpea.registry import did_you_mean

__all__ = [
    "ESCAPED", "FORMULA", "Columns", "csv_rows", "json_rows", "label_in", "one_line", "require_readable",
    "seconds_in", "span_in", "text_in", "time_of",
]  # fmt: skip

# A text that starts like this is a formula to a spreadsheet, or was one before it got its apostrophe.
FORMULA = re.compile("'*[=+\\-@\t＝＋－＠]")
ESCAPED = "file:"  # begins the name of a file whose bytes stand as in an address, as %0A
_SEPARATORS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)", re.ASCII)
_MOST_SECONDS = 1e6  # more than eleven days
_TIMES = ("start_seconds", "end_seconds")


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


def csv_rows(source: str, text: str, columns: Columns) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The rows of CSV: for each its file and line, for errors, and its values by column.

    Raises:
        DataError: It is no CSV, its columns are wrong, or a row has more or fewer cells than the heading.
    """
    separator, skipped = _separator(text, columns)
    reader = csv.reader(io.StringIO(text), strict=True, delimiter=separator)
    try:
        for _ in range(skipped):
            next(reader)
        header = [name.strip().lower() for name in next(reader, [])]
        if not header and reader.line_num <= skipped:
            raise DataError(f"{source} is empty; expected a table with the columns {', '.join(columns.known)}.")
        while header and not header[-1]:  # spreadsheets write separators for empty columns
            header.pop()
        _check_columns(f"{source}, line {reader.line_num}", header, columns, columns.required)
        for cells in reader:
            where = f"{source}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: found {len(cells)} fields; expected {len(header)} as in the header "
                    f"(a name with '{separator}' goes between double quotes)."
                )
            plain = [cell[1:] if cell[:1] == "'" and FORMULA.match(cell) else cell for cell in cells]
            values = _with_points(dict(zip(header, plain, strict=True)), separator)
            yield where, values | {"video": _file_in(where, str(values["video"]))} if "video" in values else values
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: not CSV ({error}).") from None


def _file_in(where: str, cell: str) -> str:
    """The name of the file that `formats.file_cell`, or a person, wrote into a cell."""
    name = cell.strip()
    if not name.startswith(ESCAPED):
        return name
    content = unquote_to_bytes(name.removeprefix(ESCAPED))
    if b"\0" in content:
        raise DataError(f"{where}: found the video '{name[:100]}'; no file has a null character (%00) in its name.")
    return os.fsdecode(content)


def _with_points(values: dict[str, object], separator: str) -> dict[str, object]:
    """In tables that semicolons separate, the comma in a number comes before its decimals, as it does there."""
    if separator != ";":
        return values
    return {name: str(value).replace(",", ".") if name in _TIMES else value for name, value in values.items()}


def _separator(text: str, columns: Columns) -> tuple[str, int]:
    """The separator of the fields, and the number of lines before the header: Excel's `sep=;`, if it is there."""
    lines = text.split("\n", 2)
    if told := re.fullmatch(r' *"?sep=(.)"? *\r?', lines[0], re.IGNORECASE):
        return told[1], 1

    def known(separator: str) -> int:
        names = [name.strip().strip('"').lower() for name in lines[0].split(separator)]
        return sum(name in columns.known for name in names)

    return max(_SEPARATORS, key=known), 0


def json_rows(source: str, text: str, columns: Columns) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The rows of JSON Lines: for each its file and line, for errors, and its values by key.

    Raises:
        DataError: A line is no object, or has an unknown key or lacks one.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{source}, line {number}"
        if not line.strip():
            continue
        values = parse_json(line, source, DataError, line=number, remedy="expected one object a line", paths=True)
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
        optional = " and ".join(f"'{name}'" for name in known if name not in required)
        raise DataError(f"{where}: no column '{missing[0]}'; expected {', '.join(known)} ({optional} may be left out).")


def text_in(where: str, values: Mapping[str, object], name: str) -> str:
    """The text in a column of a row, stripped unless it is a video's name; empty if the column is missing.

    Raises:
        DataError: It is not a text.
    """
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: found {name} = {value!r:.100}; expected text.")
    if name == "video":
        return value  # as the file is called: with spaces around, or with bytes that are no text
    if not value.isascii() and value.encode(errors="ignore").decode() != value:
        raise DataError(f"{where}: found {name} = {value!r:.100}, which is no Unicode text; write it anew.")
    return value.strip()


def require_readable(where: str, values: Mapping[str, object]) -> None:
    """Refuse a row that says that its video could not be read, which is not that nothing happens in it.

    Raises:
        DataError: It says so.
    """
    if values.get("error"):
        video = text_in(where, values, "video") or "the video"
        raise DataError(f"{where}: {video} could not be read when this table was written; mend it, or remove the row.")


def label_in(where: str, values: Mapping[str, object]) -> str:
    """The label of a row with a single space for line breaks, tabs and spaces, as every format has it; empty if none.

    Raises:
        DataError: It is not a text.
    """
    return " ".join(text_in(where, values, "label").split())


def one_line(text: str) -> str:
    """Text with a single space for line breaks, tabs, spaces, control characters and what cannot be encoded."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]", " ", text).split())


def seconds_in(where: str, values: Mapping[str, object], name: str) -> float | None:
    """The time in a column of a row, in seconds; None if there is none.

    Raises:
        DataError: It is no time, negative, or more than eleven days.
    """
    value = values.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    seconds = time_of(value)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise DataError(
            f"{where}: found {name} = {value!r:.100}; expected seconds, 0 or more, as in 2.5, or a time as in "
            "1:02:03.5 (hours, minutes, seconds) or 2:03.5."
        )
    if seconds > _MOST_SECONDS:
        raise DataError(
            f"{where}: {name} is {seconds:g} s; expected at most {_MOST_SECONDS:,.0f}: seconds, not milliseconds."
        )
    return seconds


def time_of(value: object) -> float:
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


def span_in(where: str, values: Mapping[str, object], label: str) -> tuple[float, float] | None:
    """Start and end of the event in a row, in seconds; None if the row has neither times nor a label.

    Raises:
        DataError: Some of the three are missing, or a time is none, negative, or not before the end.
    """
    start, end = (seconds_in(where, values, name) for name in _TIMES)
    if not label and start is None and end is None:
        return None
    if not label or start is None or end is None:
        raise DataError(
            f"{where}: found label '{label}', start {_shown(start)} and end {_shown(end)}; expected all "
            "three, or all three empty for a video without events."
        )
    if start >= end:
        raise DataError(f"{where}: the event starts at {start:g} s and ends at {end:g} s; expected start < end.")
    return start, end


def _shown(seconds: float | None) -> str:
    return "''" if seconds is None else f"{seconds:g}"
