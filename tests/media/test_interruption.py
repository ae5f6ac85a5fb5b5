"""Ctrl-C while a file is decoded is never lost, wherever it is swallowed."""

import contextlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from avpea.media import read
from avpea.stopping import Stopped, interruptible, stoppable
from tests.media_factory import make_video


def swallow() -> None:
    """As PyAV's resampler does."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_swallowed_interruption_is_raised_at_the_end() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible():
        swallow()
    assert signal.getsignal(signal.SIGINT) is before


def test_one_that_became_another_exception_is_raised_instead() -> None:
    """As torch makes of it a TypeError, for which a file would seem damaged."""

    def mistaken() -> None:
        with interruptible():
            swallow()
            raise TypeError

    with pytest.raises(KeyboardInterrupt):
        mistaken()


def test_one_that_tells_what_is_kept_stays_as_it_is() -> None:
    def told() -> None:
        with interruptible():
            swallow()
            raise Stopped(signal.SIGTERM, "two are done")

    with pytest.raises(Stopped, match="two are done"):
        told()


class Dying:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_one_that_a_destructor_ignores_is_sent_again() -> None:
    def wait() -> None:
        with stoppable():
            del (one := [Dying()])[0]
            assert not one
            time.sleep(60)

    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with pytest.raises(Stopped):
        wait()
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == (before, hook)


def test_one_that_is_only_noted_raises_nothing() -> None:
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert noted == [signal.SIGINT]


def test_other_threads_have_no_signals() -> None:
    done: list[bool] = []

    def work() -> None:
        with interruptible():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.slow
# Between opening a file and `with`, an interruption leaves it to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    """Of interruptions at random moments, about one in eight was lost in PyAV's resampler."""
    video = make_video(tmp_path / "v.mp4", seconds=6)
    begun = time.monotonic()
    read(video)
    takes, went_on, draw = time.monotonic() - begun, 0, random.Random(0)
    for _ in range(60):
        timer = threading.Timer(draw.uniform(0.1, 0.9) * takes, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            for _ in range(100):
                read(video)
            went_on += 1
        except KeyboardInterrupt:
            pass
        timer.join()
    assert went_on == 0
