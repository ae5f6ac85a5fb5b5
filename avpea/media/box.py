"""Media in a box: files are decoded by a worker process with bounds, and whatever happens to it is the file's reason.

    with avpea.media.boxed(avpea.media.Limits(memory_mb=2000)):
        clip = avpea.media.read("stranger.mp4")

A damaged or hostile file can crash the libraries in FFmpeg, hang them, or let them take all memory. In a box that is a
`MediaError` of that file; the worker is replaced, and the next file is read. What the worker sends is checked like any
stranger's data: it is JSON and raw rows, and bounded.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from avpea.errors import MediaError
from avpea.media._process import Ended, Worker
from avpea.media.limits import DEFAULT, Limits

__all__ = ["Box", "boxed", "current", "limits_here", "open_for_good", "warm_up"]

Answer = TypeVar("Answer")


class Box:
    """One worker that decodes one file after another; it starts with the first, and again after each that ends it.

    Safe for several threads, which take turns, and for forks, which get workers of their own.

    Args:
        limits: What a file may take.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._worker: Worker | None = None
        self._owner = os.getpid()
        self._lock = threading.Lock()

    @property
    def process_id(self) -> int | None:
        """Number of the worker's process; None while there is none."""
        return self._worker.process_id if self._worker is not None else None

    def start(self) -> None:
        """Start the worker, without waiting for it."""
        if self._owner != os.getpid():
            self._owner, self._lock = os.getpid(), threading.Lock()
            if self._worker is not None:
                self._worker.forget()
                self._worker = None
        if self._worker is not None and not self._worker.alive:
            self.close()
        if self._worker is None:
            self._worker = Worker(self.limits)

    def close(self, at_once: bool = True) -> None:
        """End the worker."""
        if self._worker is not None and self._owner == os.getpid():
            self._worker.end(at_once)
        self._worker = None

    def run(
        self, job: str, kind: type[Answer], path: Path, frames: Any, samples: Any, options: dict[str, Any]
    ) -> Answer:
        """Do a job in the worker.

        Args:
            job: Its name, a key of `avpea.media.jobs.JOBS`.
            kind: Class of its answer.
            path: The file.
            frames: Where frames go as they come (`Growing`).
            samples: Where the samples of the sound go as they come (`Growing`).
            options: Options of the job.

        Raises:
            MediaError: The file cannot be decoded within the limits, or ended the worker.
            AvpeaError: The worker does not start.
        """
        from avpea.media.receiving import Refused, received  # numpy, which opening a box does not need

        asked = {"job": job, "path": _absolute(path), "options": options}
        self.start()
        with self._lock:
            self.start()
            worker = self._worker
            assert worker is not None
            try:
                worker.ask(asked)
                answer = received(worker, kind, self.limits, path, frames, samples)
            except Ended:
                reason = _why(worker.code(), worker.overdue, self.limits)
                self.close()
                raise MediaError(path, reason) from None
            except Refused as error:
                if error.ends:
                    self.close()
                raise error.reason from None
            except BaseException:  # Ctrl-C included: the worker is in the middle of something
                self.close()
                raise
            worker.rest()
            return answer


def _absolute(path: Path) -> str:
    try:
        return os.path.join(os.getcwd(), path)  # the parent may have moved to another folder
    except OSError:  # whose folder is gone
        return str(path)


def _why(code: int, overdue: bool, limits: Limits) -> str:
    """The reason of a file that ended its worker."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
    if overdue or name == "SIGXCPU":
        return (
            f"decoding makes no progress in {limits.seconds} s; get the file anew, or if it is intact, "
            f"{limits.more('seconds')} waits longer."
        )
    if name == "SIGKILL":
        return (
            "decoding was ended from outside (SIGKILL), as systems do when memory runs out; get the file anew, or free "
            "memory."
        )
    return f"the decoder crashed on it ({name}); get the file anew, or convert it with ffmpeg."


_open: Box | None = None


def current() -> Box | None:
    """The box that is open in this process."""
    return _open


def limits_here() -> Limits | None:
    """The limits of the box that is open in this process, to open one like it in another; None if none is open."""
    return None if _open is None else _open.limits


def open_for_good(limits: Limits | None) -> None:
    """Open a box, or none, until this process ends: for processes that another one starts for such work."""
    global _open
    _open = None if limits is None else Box(limits)


@contextlib.contextmanager
def boxed(limits: Limits | None = DEFAULT) -> Iterator[None]:
    """Decode in a worker process in this block; with None, in this process.

    Args:
        limits: What a file may take.
    """
    global _open
    before = _open
    open_for_good(limits)
    opened = _open
    try:
        yield
    finally:
        _open = before
        if opened is not None:
            opened.close()


def warm_up() -> None:
    """Start the worker of the open box, if there is one, while something else is loaded."""
    if _open is not None:
        _open.start()
