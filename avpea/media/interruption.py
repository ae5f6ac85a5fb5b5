"""Ctrl-C, and the other signals that end a program, while a file is decoded."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from avpea.stopping import SIGNALS, Stopped, handled

__all__ = ["interruptible"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Let no KeyboardInterrupt be lost in the block.

    PyAV's filters end their loops at any exception, an interruption included. The caller would go on, and with it a
    clip that lacks some sound: the interruption is raised again when the block ends.
    """
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    raised: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            before[number](number, frame)  # may only take note of it
        except KeyboardInterrupt:
            raised.append(number)
            raise

    # What ends the process without Python cannot be lost.
    with handled(handle, [number for number in SIGNALS if callable(before[number])]):
        yield
    if raised:
        raise Stopped(raised[0])
