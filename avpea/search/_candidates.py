"""What a search reads of the windows that it compares token by token: checked and unpacked all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avpea.embeddings import Embeddings
from avpea.search._tokens import complaint_about_tokens, size_of, unpacked_tokens

__all__ = ["BEFORE", "COMPARED", "Candidates", "DamagedError", "together"]

# A window's frames, scores and tokens in one column: each column more is read by itself, and one of a few bytes takes
# longer than that of tokens, since LanceDB unpacks thousands of its rows for each that is wanted.
COMPARED = "compared"
BEFORE = ["tokens", "scores", "frames"]  # what libraries of earlier versions have instead
_FRAMES, _SCORES = np.dtype("<u2"), np.dtype("<f4")


class DamagedError(ValueError):
    """What is wrong with a window, as the object of "a window has"."""


def together(tokens: bytes, scores: Sequence[float], frames: int) -> bytes:
    """What a library keeps in one column: how many tokens are of frames, the scores, and the packed tokens."""
    return np.array(frames, _FRAMES).tobytes() + np.array(scores, _SCORES).tobytes() + tokens


@dataclass(frozen=True)
class Candidates:
    """Windows, in the order in which they were found.

    Attributes:
        numbers: LanceDB's number of each row.
        tokens: What is kept of each one's tokens.
        scores: Scores of all tokens, window after window.
        counts: Number of tokens of each window.
        frames: Number of its tokens that are of frames, which come first.
        width: Numbers of a token.
    """

    numbers: list[int]
    tokens: list[bytes]
    scores: np.ndarray
    counts: np.ndarray
    frames: np.ndarray
    width: int

    @classmethod
    def of(cls, table: Any, width: int) -> "Candidates":
        """Those in an Arrow table; of a window that is there twice, the first.

        Args:
            table: A table with `COMPARED`, or the columns of `BEFORE`, and with `_rowid`.
            width: Numbers of a token.

        Raises:
            DamagedError: A window is not as avpea writes it.
        """
        _, first = np.unique(table["_rowid"].to_numpy(), return_index=True)
        if len(first) < len(table):
            table = table.take(np.sort(first))
        columns = _apart(table, width) if COMPARED in table.column_names else _beside(table)
        found = cls(table["_rowid"].to_pylist(), *columns, width)
        if complaint := complaint_about_tokens(found.tokens, found.counts.tolist(), width):
            raise DamagedError(complaint)
        wrong = (found.frames < 0) | (found.frames > found.counts)
        if wrong.any():
            place = int(wrong.argmax())
            raise DamagedError(f"{found.frames[place]} frames of {found.counts[place]} vectors")
        if not np.isfinite(found.scores).all():
            raise DamagedError("scores that are no numbers")
        return found

    def __len__(self) -> int:
        return len(self.numbers)

    def embeddings(self, by: str) -> Embeddings:
        """Their embeddings, for a search by `both`, `picture` or `sound`."""
        tokens, scores = unpacked_tokens(self.tokens, self.counts.tolist(), self.width), torch.tensor(self.scores)
        counts, frames = torch.tensor(self.counts)[:, None], torch.tensor(self.frames)[:, None]
        places = torch.arange(int(counts.max()))
        there = places < counts
        chosen = {"both": there, "picture": places < frames, "sound": there & (places >= frames)}[by]
        sizes, of_flat = chosen.sum(dim=1, keepdim=True), chosen[there]
        mask = torch.arange(int(sizes.max())) < sizes
        if of_flat.all() and mask.all():  # all tokens of windows of one length: nothing to copy
            return Embeddings(tokens.reshape(*mask.shape, self.width), scores.reshape(mask.shape), mask)
        found = Embeddings(tokens.new_zeros(*mask.shape, self.width), scores.new_zeros(mask.shape), mask)
        found.tokens[mask], found.scores[mask] = tokens[of_flat], scores[of_flat]
        return found


_Columns = tuple[list[bytes], np.ndarray, np.ndarray, np.ndarray]  # tokens, scores, counts, frames


def _apart(table: Any, width: int) -> _Columns:
    """What `together` put into one column."""
    import pyarrow as pa

    every = _column(table, COMPARED, pa.binary()).to_pylist()
    counts = [(len(one) - _FRAMES.itemsize) // (_SCORES.itemsize + size_of(width)) for one in every]
    if any(count < 1 for count in counts):
        raise DamagedError("no vectors")
    starts = [_FRAMES.itemsize + _SCORES.itemsize * count for count in counts]
    heads = [one[:start] for one, start in zip(every, starts, strict=True)]
    frames = np.frombuffer(b"".join(one[: _FRAMES.itemsize] for one in heads), _FRAMES).astype(np.int64)
    scores = np.frombuffer(b"".join(one[_FRAMES.itemsize :] for one in heads), _SCORES).astype(np.float32)
    return [one[start:] for one, start in zip(every, starts, strict=True)], scores, np.array(counts, int), frames


def _beside(table: Any) -> _Columns:
    """The columns of an earlier version."""
    import pyarrow as pa

    kinds = dict(zip(BEFORE, (pa.binary(), pa.list_(pa.float32()), pa.int32()), strict=True))
    tokens, scores, frames = (_column(table, name, kind) for name, kind in kinds.items())
    flat = scores.flatten()
    if flat.null_count:
        raise DamagedError("no scores")
    numbers = (one.to_numpy(zero_copy_only=False) for one in (flat, scores.value_lengths(), frames))
    return tokens.to_pylist(), next(numbers), next(numbers), next(numbers)


def _column(table: Any, name: str, kind: Any) -> Any:
    """A column as one array.

    Raises:
        DamagedError: It is of another type, or lacks a value.
    """
    column = table[name] if name in table.column_names else None
    if column is None or column.null_count or not column.type.equals(kind):
        raise DamagedError(f"no {name}")
    return column.combine_chunks()
