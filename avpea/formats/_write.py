"""Writing stretches in the formats of other programs."""

import csv
import io
import math
import mimetypes
import os
import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avpea.escapes import for_terminal
from avpea.formats._stretch import Stretch
from avpea.formats.rows import ESCAPED, FORMULA, one_line

__all__ = ["WORD_JOINER", "csv_line", "file_cell", "rendered"]

WORD_JOINER = "\u2060"


def rendered(name: str, video: Path, what: str, stretches: Sequence[Stretch], file: Path | None) -> str:
    """Stretches in a format other than CSV.

    Args:
        name: `vtt`, `srt`, `audacity` or `elan`.
        video: The video, which an ELAN file names.
        what: What the stretches are, such as `events`: the name of ELAN's tier.
        stretches: Stretches in order of time.
        file: Where the text will be written: ELAN also names the video relative to it. None if that is beside the
            video, wherever a person puts both; ELAN then names the video in that way alone.
    """
    if name == "vtt":
        return "WEBVTT\n" + "".join(
            f"\n{_stamp(one.start_seconds, '.')} --> {_end(one, '.')}\n{_vtt_text(one.text)}\n" for one in stretches
        )
    if name == "srt":
        return "".join(
            f"{number}\n{_stamp(one.start_seconds, ',')} --> {_end(one, ',')}\n{_srt_text(one.text)}\n\n"
            for number, one in enumerate(stretches, 1)
        )
    if name == "audacity":
        return "".join(f"{one.start_seconds:.6f}\t{one.end_seconds:.6f}\t{_label(one.text)}\n" for one in stretches)
    return _elan(video, what, stretches, file)


def _label(text: str) -> str:
    """A text in one line, never empty."""
    return one_line(text) or "-"


def _milliseconds(seconds: float) -> int:
    return max(0, round(1000 * seconds))


def _stamp(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(_milliseconds(seconds), 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}{point}{milliseconds:03d}"


def _span(one: Stretch) -> tuple[int, int]:
    """Start and end in milliseconds; the end has to be after the start."""
    start = _milliseconds(one.start_seconds)
    return start, max(_milliseconds(one.end_seconds), start + 1)


def _end(one: Stretch, point: str) -> str:
    return _stamp(_span(one)[1] / 1000, point)


def _vtt_text(text: str) -> str:
    return _label(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _srt_text(text: str) -> str:
    """SubRip has no escapes: an invisible word joiner keeps text from being read as a tag, an arrow or a line break.

    A joiner that the text has in such a place gets another one, since the reader takes one away.
    """
    looks = rf"<(?=[/!A-Za-z{WORD_JOINER}])|\{{(?=[\\{WORD_JOINER}])|\\(?=[Nnh{WORD_JOINER}])|--(?=[>{WORD_JOINER}])"
    return re.sub(looks, rf"\g<0>{WORD_JOINER}", _label(text))


def _elan(video: Path, what: str, stretches: Sequence[Stretch], file: Path | None) -> str:
    """An EAF 3.0 document; stretches that overlap get tiers of their own, since those of one tier must not."""
    space = "http://www.w3.org/2001/XMLSchema-instance"
    ET.register_namespace("xsi", space)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    root = ET.Element("ANNOTATION_DOCUMENT", {
        "AUTHOR": "avpea", "DATE": now, "FORMAT": "3.0", "VERSION": "3.0",
        f"{{{space}}}noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
    })  # fmt: skip
    beside = f"./{urllib.parse.quote(os.fsencode(video.name))}"
    header = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    ET.SubElement(header, "MEDIA_DESCRIPTOR", {
        "MEDIA_URL": beside if file is None else video.absolute().as_uri(),
        "MIME_TYPE": _media_type(video),
        "RELATIVE_MEDIA_URL": beside if file is None else _relative_url(video, file),
    })  # fmt: skip
    order = ET.SubElement(root, "TIME_ORDER")
    number = 0
    for index, some in enumerate(_without_overlaps(stretches), 1):
        name = what if index == 1 else f"{what} {index}"
        tier = ET.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name})
        for one in some:
            number += 1
            slots = f"ts{2 * number - 1}", f"ts{2 * number}"
            for slot, time in zip(slots, _span(one), strict=True):
                ET.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(time)})
            holder = ET.SubElement(ET.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", {
                "ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": slots[0], "TIME_SLOT_REF2": slots[1],
            })  # fmt: skip
            ET.SubElement(holder, "ANNOTATION_VALUE").text = _label(one.text)
    ET.SubElement(header, "PROPERTY", {"NAME": "lastUsedAnnotationId"}).text = str(number)
    ET.SubElement(root, "LINGUISTIC_TYPE", {
        "GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true",
    })  # fmt: skip
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _media_type(video: Path) -> str:
    guessed = mimetypes.guess_type(video.name)[0] or ""
    return guessed if guessed.startswith(("video/", "audio/")) else "unknown"  # .mts is a kind of model there


def _relative_url(video: Path, file: Path) -> str:
    try:
        path = os.path.relpath(video.absolute(), file.absolute().parent)
    except ValueError:  # on another drive
        return video.absolute().as_uri()
    quoted = urllib.parse.quote(os.fsencode(path.replace(os.sep, "/")))
    return quoted if quoted.startswith("../") else f"./{quoted}"


def _without_overlaps(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """The stretches in as few lists as possible, at least one, such that those of one list do not overlap."""
    lists: list[list[Stretch]] = [[]]
    for one in sorted(stretches, key=lambda stretch: stretch.start_seconds):
        free = next((some for some in lists if not some or _span(some[-1])[1] <= _span(one)[0]), None)
        if free is None:
            lists.append([one])
        else:
            free.append(one)
    return lists


def csv_line(cells: Iterable[Any]) -> str:
    """A line of a CSV file: numbers as they are, None as nothing, and text in one line, never a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([_cell(cell) for cell in cells])
    return text.getvalue()


def file_cell(name: str | Path) -> str:
    """A file's name for `csv_line`, from which our readers of tables get the same file again.

    A table cannot hold line breaks and other control characters, bytes that are no UTF-8, and spaces around a text, and
    should hold nothing that turns the direction of writing or is not seen. A name with any of them is written as
    `file:` with escapes as in an address (`file:a%0Ab.mp4`), and so is one that begins with `file:` itself.
    """
    text = str(name)
    if text == text.strip() == for_terminal(text) and not text.startswith(ESCAPED):
        return text
    return ESCAPED + urllib.parse.quote(os.fsencode(text))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return value if math.isfinite(value) else ""
    text = re.sub(r"[\r\n]+", " ", str(value).replace("\x00", "")).encode("utf-8", "backslashreplace").decode("utf-8")
    # As OWASP advises: an apostrophe in front, which spreadsheets do not show.
    return f"'{text}" if FORMULA.match(text) else text
