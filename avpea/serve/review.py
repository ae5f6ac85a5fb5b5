"""What people say happens in videos: every edit is stored at once, and none replaces another that it has not seen.

A review belongs to a video's content, so it outlives renaming and uploading again. Each is a JSON file of its own,
which is replaced whole and flushed to disk; its revision grows by one with each edit.
"""

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs

from avpea.errors import DataError, InUseError
from avpea.files import remove_leftovers, unwritable, write_json, writing
from avpea.formats import Stretch
from avpea.labels import refuse_reserved
from avpea.locks import locked
from avpea.parsing import read_json

__all__ = ["Review", "Reviews", "Stale", "checked", "fingerprint", "homes", "unsureness"]

_FORMAT = "avpea-review-1"
_MOST_EVENTS, _MOST_LABEL = 10_000, 200
_WHOLE_BYTES, _PART_BYTES, _PARTS = 1 << 20, 1 << 14, 16  # so that a folder of a thousand videos is listed soon
_PATIENCE_SECONDS = 10.0  # for another process that stores an edit of the same video


@dataclass(frozen=True)
class Review:
    """What a person says happens in a video.

    Attributes:
        name: The video's name, when the review was stored.
        events: The events in order of time.
        revision: Number of edits so far; 0 if nobody has said anything.
        done: Whether the person says that this is all, and right.
        changed: When it was stored, in UTC; empty if it never was.
    """

    name: str
    events: tuple[Stretch, ...] = ()
    revision: int = 0
    done: bool = False
    changed: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are stored and as the API has them."""
        events = [
            {"start_seconds": one.start_seconds, "end_seconds": one.end_seconds, "label": one.text}
            for one in self.events
        ]
        return {
            "name": self.name, "events": events, "revision": self.revision, "done": self.done, "changed": self.changed,
        }  # fmt: skip


class Stale(DataError):
    """An edit of an earlier revision than the one that is stored, which is `review`.

    Args:
        name: The video's name for who sent the edit; the review may have been stored for a copy with another name.
        review: The one that is stored.
        revision: The one that was edited.
    """

    def __init__(self, name: str, review: Review, revision: int) -> None:
        self.review = review
        super().__init__(
            f"{name} was changed in the meantime: it is at revision {review.revision}, and the edit is of "
            f"{revision}; load it anew."
        )


class Reviews:
    """The reviews in a folder, and in others that are only read: of a video's reviews the highest revision counts.

    Several processes may use the same folder at once.

    Args:
        folder: The folder; it is made with the first review.
        others: Further folders; they need not exist.
    """

    def __init__(self, folder: Path, *others: Path) -> None:
        self.folder, self._places = folder, (folder, *others)
        remove_leftovers(folder)  # of a server that was killed while it stored an edit
        self._lock = threading.Lock()
        self._unsure: dict[str, dict[str, float]] = {}
        self._keys: dict[str, tuple[tuple[int, int], str]] = {}

    def key(self, video: Path) -> str:
        """The `fingerprint` of a video, which is read again only if the file has changed.

        Raises:
            OSError: The file cannot be read.
        """
        about = video.stat()
        seen = about.st_size, about.st_mtime_ns
        known = self._keys.get(str(video))
        if known is None or known[0] != seen:
            known = self._keys[str(video)] = seen, fingerprint(video)
        return known[1]

    def get(self, key: str, name: str) -> Review:
        """The review of a video.

        Args:
            key: The video's `fingerprint`.
            name: Its name, for a video without a review, and for errors.

        Raises:
            DataError: The file of the review is damaged, which says so instead of losing it.
        """
        found = [_stored(place / f"{key}.json", name, place == self.folder) for place in self._places]
        return max((one for one in found if one), key=lambda one: one.revision, default=Review(name))

    def put(self, key: str, name: str, events: Sequence[Stretch], revision: int, done: bool = False) -> Review:
        """Store an edit; when this returns, it is on disk.

        An edit that is the same as the stored one, as after an answer that got lost, is that one.

        Args:
            key: The video's `fingerprint`.
            name: Its name.
            events: All events of the video, as `checked` returns them.
            revision: The revision that was edited.
            done: Whether this is all, and right.

        Raises:
            Stale: Somebody has edited another revision since.
            DataError: The file of the review is damaged.
            WriteError: It cannot be stored; the one before is kept.
        """
        with self._lock, self._alone(key, name):
            before = self.get(key, name)
            if before.revision == revision + 1 and (before.events, before.done) == (tuple(events), done):
                return before
            if before.revision != revision:
                raise Stale(name, before, revision)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            new = Review(name, tuple(events), revision + 1, done, now)
            write_json(self._path(key), {"format": _FORMAT} | new.to_dict())
            _flush(self.folder)
            return new

    def note_unsure(self, key: str, run: str, unsure: float) -> None:
        """Keep how unsure a run is about a video; what cannot be kept is only found out again.

        Args:
            key: The video's `fingerprint`.
            run: The run, with what tells it from the same run after more training.
            unsure: As `unsureness` returns it.
        """
        with self._lock:
            known = self._known_unsure(key)
            if known.get(run) != unsure:
                known[run] = unsure
                with suppress(OSError):
                    write_json(self._path(key, ".unsure"), {"format": _FORMAT, "runs": dict(list(known.items())[-20:])})

    def unsure(self, key: str, run: str) -> float | None:
        """How unsure a run is about a video; None if it has not looked at it."""
        with self._lock:
            return self._known_unsure(key).get(run)

    def _known_unsure(self, key: str) -> dict[str, float]:
        if key not in self._unsure:
            found: dict[str, float] = {}
            for place in self._places[::-1]:
                with suppress(DataError, OSError, AttributeError, LookupError, TypeError):  # damaged: found out again
                    runs = read_json(place / f"{key}.unsure.json", DataError)["runs"]
                    found |= {run: value for run, value in runs.items() if isinstance(value, float)}
            self._unsure[key] = found
        return self._unsure[key]

    def _path(self, key: str, ending: str = "") -> Path:
        return self.folder / f"{key}{ending}.json"

    @contextmanager
    def _alone(self, key: str, name: str) -> Iterator[None]:
        """No other process stores an edit of the video in the block.

        Raises:
            InUseError: One goes on doing so; it names the video.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                with locked(self.folder, "is being edited", f".{key}.lock"):
                    yield
                return
            except InUseError as error:
                if time.monotonic() > end:
                    raise InUseError(str(error).replace(str(self.folder), name)) from None
                time.sleep(0.02)


def homes(videos: Path | None) -> list[Path]:
    """Where reviews are looked for, and first of all where they are stored.

    That is with the videos of a folder, so that a copy of it has them; else, or if that cannot be written, with the
    user. The other place may have some of a time at which it could, or could not.
    """
    user = platformdirs.user_data_path("avpea") / "reviews"
    if videos is None:
        return [user]
    beside = videos / ".avpea-reviews"
    return [user, beside] if unwritable(beside) else [beside, user]


def checked(rows: Sequence[Stretch], duration_seconds: float, source: str) -> tuple[Stretch, ...]:
    """Events that can be stored and trained on: in order, to the millisecond, and none after the end of the video.

    Args:
        rows: The events.
        duration_seconds: Length of the video.
        source: What they are of, with which an error begins.

    Raises:
        DataError: There are too many; or one has no length or no label, is `background`, or lies outside the video.
    """
    if len(rows) > _MOST_EVENTS:
        raise DataError(f"{source}: {len(rows):,} events; expected at most {_MOST_EVENTS:,}.")
    found, last = [], round(duration_seconds, 3)
    for number, row in enumerate(rows, 1):
        label, where = " ".join(row.text.split()), f"{source}, event {number}"
        if not label or not label.isprintable() or len(label) > _MOST_LABEL:
            raise DataError(
                f"{where}: its label is {label[:40]!r}; expected 1 to {_MOST_LABEL} characters that can be printed."
            )
        refuse_reserved({label: where})
        if not 0 <= row.start_seconds < row.end_seconds <= last + 1:  # a second, as programs differ in what the end is
            raise DataError(
                f"{where}: '{label}' is from {row.start_seconds:g} to {row.end_seconds:g} s; expected a start before "
                f"the end, both within the {last:g} s of the video."
            )
        start, end = round(row.start_seconds, 3), min(round(row.end_seconds, 3), last)
        if start >= end:
            raise DataError(f"{where}: '{label}' begins at {start:g} s, where the video of {last:g} s is over.")
        found.append(Stretch(start, end, label))
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (one.start_seconds, one.end_seconds, one.text)))


def fingerprint(path: Path) -> str:
    """What tells a video's content from others: its size and all of it, or of a large file sixteen parts.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            found.update(file.read(_WHOLE_BYTES))
        else:
            for part in range(_PARTS):
                file.seek((size - _PART_BYTES) * part // (_PARTS - 1))
                found.update(file.read(_PART_BYTES))
    return found.hexdigest()[:32]


def unsureness(answer: Mapping[str, Any]) -> float | None:
    """How unsure a model is about a video: 1 less the mean, over its seconds, of the largest probability.

    Args:
        answer: What `avpea predict --json` prints.

    Returns:
        From 0, sure of each second, to 1; None if its seconds have no probabilities of one class or another.
    """
    rows = [list(one.get("probabilities", {}).values()) for one in answer.get("seconds") or []]
    largest = [max(row) for row in rows if row and all(isinstance(chance, float) for chance in row)]
    return round(1 - sum(largest) / len(largest), 4) if largest else None


def _stored(path: Path, name: str, own: bool) -> Review | None:
    """The review of a video in a file; None if there is no such file, or if it is in another's closed folder.

    Raises:
        DataError: It is damaged or cannot be read; the sentence does not say where its folder lies.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if isinstance(error, PermissionError) and not own:
            return None
        # reading it says what keeps it from being read
    shown, remedy = f"{path.parent.name}/{path.name}", "restore it from a copy, or remove it to begin anew"
    try:
        return _from_stored(read_json(path, DataError, remedy=remedy), shown)
    except DataError as error:
        raise DataError(f"The review of {name} cannot be used: {str(error).replace(str(path), shown)}") from None


def _from_stored(values: Any, name: str) -> Review:
    """The review in a file.

    Raises:
        DataError: It is none.
    """
    try:
        if values["format"] != _FORMAT:
            raise DataError(f"{name}: its format is {str(values['format'])[:40]!r}; expected '{_FORMAT}'.")
        rows = [(one["start_seconds"], one["end_seconds"], one["label"]) for one in values["events"]]
        events = tuple(Stretch(float(start), float(end), str(label)) for start, end, label in rows)
        revision, done, changed = int(values["revision"]), bool(values["done"]), str(values["changed"])
        return Review(str(values["name"]), events, revision, done, changed)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} is no review; restore it from a copy, or remove it to begin anew.") from None


def _flush(folder: Path) -> None:
    """Let a file's new name survive a power cut; systems without it keep names as they do."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
