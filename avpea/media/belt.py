"""Between a thread that decodes and one that uses: rows of frames and samples, of which only some wait."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from avpea.media.found import Found
from avpea.media.growing import Array
from avpea.media.info import SAMPLE_RATE_HZ

__all__ = ["Belt"]


class _Unwanted(Exception):
    """Nobody uses what is decoded any more."""


class _Lane:
    """Rows of one kind (`avpea.media.growing.Rows`), which are laid down at one end and taken at the other."""

    def __init__(self, belt: "Belt", dtype: Any, segment: int) -> None:
        self._belt, self._dtype, self._segment = belt, np.dtype(dtype), segment
        self._parts: deque[Array] = deque()
        self._laid = self._ready = 0  # rows in all, and those of them that are filled in

    def __len__(self) -> int:
        return self._laid

    @property
    def segments(self) -> int:
        """Number of whole segments so far, those included that were taken."""
        return self._ready // self._segment

    def room(self, count: int, shape: Sequence[int] = ()) -> Array:
        """Add `count` rows, for the caller to fill in before the next call; waits if too much lies here unused."""
        self._belt.wait_for_room(self)
        place = np.empty((count, *shape), self._dtype)
        self._add(place)
        return place

    def append(self, rows: Array) -> None:
        """Add rows at the end."""
        self.room(len(rows), rows.shape[1:])[...] = rows

    def repeat(self, count: int) -> None:
        """Add the last row again, `count` times."""
        last = self._last[-1:]
        self._belt.wait_for_room(self)
        self._add(np.broadcast_to(last, (count, *last.shape[1:])))

    def clear(self) -> None:
        """Refuse to start again, which reading from the start never does.

        Raises:
            ValueError: Always.
        """
        raise ValueError("rows that may be in use cannot be taken back")

    def filled(self) -> None:
        """All rows that were laid down are filled in."""
        self._ready = self._laid

    def take(self, segments: int | None) -> Array:
        """The first rows that wait: of some segments, or all."""
        count = sum(map(len, self._parts)) if segments is None else segments * self._segment
        taken: list[Array] = []
        while count:
            part = self._parts.popleft()
            taken.append(part[:count])
            if len(part) > count:
                self._parts.appendleft(part[count:])
            count -= len(taken[-1])
        return np.concatenate(taken) if taken else np.zeros((0,), self._dtype)

    def _add(self, rows: Array) -> None:
        with self._belt.changed:
            self._parts.append(rows)
            self._last = rows
            self._laid += len(rows)


class Belt:
    """Frames and samples of one file, from its start.

    Args:
        most: Number of whole segments that may wait; the decoding thread pauses then.

    Attributes:
        frames: Where frames go, one for each segment.
        samples: Where samples go, at 16 kHz.
        changed: Guards everything here, and tells of changes.
        found: What decoding said of the file, once it is at its end.
        closed: Whether nobody uses what is decoded any more.
    """

    def __init__(self, most: int) -> None:
        self.changed = threading.Condition()
        self.frames, self.samples = _Lane(self, np.uint8, 1), _Lane(self, np.float32, SAMPLE_RATE_HZ)
        self.found: Found | None = None
        self.closed = False
        self._most, self._taken = most, 0
        self._error: BaseException | None = None

    @property
    def waiting(self) -> int:
        """Number of whole segments that wait."""
        return min(self.frames.segments, self.samples.segments) - self._taken

    @property
    def left(self) -> bool:
        """Whether it was closed while there was more to come; a worker that is done belongs to others by then."""
        return self.closed and self.found is None and self._error is None

    def wait_for_room(self, lane: _Lane) -> None:
        """Called by the decoding thread: tells what is filled in, and waits while too much is unused."""
        with self.changed:
            lane.filled()
            self.changed.notify_all()
            while self.waiting >= self._most and not self.closed:
                self.changed.wait()
            if self.closed:
                raise _Unwanted

    def wait_for(self, segments: int) -> bool:
        """Wait until so many segments are there; False if the file ends before.

        Raises:
            MediaError: Decoding failed.
        """
        with self.changed:
            while self.waiting < segments and self.found is None and self._error is None:
                self.changed.wait()
            if self.waiting >= segments:
                return True
            if self._error is not None:
                raise self._error
            return False

    def take(self, segments: int) -> tuple[Array, Array]:
        """Frames and samples of the first segments that wait."""
        with self.changed:
            self._taken += segments
            self.changed.notify_all()
            return self.frames.take(segments), self.samples.take(segments)

    def rest(self) -> tuple[Array, Array]:
        """All frames and samples that are left."""
        with self.changed:
            return self.frames.take(None), self.samples.take(None)

    def end(self, found: Found) -> None:
        """Called by the decoding thread: everything is there."""
        with self.changed:
            self.frames.filled()
            self.samples.filled()
            self.found = found
            self.changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Called by the decoding thread: there will be no more."""
        with self.changed:
            self._error = error
            self.changed.notify_all()

    def close(self) -> None:
        """Called by who uses it: nothing more is wanted."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
