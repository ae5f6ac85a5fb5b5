"""Requests to end: whom the terminal tells, and what counts as one request."""

import os
import signal

import pytest

from avpea.run._stop import StopRequest
from avpea.stopping import Stopped, from_terminal


@pytest.mark.parametrize(("group", "expected"), [(0, False), (os.getpgrp(), True)])
def test_ctrl_c_is_the_terminal_s_in_its_foreground(
    group: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened(os.devnull if path == "/dev/tty" else path, flags))
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: group)
    assert from_terminal(signal.SIGINT) is expected
    assert not from_terminal(signal.SIGTERM)


def test_without_a_terminal_nobody_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str, flags: int) -> int:
        raise OSError(6, "No such device or address", path)

    monkeypatch.setattr(os, "open", missing)
    assert not from_terminal(signal.SIGINT)


def test_signals_within_a_second_are_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopRequest() as stop:
        stop.obey()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested == signal.SIGTERM
        with pytest.raises(Stopped):
            stop.obey()
        monkeypatch.setattr("avpea.run._stop._ONE_SECONDS", -1.0)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
