"""Ctrl-C, SIGTERM and SIGHUP as requests, so that training can save its state first."""

import time
from contextlib import ExitStack
from types import FrameType

from avpea.stopping import Stopped, handled

__all__ = ["StopRequest"]

_ONE_SECONDS = 1.0  # a launcher passes on what was sent to the whole group of processes


class StopRequest:
    """Turns the first signal into a request to stop after the current step; one a second later stops at once."""

    def __init__(self) -> None:
        self.requested = 0  # the signal's number
        self._since = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> "StopRequest":
        self._stack.enter_context(handled(self._request))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _request(self, number: int, _: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > _ONE_SECONDS:
            raise Stopped(number)

    def obey(self) -> None:
        """Stop here if that was requested.

        Raises:
            Stopped: A signal came, such as that of Ctrl-C.
        """
        if self.requested:
            raise Stopped(self.requested)
