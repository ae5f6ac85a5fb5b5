"""Random numbers of training: each depends on the seed, the epoch, the batch and what it is drawn for, and on no more.

So an interrupted training draws what an undisturbed one does, and several processes draw what a single one does, in
whatever order and by whichever thread the samples are read.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

__all__ = ["drawing", "draws", "generator", "seed_of"]

_BATCH: ContextVar[tuple[object, ...]] = ContextVar("avpea_batch", default=())


def draws(*of: object) -> torch.Generator:
    """A random generator on the CPU that depends on the values alone."""
    return torch.Generator().manual_seed(seed_of(*of))


def seed_of(*of: object) -> int:
    """A seed of 56 bits that depends on the values alone."""
    digest = hashlib.sha256("/".join(map(str, of)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


@contextmanager
def drawing(seed: int, epoch: int, batch: int) -> Iterator[None]:
    """In this block, `generator` is that of one batch."""
    before = _BATCH.set((seed, epoch, batch))
    try:
        yield
    finally:
        _BATCH.reset(before)


def generator(*of: object) -> torch.Generator:
    """The random generator for something in the current batch, such as a sample's key.

    Outside of `drawing` it is seeded by torch's global one.
    """
    batch = _BATCH.get()
    return draws(*batch, *of) if batch else draws(int(torch.randint(2**62, ())), *of)
