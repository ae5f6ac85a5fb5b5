"""The videos that a server knows: those that were uploaded, and those of its folder. Ids say nothing of paths."""

import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from avpea.escapes import for_terminal
from avpea.labels import MEDIA_SUFFIXES
from avpea.media import MediaInfo, media_below, probe
from avpea.serve.problems import Problem, about_file
from avpea.serve.scratch import Scratch
from avpea.serve.settings import Settings

__all__ = ["MEDIA_TYPES", "Video", "Videos", "shown_name"]

LISTED_SECONDS = 2.0  # for which a folder is not listed again
MOST_NAME = 120
# What browsers play; anything else is sent as bytes that nothing runs.
MEDIA_TYPES = {
    **dict.fromkeys([".mp4", ".m4v"], "video/mp4"),
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".ogv": "video/ogg",
    ".mp3": "audio/mpeg",
    **dict.fromkeys([".m4a", ".aac"], "audio/mp4"),
    **dict.fromkeys([".ogg", ".oga", ".opus"], "audio/ogg"),
    ".wav": "audio/wav",
    ".flac": "audio/flac",
}


@dataclass(frozen=True)
class Video:
    """A video that the server knows.

    Attributes:
        id: What the API calls it.
        name: What people call it; a stranger's text.
        path: Where it lies; never told.
        uploaded: Whether it was uploaded, and goes with the server.
        size: Size in bytes.
        info: What is in it; None while it has not been looked at.
    """

    id: str
    name: str
    path: Path
    uploaded: bool
    size: int
    info: MediaInfo | None = None

    @property
    def media_type(self) -> str:
        """Its type for a browser."""
        return MEDIA_TYPES.get(self.path.suffix.lower(), "application/octet-stream")


class Videos:
    """The videos of a server.

    Args:
        settings: The server's settings.
        scratch: Where uploaded files are kept.
    """

    def __init__(self, settings: Settings, scratch: Scratch) -> None:
        self._settings, self._scratch = settings, scratch
        self._lock = threading.Lock()
        self._uploads: dict[str, Video] = {}
        self._found: dict[str, Video] = {}
        self._others: dict[str, Video] = {}
        self._infos: dict[tuple[str, int, int], MediaInfo] = {}
        self._listed = -LISTED_SECONDS
        self._arriving = 0  # bytes that are being received

    def __iter__(self) -> Iterator[Video]:
        """The uploads, the newest first, then those of the folder by name."""
        with self._lock:
            uploads = list(self._uploads.values())[::-1]
            return iter([*uploads, *self._in_folder().values()])

    def get(self, video: str) -> Video:
        """The video with an id.

        Raises:
            Problem: There is none.
        """
        with self._lock:
            found = self._uploads.get(video) or self._in_folder().get(video) or self._others.get(video)
        if found is None or not found.path.is_file():
            raise Problem(404, f"There is no video '{video[:60]}'; GET /v1/videos lists them.", "no-such-video")
        return found

    @contextlib.contextmanager
    def arriving(self, size: int) -> Iterator[Path]:
        """Where a file of at most so many bytes is received; it is removed after the block unless it was moved.

        Raises:
            Problem: The uploads would fill more than the room that they have.
        """
        with self._lock:
            kept = sum(one.size for one in self._uploads.values())
            if kept + self._arriving + size > self._settings.kept_mb * 2**20:
                raise Problem(
                    507,
                    f"The uploads would take more than the {self._settings.kept_mb} MiB that they have; delete some.",
                    "no-room",
                )
            self._arriving += size
        target = self._scratch.path / secrets.token_hex(16)
        try:
            yield target
        finally:
            with self._lock:
                self._arriving -= size
            target.unlink(missing_ok=True)

    def add(self, path: Path, name: str, info: MediaInfo) -> Video:
        """Keep a file that was received, and that is media within the bounds.

        Args:
            path: The file, which is moved.
            name: What people call it.
            info: What is in it, as `look` found it.
        """
        suffix = Path(name).suffix.lower()
        path = path.rename(path.with_name(f"{path.name}-kept{suffix if suffix in MEDIA_SUFFIXES else ''}"))
        video = Video(secrets.token_urlsafe(12), shown_name(name), path, True, path.stat().st_size, info)
        with self._lock:
            self._uploads[video.id] = video
        return video

    def look(self, path: Path, name: str) -> MediaInfo:
        """What is in a file, within the bounds.

        Raises:
            Problem: It is no media that can be decoded, or too long.
        """
        with about_file(path, shown_name(name)):
            info, most = probe(path), self._settings.video_seconds
        if info.duration_seconds > most:
            raise Problem(
                422,
                f"{shown_name(name)} lasts {info.duration_seconds:.0f} s; expected at most {most} s, so cut it.",
                "too-long",
            )
        return info

    def looked_at(self, video: Video) -> Video:
        """The video with what is in it, within the bounds.

        Raises:
            Problem: As `look`, or the file is gone.
        """
        if video.info is not None:
            return video
        with about_file(video.path, video.name):
            about = video.path.stat()
        key = str(video.path), about.st_size, about.st_mtime_ns
        if key not in self._infos:
            self._infos[key] = self.look(video.path, video.name)
        return replace(video, info=self._infos[key])

    def known_info(self, video: Video) -> MediaInfo | None:
        """What is in a video, if it has been looked at."""
        if video.info is not None:
            return video.info
        try:
            about = video.path.stat()
        except OSError:
            return None
        return self._infos.get((str(video.path), about.st_size, about.st_mtime_ns))

    def remove(self, video: str) -> None:
        """Delete an upload.

        Raises:
            Problem: There is none with this id.
        """
        with self._lock:
            found = self._uploads.pop(video, None)
        if found is None:
            raise Problem(404, f"There is no upload '{video[:60]}'; GET /v1/videos lists them.", "no-such-video")
        found.path.unlink(missing_ok=True)

    def of_library(self, path: Path, own: bool) -> Video | None:
        """The video of a library's window; None if it is gone, or only a stranger's library says where it lies."""
        key = _key(path)
        with self._lock:
            found = self._in_folder().get(key) or self._others.get(key)
            if found is None and own and path.is_file():
                found = self._others[key] = Video(key, shown_name(path.name), path, False, path.stat().st_size)
        return found

    def others(self) -> list[Video]:
        """Videos of the library outside of the folder that somebody has found, by name."""
        with self._lock:
            listed = self._in_folder()
            return sorted((one for key, one in self._others.items() if key not in listed), key=lambda one: one.name)

    def _in_folder(self) -> dict[str, Video]:
        folder = self._settings.folder
        if folder is None or time.monotonic() - self._listed < LISTED_SECONDS:
            return self._found
        found = {}
        for path in media_below(folder).files:
            inside = path.relative_to(folder)
            try:
                size = path.stat().st_size
            except OSError:  # it has just gone
                continue
            key = _key(path)
            found[key] = Video(key, shown_name(inside.as_posix()), path, False, size)
        self._found, self._listed = found, time.monotonic()
        return found


def _key(path: Path) -> str:
    """The id of a file that is not uploaded; the same after a restart."""
    return hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:20]


def shown_name(name: str) -> str:
    """A stranger's name of a file as it is shown and written: without what steers a terminal."""
    plain = for_terminal(name.strip())
    return plain[-MOST_NAME:] or "video"
