"""Reading stretches from files of other programs."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from html import unescape
from typing import Any

from avpea.errors import DataError
from avpea.escapes import for_terminal
from avpea.formats._eaf import elan_stretches
from avpea.formats._stretch import Stretch
from avpea.formats._write import WORD_JOINER
from avpea.formats.rows import Columns, csv_rows, label_in, one_line, require_readable, span_in, text_in, time_of
from avpea.formats.text import decoded
from avpea.parsing import parse_json

__all__ = ["READABLE", "read"]

_MOST_BYTES = 16 << 20
_MOST = 100_000
_MOST_CHARACTERS = 1000
_NAME_END = 120  # characters at the end of a path that tell it from others; a server keeps no more of a name
_TIME = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{3})", re.ASCII)
_ARROW = re.compile(r"\s*(\S+)\s+-->\s+(\S+)(?:\s.*)?", re.ASCII)
# What the columns of other tables of avpea may add.
_EVENTS = Columns(
    ("start_seconds", "end_seconds", "label", "video", "lane"),
    ("start_seconds", "end_seconds", "label"),
    (),
    ("confidence", "doubtful", "error", "split"),
)


def read(name: str, content: bytes, source: str, video: str = "") -> list[Stretch]:
    """The stretches in a file, in order of time.

    Args:
        name: `audacity`, `srt`, `vtt`, `elan`, `csv` or `json`.
        content: The file's content.
        source: The file's name, with which an error begins.
        video: Name or path of the video that the stretches have to be of, where a table or JSON names one; empty for
            any. Folders are compared as far as both have them.

    Returns:
        Stretches that start at 0 or later and end after they start, each with a text in one line.

    Raises:
        DataError: It is another format, too big, not whole, or about another video; a time is wrong, an event has a
            lane (`seen`, `heard` or `both`), or a text is empty or too long. The sentence names the line if there is
            one.
    """
    if name not in READABLE:
        raise DataError(f"There is no format '{name[:40]}'; expected {', '.join(READABLE)}.")
    if len(content) > _MOST_BYTES:
        raise DataError(f"{source}: bigger than {_MOST_BYTES >> 20} MiB, which no such file is; divide it.")
    found = []
    for where, start, end, text in READABLE[name](content, source, video):
        found.append(_checked(where, start, end, text))
        if len(found) > _MOST:
            raise DataError(f"{source}: more than {_MOST:,} events; divide the file.")
    return sorted(found, key=lambda one: (one.start_seconds, one.end_seconds))


def _checked(where: str, start: float, end: float, text: str) -> Stretch:
    if not 0 <= start < end <= 1e6:  # not for NaN either
        rule = "expected a start of 0 or more, before the end, and an end before 1,000,000 s"
        raise DataError(f"{where}: the event starts at {start:g} s and ends at {end:g} s; {rule}.")
    label = one_line(text)
    if not label:
        raise DataError(f"{where}: the event from {start:g} to {end:g} s has no label; give it one, or remove it.")
    if len(text) > _MOST_CHARACTERS:
        raise DataError(f"{where}: a label of {len(text):,} characters; expected at most {_MOST_CHARACTERS:,}.")
    return Stretch(start, end, label)


Found = Iterator[tuple[str, float, float, str]]


def _audacity(content: bytes, source: str, _: str) -> Found:
    """Rows of start, end and label; those that begin with a backslash say which frequencies the row before is about."""
    for number, line in enumerate(decoded(content, source).split("\n"), 1):
        where = f"{source}, line {number}"
        if not line.strip() or line.startswith("\\\t"):
            continue
        cells = line.split("\t", 2)
        if len(cells) < 3:
            rule = "expected start, end and label with tabs between them, as Audacity exports them"
            raise DataError(f"{where}: found {line[:60]!r}; {rule}.")
        start, end = (_seconds(where, what, cell) for what, cell in zip(("start", "end"), cells, strict=False))
        if start == end:
            raise DataError(f"{where}: '{cells[2][:60]}' is a point in time; drag it to a stretch, or remove it.")
        yield where, start, end, cells[2]


def _seconds(where: str, what: str, cell: str) -> float:
    """The time in a cell; between tabs a comma can only be a decimal one."""
    found = time_of(cell.replace(",", "."))
    if not math.isfinite(found):
        raise DataError(f"{where}: the {what} is {cell[:60]!r}, which is no number; expected seconds, as in 2.5.")
    return found


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line, and the lines, of each block between empty lines."""
    block: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []


def _srt(content: bytes, source: str, _: str) -> Found:
    for number, lines in _blocks(decoded(content, source)):
        if len(lines) > 1 and lines[0].strip().isdecimal() and "-->" in lines[1]:
            number, lines = number + 1, lines[1:]
        if "-->" not in lines[0]:
            rule = "expected a cue: a number, a line such as 00:00:01,000 --> 00:00:02,500, and its text"
            raise DataError(f"{source}, line {number}: found {lines[0][:60]!r}; {rule}.")
        yield _cue(source, number, lines, _srt_text)


def _srt_text(text: str) -> str:
    """Text without its markup; the word joiners that `rendered` wrote keep what only looks like it."""
    text = re.sub(r"</?(?:[biu]|font)(?:\s[^<>]*)?>|\{\\[^{}]*\}", "", text, flags=re.IGNORECASE)
    return re.sub(rf"(<|\{{|\\|--){WORD_JOINER}", r"\1", text)


def _vtt(content: bytes, source: str, _: str) -> Found:
    text = decoded(content, source)
    if not re.match(r"WEBVTT(?=[ \t\n]|$)", text):
        raise DataError(f"{source}, line 1: found {text[:20]!r}; expected WEBVTT, with which every such file begins.")
    for number, lines in _blocks(text):
        first = lines[0].split(maxsplit=1)[0]
        if number == 1:  # the header, which a line of times ends as well as an empty line
            header = next((at for at, line in enumerate(lines[1:], 1) if "-->" in line), len(lines))
            number, lines = number + header, lines[header:]
        if not lines or ("-->" not in lines[0] and first in ("NOTE", "STYLE", "REGION")):
            continue
        if "-->" not in lines[0] and len(lines) > 1:  # the cue's name
            number, lines = number + 1, lines[1:]
        if "-->" not in lines[0]:
            rule = "expected a cue: a line such as 00:01.000 --> 00:02.500, and its text"
            raise DataError(f"{source}, line {number}: found {lines[0][:60]!r}; {rule}.")
        yield _cue(source, number, lines, lambda text: unescape(re.sub(r"<[^>]*>", "", text)))


def _cue(source: str, number: int, lines: list[str], plain: Callable[[str], str]) -> tuple[str, float, float, str]:
    where = f"{source}, line {number}"
    times = _times(lines[0])
    if times is None:
        rule = "expected times such as 00:00:01.000 --> 00:00:02.500"
        raise DataError(f"{where}: found {lines[0][:60]!r}; {rule}.")
    for later, line in enumerate(lines[1:], number + 1):
        if _times(line) is not None:  # else its times and what follows would be text of this cue
            raise DataError(f"{source}, line {later}: found {line[:60]!r}; expected an empty line before each cue.")
    return where, *times, plain(" ".join(lines[1:]))


def _times(line: str) -> tuple[float, float] | None:
    """Start and end in a cue's line of times; None if it is none."""
    arrow = _ARROW.fullmatch(line)
    start, end = (_clock(one) for one in arrow.groups()) if arrow else (None, None)
    return None if start is None or end is None else (start, end)


def _clock(text: str) -> float | None:
    found = _TIME.fullmatch(text)
    if not found:
        return None
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in found.groups())
    if minutes > 59 or seconds > 59:
        return None
    return (1000 * (3600 * hours + 60 * minutes + seconds) + milliseconds) / 1000


def _elan(content: bytes, source: str, _: str) -> Found:
    return elan_stretches(content, source)


def _csv(content: bytes, source: str, video: str) -> Found:
    rows = list(csv_rows(source, decoded(content, source), _EVENTS))
    yield from _events(source, rows, video)


def _json(content: bytes, source: str, video: str) -> Found:
    """The events of `avpea predict --json`, of an export, or a list of events."""
    values = parse_json(decoded(content, source), source, DataError)
    if isinstance(values, dict):
        require_readable(source, values)
        _require_video(source, [text_in(source, values, "video")], video)
    rows = values.get("events") if isinstance(values, dict) else values
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(
            f'{source}: expected an object with "events", or a list of them, as `avpea predict --json` has.'
        )
    for number, row in enumerate(rows, 1):
        missing = [name for name in _EVENTS.required if name not in row]
        if missing:
            raise DataError(f"{source}, event {number}: no '{missing[0]}'; expected {', '.join(_EVENTS.required)}.")
    yield from _events(source, [(f"{source}, event {number}", row) for number, row in enumerate(rows, 1)], video)


def _events(source: str, rows: list[tuple[str, Any]], video: str) -> Found:
    """The events in rows; those of a video without events have neither label nor times."""
    _require_video(source, [text_in(where, row, "video") for where, row in rows], video)
    for where, row in rows:
        require_readable(where, row)
        label = label_in(where, row)
        if lane := text_in(where, row, "lane"):
            told = f"'{label[:60]}' has the lane '{lane[:20]}', and what is read here has none"
            raise DataError(f"{where}: {told}; keep the rows of 'both', and leave their lane out.")
        span = span_in(where, row, label)
        if span is not None:
            yield where, *span, label


def _require_video(source: str, names: Sequence[str], video: str) -> None:
    """Refuse a file about several videos, or about another one; a name that is left out is that of the video."""
    found = list(dict.fromkeys(names))
    if len(found) > 1:
        first, second, *_ = (f"'{name[:60]}'" for name in found)
        raise DataError(f"{source} has events of {len(found)} videos, such as {first} and {second}; expected one.")
    if video and found and found[0] and not _same_file(found[0], video):
        shown, rule = for_terminal(found[0])[-60:], "name that video in it, or leave the name out"
        raise DataError(
            f"{source} has events of '{shown}', and this is {video[-60:]}; {rule}, if they are of this one."
        )


def _same_file(one: str, other: str) -> bool:
    """Whether two paths may be of the same file: equal, as far as both have folders."""
    first, second = (_tail(path) for path in (one, other))
    return first.endswith(second) or second.endswith(first)


def _tail(path: str) -> str:
    plain = re.sub(r" *[\\/] *", "/", for_terminal(unicodedata.normalize("NFC", path.strip())))
    return re.sub(r"^(\.{0,2}/)*", "/", plain)[-_NAME_END:]


READABLE: dict[str, Callable[[bytes, str, str], Found]] = {
    "audacity": _audacity, "srt": _srt, "vtt": _vtt, "elan": _elan, "csv": _csv, "json": _json,
}  # fmt: skip
