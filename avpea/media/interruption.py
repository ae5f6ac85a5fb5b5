"""Ctrl-C while a file is decoded."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interruptible"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Let no KeyboardInterrupt be lost in the block.

    PyAV's filters end their loops at any exception, an interruption included. The caller would go on, and with it a
    clip that lacks some sound: the interruption is raised again when the block ends.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    raised = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        try:
            before(number, frame)  # may only take note of it
        except KeyboardInterrupt:
            raised = True
            raise

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if raised:
        raise KeyboardInterrupt
