"""Rows that grow at their end, so that memory follows what was decoded, and not what a header declares."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["Array", "Growing", "Receiving", "Rows"]

Array = np.ndarray[Any, np.dtype[Any]]


@runtime_checkable
class Rows(Protocol):
    """Where decoded rows go: into memory here, or to the process that asked for them."""

    def __len__(self) -> int:
        """Number of rows so far."""

    def append(self, rows: Array) -> None:
        """Add rows at the end, all of one shape and type."""

    def repeat(self, count: int) -> None:
        """Add the last row again, `count` times."""

    def clear(self) -> None:
        """Start again without rows."""


@runtime_checkable
class Receiving(Rows, Protocol):
    """Rows in memory here, whose new rows the caller fills in."""

    def room(self, count: int, shape: Sequence[int] = ()) -> Array:
        """Add `count` rows, for the caller to fill in."""


class Growing:
    """Rows of one shape and type in memory, which grows by a quarter and is cut to size at the end.

    Args:
        dtype: Type of the values.
        least: Number of rows to make room for at first.
    """

    def __init__(self, dtype: Any, least: int = 64) -> None:
        self._dtype, self._least = np.dtype(dtype), least
        self._rows: Array = np.zeros((0,), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def room(self, count: int, shape: Sequence[int] = ()) -> Array:
        """Add `count` rows, for the caller to fill in."""
        needed = self._count + count
        if self._rows.shape[1:] != tuple(shape) and not self._count:
            self._rows = np.zeros((max(needed, self._least), *shape), self._dtype)
        if needed > len(self._rows):
            # In place: `realloc` of large arrays moves pages instead of copying them.
            least = max(needed, len(self._rows) * 5 // 4, self._least)
            self._rows.resize((least, *self._rows.shape[1:]), refcheck=False)
        self._count = needed
        return self._rows[needed - count : needed]

    def append(self, rows: Array) -> None:
        """Add rows at the end."""
        self.room(len(rows), rows.shape[1:])[...] = rows

    def repeat(self, count: int) -> None:
        """Add the last row again, `count` times."""
        place = self.room(count, self._rows.shape[1:])  # which may move the array, so first
        place[...] = self._rows[self._count - count - 1]

    def clear(self) -> None:
        """Start again without rows."""
        self._rows, self._count = np.zeros((0,), self._dtype), 0

    def finish(self, count: int) -> Array:
        """The first `count` rows, zeros after the last; the array cannot grow any more."""
        self._rows.resize((count, *self._rows.shape[1:]), refcheck=False)
        return self._rows
