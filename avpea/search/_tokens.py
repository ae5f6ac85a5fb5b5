"""What a library keeps of a window's tokens: three bits a number, and what is read back from them.

The levels are those of the best quantiser of eight levels for normally distributed numbers (Max, 1960, "Quantizing for
minimum distortion"), scaled for each token by its root mean square. What is read back is as long in the direction of
the token as the token is, so that its product with that is right, and products with other vectors, which are what a
search compares, are right on average (as in RaBitQ: Gao and Long, 2024). The noise is spread over all numbers, so they
differ far less than the numbers do.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["complaint_about_tokens", "packed_tokens", "size_of", "unpacked_tokens"]

_LEVELS = np.array([-2.1520, -1.3439, -0.7560, -0.2451, 0.2451, 0.7560, 1.3439, 2.1520], np.float32)
_BETWEEN = (_LEVELS[1:] + _LEVELS[:-1]) / 2
_HALF = np.dtype("<f2")
_LONGEST = 2.0  # tokens are of unit length, and read back a little longer
# The four numbers in each of the 4,096 values that 12 bits have.
_FOUR = _LEVELS[np.arange(4096)[:, None] >> np.array([9, 6, 3, 0]) & 7]


def size_of(width: int) -> int:
    """Bytes of a token of so many numbers."""
    return _HALF.itemsize + -(-3 * width // 8)


def packed_tokens(tokens: Float[Tensor, "tokens width"]) -> bytes:
    """The length of what is read back of each token, in half precision, and then three bits for each number."""
    numbers = tokens.float().numpy()
    squares = np.square(numbers).sum(axis=1, keepdims=True)
    size = np.sqrt(np.where(squares > 0, squares, 1) / numbers.shape[1])
    codes = np.searchsorted(_BETWEEN, numbers / size).astype(np.uint8)
    levels = _LEVELS[codes]
    levels /= np.linalg.norm(levels, axis=1, keepdims=True)
    along = (numbers * levels).sum(axis=1, keepdims=True)
    lengths = (squares / np.where(squares > 0, along, 1)).astype(_HALF)
    bits = np.unpackbits(codes[..., None], axis=-1)[..., -3:].reshape(len(codes), -1)
    return np.hstack([lengths.view(np.uint8), np.packbits(bits, axis=1)]).tobytes()


def complaint_about_tokens(kept: object, count: int, width: int) -> str:
    """What is wrong with the tokens of a row, of this or of an earlier version, of unit length; empty if nothing is.

    Args:
        kept: What `packed_tokens` gave, or, as earlier versions kept it, all numbers in half precision.
        count: Number of tokens.
        width: Numbers of a token.
    """
    if not isinstance(kept, bytes) or not count or len(kept) not in (count * size_of(width), 2 * count * width):
        return "no vectors"
    if len(kept) == 2 * count * width:
        lengths = np.linalg.norm(np.frombuffer(kept, _HALF).astype(np.float32).reshape(count, width), axis=1)
    else:
        lengths = _lengths(np.frombuffer(kept, np.uint8).reshape(count, -1))
    if not np.isfinite(lengths).all():
        return "vectors that are no numbers"
    return "" if ((lengths >= 0) & (lengths <= _LONGEST)).all() else "vectors of a wrong length"


def unpacked_tokens(rows: Sequence[tuple[bytes, int]], width: int) -> tuple[Float[Tensor, "tokens width"], ...]:
    """The tokens of each row.

    Args:
        rows: What is kept of each row, and its number of tokens; `complaint_about_tokens` says nothing of them.
        width: Numbers of a token.
    """
    if any(len(kept) == 2 * count * width for kept, count in rows):  # of an earlier version, or some of them
        return tuple(_read(kept, count, width) for kept, count in rows)
    every = _read(b"".join(kept for kept, _ in rows), sum(count for _, count in rows), width)
    return torch.split(every, [count for _, count in rows])


def _read(kept: bytes, count: int, width: int) -> Float[Tensor, "tokens width"]:
    if len(kept) == 2 * count * width:
        return torch.from_numpy(np.frombuffer(kept, _HALF).reshape(count, width).astype(np.float32))
    packed = np.frombuffer(kept, np.uint8).reshape(count, -1)
    three = np.zeros((count, -(-width // 8), 3), np.uint16)  # eight numbers in three bytes
    three.reshape(count, -1)[:, : packed.shape[1] - _HALF.itemsize] = packed[:, _HALF.itemsize :]
    first, middle, last = three[..., 0], three[..., 1], three[..., 2]
    twelve = np.stack([first << 4 | middle >> 4, (middle & 15) << 8 | last], axis=-1)
    numbers = torch.from_numpy(_FOUR.take(twelve, axis=0).reshape(count, -1)[:, :width])
    tokens: Tensor = numbers * (torch.from_numpy(_lengths(packed)) / numbers.norm(dim=1, keepdim=True))
    return tokens


def _lengths(packed: np.ndarray) -> Float[np.ndarray, "tokens 1"]:
    return np.ascontiguousarray(packed[:, : _HALF.itemsize]).view(_HALF).astype(np.float32)
