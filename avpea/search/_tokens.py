"""What a library keeps of a window's tokens: five bits a number, and what is read back from them.

The levels are those of the best quantiser of 32 levels for normally distributed numbers (Max, 1960, "Quantizing for
minimum distortion"), scaled for each token by its root mean square. What is read back is as long in the direction of
the token as the token is, so that its product with that is right, and products with other vectors, which are what a
search compares, are right on average (as in RaBitQ: Gao and Long, 2024). The noise is spread over all numbers, so they
differ far less than the numbers do.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["complaint_about_tokens", "packed_tokens", "size_of", "unpacked_tokens"]

_BITS = 5
_POSITIVE = [0.0659, 0.1981, 0.3314, 0.4668, 0.6050, 0.7473, 0.8947, 1.0490]
_POSITIVE += [1.2120, 1.3870, 1.5770, 1.7880, 2.0290, 2.3190, 2.6920, 3.2630]
_LEVELS = np.array([*(-level for level in reversed(_POSITIVE)), *_POSITIVE], np.float32)
_BETWEEN = (_LEVELS[1:] + _LEVELS[:-1]) / 2
_HALF = np.dtype("<f2")
_LONGEST = 2.0  # tokens are of unit length, and read back a little longer
# The two numbers in each of the 1,024 values that ten bits have, as one of eight bytes, which is quicker to look up.
_TWO = _LEVELS[np.arange(1024)[:, None] >> np.array([5, 0]) & 31].view(np.float64).ravel()
_FIVE, _TENS = 5, (30, 20, 10, 0)  # bytes of eight numbers, and where in them each two begin
_AT_ONCE = 1000  # tokens that a thread unpacks in one go: of fewer, each step costs more than its work


def size_of(width: int) -> int:
    """Bytes of a token of so many numbers; for three or more they tell it from numbers of half precision."""
    return _HALF.itemsize + -(-_BITS * width // 8)


def packed_tokens(tokens: Float[Tensor, "tokens width"]) -> bytes:
    """The length of what is read back of each token, in half precision, and then five bits for each number."""
    numbers = tokens.float().numpy()
    squares = np.square(numbers).sum(axis=1, keepdims=True)
    size = np.sqrt(np.where(squares > 0, squares, 1) / numbers.shape[1])
    codes = np.searchsorted(_BETWEEN, numbers / size).astype(np.uint8)
    levels = _LEVELS[codes]
    levels /= np.linalg.norm(levels, axis=1, keepdims=True)
    along = (numbers * levels).sum(axis=1, keepdims=True)
    lengths = (squares / np.where(squares > 0, along, 1)).astype(_HALF)
    bits = np.unpackbits(codes[..., None], axis=-1)[..., -_BITS:].reshape(len(codes), -1)
    return np.hstack([lengths.view(np.uint8), np.packbits(bits, axis=1)]).tobytes()


def complaint_about_tokens(kept: Sequence[bytes], counts: Sequence[int], width: int) -> str:
    """What is wrong with the tokens of some windows, of this or of an earlier version, of unit length.

    Args:
        kept: What `packed_tokens` gave of each, or, as earlier versions kept it, all numbers in half precision.
        counts: Number of tokens of each.
        width: Numbers of a token.

    Returns:
        Empty if nothing is.
    """
    for one, count in zip(kept, counts, strict=True):
        if not count or not width or not (len(one) == count * size_of(width) or _in_half(one, count, width)):
            return "no vectors"
    for whole, _, rows in _by_version(kept, counts, width):
        lengths = np.linalg.norm(rows.view(_HALF).astype(np.float32), axis=1) if whole else _lengths(rows)
        if not np.isfinite(lengths).all():
            return "vectors that are no numbers"
        if not ((lengths >= 0) & (lengths <= _LONGEST)).all():
            return "vectors of a wrong length"
    return ""


def unpacked_tokens(kept: Sequence[bytes], counts: Sequence[int], width: int) -> Float[Tensor, "tokens width"]:
    """The tokens of some windows, one after another.

    Args:
        kept: What is kept of each window; `complaint_about_tokens` says nothing of it.
        counts: Number of tokens of each.
        width: Numbers of a token.
    """
    parts = [
        (places, torch.from_numpy(rows.view(_HALF).astype(np.float32)) if whole else _read(rows, width))
        for whole, places, rows in _by_version(kept, counts, width)
    ]
    if len(parts) == 1:
        return parts[0][1]
    tokens = torch.empty(sum(counts), width)
    for places, some in parts:
        tokens[torch.from_numpy(places)] = some
    return tokens


def _in_half(kept: bytes, count: int, width: int) -> bool:
    """Whether an earlier version kept the tokens: all numbers in half precision."""
    return len(kept) == _HALF.itemsize * count * width


def _by_version(
    kept: Sequence[bytes], counts: Sequence[int], width: int
) -> Iterator[tuple[bool, np.ndarray, np.ndarray]]:
    """For each version, if any: whether it kept all numbers, the places of its tokens, and the bytes of each token."""
    wholes = np.array([_in_half(one, count, width) for one, count in zip(kept, counts, strict=True)], bool)
    of_tokens = np.repeat(wholes, counts)
    for whole, size in ((False, size_of(width)), (True, _HALF.itemsize * width)):
        if (wholes == whole).any():
            joined = b"".join(one for one, as_whole in zip(kept, wholes.tolist(), strict=True) if as_whole == whole)
            yield whole, np.flatnonzero(of_tokens == whole), np.frombuffer(joined, np.uint8).reshape(-1, size)


def _read(packed: np.ndarray, width: int) -> Float[Tensor, "tokens width"]:
    groups = -(-(packed.shape[1] - _HALF.itemsize) // _FIVE)
    tokens = np.empty((len(packed), groups * 2 * len(_TENS)), np.float32)

    def fill(start: int) -> None:
        some, read = packed[start : start + _AT_ONCE], tokens[start : start + _AT_ONCE]
        np.take(_TWO, _tens(some[:, _HALF.itemsize :], groups), out=read.view(np.float64), mode="clip")  # none is wrong
        levels = read[:, :width]
        levels *= _lengths(some) / np.sqrt(np.einsum("tn,tn->t", levels, levels))[:, None]

    starts = range(0, len(packed), _AT_ONCE)
    with ThreadPoolExecutor(max(1, min(torch.get_num_threads(), len(starts)))) as threads:
        list(threads.map(fill, starts))
    return torch.from_numpy(tokens)[:, :width]


def _tens(packed: np.ndarray, groups: int) -> Int[np.ndarray, "tokens tens"]:
    """The ten bits of each two numbers, four in five bytes."""
    bytes_of = np.zeros((len(packed), groups, 8), np.uint8)  # of a word whose last byte is its first eight bits
    padded = packed if packed.shape[1] == groups * _FIVE else np.pad(packed, ((0, 0), (0, -packed.shape[1] % _FIVE)))
    for place in range(_FIVE):  # one at a time, which is quicker than all in the other order
        bytes_of[..., _FIVE - 1 - place] = padded.reshape(len(packed), groups, _FIVE)[..., place]
    words = bytes_of.view("<i8")[..., 0]
    found = np.empty((*words.shape, len(_TENS)), np.int64)
    for place, bits in enumerate(_TENS):
        np.bitwise_and(words >> bits, 1023, out=found[..., place])
    return found.reshape(len(packed), -1)


def _lengths(packed: np.ndarray) -> Float[np.ndarray, "tokens 1"]:
    return np.ascontiguousarray(packed[:, : _HALF.itemsize]).view(_HALF).astype(np.float32)
