"""Ctrl-C as a request, so that training can save its state first."""

import signal
import threading
from typing import Any

__all__ = ["StopRequest"]


class StopRequest:
    """Turns the first Ctrl-C into a request to stop after the current step; the second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> "StopRequest":
        # Only the main thread can handle signals; in other threads the caller decides how to stop.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def obey(self) -> None:
        """Stop here if that was requested.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self.requested:
            raise KeyboardInterrupt
