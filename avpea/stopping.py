"""Signals that ask a program to end: Ctrl-C, and what a system or a closed terminal sends (SIGTERM, SIGHUP).

All three are the same exception, so that what Ctrl-C keeps is kept by the others.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["SIGNALS", "Stopped", "end_with", "from_terminal", "handled", "interruptible", "kept_handlers", "stoppable"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_GRACE_SECONDS = 10.0


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end.

    Args:
        number: The signal's number.
        text: What to tell, if the usual words do not fit.

    Attributes:
        number: The signal's number.
    """

    def __init__(self, number: int = signal.SIGINT, text: str = "") -> None:
        super().__init__(*([text] if text else []))
        self.number = number


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], Any], numbers: Sequence[int] = SIGNALS) -> Iterator[None]:
    """Let a function handle the signals in the block, in the main thread; with `nohup`, SIGHUP stays ignored."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # Handlers of other languages are None; they could not be put back.
        before = {number: signal.getsignal(number) for number in numbers}
        before = {number: old for number, old in before.items() if old is not None and not _by_nohup(number, old)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def from_terminal(number: int) -> bool:
    """Whether a signal is what a terminal sends for Ctrl-C to all processes in its foreground, this one among them.

    There nobody can tell it from a SIGINT that was sent to this process alone.
    """
    if number != signal.SIGINT:
        return False
    if not hasattr(os, "tcgetpgrp"):  # a console of Windows, which sends Ctrl-C to all its processes
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    except OSError:  # there is none, or it has been closed
        return False


def end_with(parent: int) -> None:
    """End this process when its parent does: as if asked to, and 10 seconds later in any case.

    Args:
        parent: Number of the parent's process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def kept_handlers() -> Iterator[None]:
    """At the end of the block put back the handlers of the signals that a library has replaced in it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # of another language
                    signal.signal(number, handler)


def _by_nohup(number: int, handler: Any) -> bool:
    return handler == signal.SIG_IGN and number == getattr(signal, "SIGHUP", None)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let each of the signals raise `Stopped` in the block.

    Python ignores an exception in a destructor or a callback of a weak reference. One of these signals is sent again
    then, so that it is not lost.
    """
    before = sys.unraisablehook

    def again(ignored: Any) -> None:
        if isinstance(ignored.exc_value, Stopped):
            threading.Timer(0.01, os.kill, (os.getpid(), ignored.exc_value.number)).start()
        else:
            before(ignored)

    sys.unraisablehook = again
    try:
        with handled(_raise):
            yield
    finally:
        sys.unraisablehook = before


@contextmanager
def interruptible() -> Iterator[None]:
    """Let no KeyboardInterrupt be lost in the block.

    PyAV's filters end their loops at any exception, torch takes one for a wrong type, and pydantic makes it an error of
    its own. The caller would go on, with a clip that lacks some sound or a file that seems damaged, or end with a
    traceback: the interruption is raised again when the block ends.
    """
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    raised: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            before[number](number, frame)  # may only take note of it
        except KeyboardInterrupt:
            raised.append(number)
            raise

    try:
        # What ends the process without Python cannot be lost.
        with handled(handle, [number for number in SIGNALS if callable(before[number])]):
            yield
    except KeyboardInterrupt:  # what it says about what is kept must not be lost either
        raise
    except BaseException:
        if raised:
            raise Stopped(raised[0]) from None
        raise
    if raised:
        raise Stopped(raised[0])
