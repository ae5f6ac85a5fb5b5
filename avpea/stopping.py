"""Signals that ask a program to end: Ctrl-C, and what a system or a closed terminal sends (SIGTERM, SIGHUP).

All three are the same exception, so that what Ctrl-C keeps is kept by the others.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["SIGNALS", "Stopped", "handled", "stoppable"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


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


def _by_nohup(number: int, handler: Any) -> bool:
    return handler == signal.SIG_IGN and number == getattr(signal, "SIGHUP", None)


def stoppable() -> Any:
    """Let each of the signals raise `Stopped` in the block."""
    return handled(_raise)
