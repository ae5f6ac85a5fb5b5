"""Boxes of commands and of servers that tests run in this process take over each other's workers.

The start of one takes half a second of CPU time, more than many a command. A worker keeps nothing of a file, and does
one job after another in any box; how boxes start and end theirs is tested in `tests/media/test_box.py`, without these.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_LEFT: dict[Any, list[Any]] = {}  # workers of boxes that are closed, by their limits


@contextmanager
def borrowed() -> Iterator[None]:
    """The box that is open takes workers that earlier ones have left, and leaves its own to later ones."""
    from avpea.media import box

    own: Any = box.current()
    boxes = [] if own is None or _kind() != _USUAL else getattr(own, "_boxes", [own])
    for one in boxes[::-1]:  # the last one of a pool works first
        one._worker = _LEFT[one.limits].pop() if _LEFT.get(one.limits) else None
    try:
        yield
    finally:
        for one in boxes:
            worker, many = one._worker, sum(map(len, _LEFT.values()))
            idle = worker is not None and worker.alive and not (worker.ended or worker._asked.is_set())
            if idle and many < 4 and _kind() == _USUAL:
                one._worker = None
                _LEFT.setdefault(one.limits, []).append(worker)


def _kind() -> Any:
    """How workers start, and what they are: some tests change that."""
    from avpea.media import _process, box

    return _process.START, vars(box)["Worker"]


_USUAL: Any = ()  # the kind where none does


@contextmanager
def lasting() -> Iterator[None]:
    """In this block boxes that are `borrowed`, and those of commands, leave their workers."""
    global _USUAL
    from avpea.command import limits_of
    from avpea.media import box

    _USUAL = _kind()

    @contextmanager
    def opened(options: argparse.Namespace) -> Iterator[None]:
        if options.decodes:
            with box.boxed(limits_of(options)), borrowed():
                yield
        else:
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avpea.cli._box", opened)
        try:
            yield
        finally:
            for worker in (worker for some in _LEFT.values() for worker in some):
                worker.end()
            _LEFT.clear()
