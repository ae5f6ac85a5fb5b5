"""Ctrl-C, SIGTERM and SIGHUP as requests, so that training can save its state first."""

from contextlib import ExitStack
from types import FrameType

from avpea.stopping import Stopped, handled

__all__ = ["StopRequest"]


class StopRequest:
    """Turns the first signal into a request to stop after the current step; the second one stops at once."""

    def __init__(self) -> None:
        self.requested = 0  # the signal's number
        self._stack = ExitStack()

    def __enter__(self) -> "StopRequest":
        self._stack.enter_context(handled(self._request))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _request(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            raise Stopped(number)
        self.requested = number

    def obey(self) -> None:
        """Stop here if that was requested.

        Raises:
            Stopped: A signal came, such as that of Ctrl-C.
        """
        if self.requested:
            raise Stopped(self.requested)
