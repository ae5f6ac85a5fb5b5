"""Reviews as files: in the formats of other programs, and as the manifest that `avpea train` reads."""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from avpea.errors import DataError
from avpea.escapes import for_terminal
from avpea.files import write_text
from avpea.formats import FORMATS, SUFFIXES, Stretch, csv_line, file_cell, rendered

__all__ = ["EXPORTS", "MANIFEST", "File", "Reviewed", "exported", "manifest", "save_manifest"]

EXPORTS = (*FORMATS, "json", "manifest")
# What is written into the folder of videos; the name tells whose it is.
MANIFEST = "avpea-reviewed.csv"
_TYPES = {
    "audacity": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt", "elan": "application/xml",
    "csv": "text/csv", "json": "application/json", "manifest": "text/csv",
}  # fmt: skip
_TIMES = ("start_seconds", "end_seconds", "label")


@dataclass(frozen=True)
class Reviewed:
    """A video's events, for a file.

    Attributes:
        name: The video's path as the file has it, with slashes.
        events: Its events.
    """

    name: str
    events: Sequence[Stretch]


@dataclass(frozen=True)
class File:
    """A file to be written.

    Attributes:
        name: Its name, without a folder.
        content: Its content.
        media_type: Its type for a browser.
    """

    name: str
    content: bytes
    media_type: str


def exported(name: str, videos: Sequence[Reviewed], one: bool) -> File:
    """Events in a format.

    Args:
        name: One of `EXPORTS`.
        videos: The videos.
        one: Whether it is about one video; otherwise formats that cannot hold several make a zip file.

    Raises:
        DataError: A table cannot tell two of the videos apart.
    """
    stem = PurePosixPath(videos[0].name).stem if one and videos else "avpea-reviews"
    if name == "manifest":
        return File(MANIFEST, _bytes(manifest(videos)), _TYPES[name])
    if name == "json" and not one:
        text = json.dumps([_as_json(video) for video in videos], ensure_ascii=True, indent=1)
        return File(f"{stem}.json", _bytes(text), _TYPES[name])
    if name == "csv" and not one:
        return File(f"{stem}.csv", _bytes(manifest(videos)), _TYPES[name])
    suffix = SUFFIXES.get(name, ".json")
    if one:
        return File(f"{stem}{suffix}", _bytes(_text(name, videos[0])), _TYPES[name])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, video in zip(_places(videos, suffix), videos, strict=True):
            archive.writestr(inside, _bytes(_text(name, video)))
    return File(f"{stem}-{name}.zip", packed.getvalue(), "application/zip")


def manifest(videos: Iterable[Reviewed]) -> str:
    """The manifest that `avpea train` reads; a video without events has a row of its own.

    Raises:
        DataError: Two videos have the same name.
    """
    some = list(videos)
    (name, count), *_ = Counter(video.name for video in some).most_common(1) or [("", 0)]
    if count > 1:
        raise DataError(f"Two videos are called '{name[:80]}'; delete or rename one.")
    return "".join(_lines(some))


def save_manifest(folder: Path, videos: Sequence[Reviewed]) -> Path:
    """Write the manifest into the folder of the videos, in place of the one before.

    Raises:
        DataError: As `manifest`.
        WriteError: It cannot be written; the one before is kept.
    """
    path = folder / MANIFEST
    write_text(path, manifest(videos))
    return path


def _lines(videos: Iterable[Reviewed]) -> Iterable[str]:
    yield csv_line(["video", *_TIMES])
    for video in videos:
        name = file_cell(video.name)
        for one in video.events:
            yield csv_line([name, one.start_seconds, one.end_seconds, one.text])
        if not video.events:
            yield csv_line([name, None, None, None])


def _text(name: str, video: Reviewed) -> str:
    if name == "csv":
        return "".join(map(csv_line, [_TIMES, *((e.start_seconds, e.end_seconds, e.text) for e in video.events)]))
    if name == "json":
        return json.dumps(_as_json(video), ensure_ascii=True, indent=1)
    return rendered(name, Path(PurePosixPath(video.name).name), "events", video.events, None)


def _as_json(video: Reviewed) -> dict[str, object]:
    events = [dict(zip(_TIMES, (one.start_seconds, one.end_seconds, one.text), strict=True)) for one in video.events]
    return {"video": video.name, "events": events}


def _places(videos: Sequence[Reviewed], suffix: str) -> list[str]:
    """Names inside of a zip file: without going up, each there once."""
    found: list[str] = []
    for video in videos:
        parts = [part for part in PurePosixPath(video.name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        stem = for_terminal("/".join(parts)).encode("utf-8", "backslashreplace").decode() or "video"
        place, number = f"{stem}{suffix}", 2
        while place in found:
            place, number = f"{stem} {number}{suffix}", number + 1
        found.append(place)
    return found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
