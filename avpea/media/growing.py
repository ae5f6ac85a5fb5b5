"""An array that grows at its end, so that memory follows what was decoded, and not what a header declares."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Growing"]

Array = np.ndarray[Any, np.dtype[Any]]


class Growing:
    """Rows of one shape and type; the memory grows by a quarter and is cut to size at the end.

    Args:
        shape: Shape of a row; () for single values.
        dtype: Type of the values.
        least: Number of rows to begin with.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, least: int = 64) -> None:
        self._rows = np.zeros((least, *shape), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: Array) -> None:
        """Add rows at the end."""
        needed = self._count + len(rows)
        if needed > len(self._rows):
            # In place: `realloc` of large arrays moves pages instead of copying them.
            self._rows.resize((max(needed, len(self._rows) * 5 // 4), *self._rows.shape[1:]), refcheck=False)
        self._rows[self._count : needed] = rows
        self._count = needed

    def last(self) -> Array:
        """A copy of the last row, since the array may move when it grows."""
        last: Array = self._rows[self._count - 1].copy()
        return last

    def finish(self, count: int) -> Array:
        """The first `count` rows, zeros after the last; the array cannot grow any more."""
        self._rows.resize((count, *self._rows.shape[1:]), refcheck=False)
        return self._rows
