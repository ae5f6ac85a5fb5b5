"""Media in a box: files are decoded by a worker process with bounds, and whatever happens to it is the file's reason.

    with avpea.media.boxed(avpea.media.Limits(memory_mb=2000)):
        clip = avpea.media.read("stranger.mp4")

A damaged or hostile file can crash the libraries in FFmpeg, hang them, or let them take all memory. In a box that is a
`MediaError` of that file; the worker is replaced, and the next file is read. What the worker sends is checked like any
stranger's data: it is JSON and raw rows, and bounded.
"""

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from avpea.errors import MediaError
from avpea.media._process import Ended, Worker
from avpea.media.info import SAMPLE_RATE_HZ
from avpea.media.limits import DEFAULT, Limits

__all__ = ["Box", "Pool", "boxed", "current", "limits_here", "open_for_good", "warm_up", "watched"]

Answer = TypeVar("Answer")
Watch = Callable[[float], bool]
STOPPED = "reading it was stopped."
ENDED = "the block of avpea.media.boxed in which it is read has ended; read it inside one."
WAIT_SECONDS = 0.2  # how often one that waits for a box is asked whether to go on
_WATCH: ContextVar[Watch | None] = ContextVar("avpea_media_watch", default=None)


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
        self._locks: dict[int, threading.Lock] = {}  # one for each process, as a fork may inherit one that is held
        self._closed = False

    @property
    def process_id(self) -> int | None:
        """Number of the worker's process; None while there is none."""
        return self._worker.process_id if self._worker is not None else None

    def start(self) -> None:
        """Start the worker, without waiting for it; if another thread uses the box now, that one starts it."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._closed:
                    self._started()
            finally:
                self._lock.release()

    @property
    def _lock(self) -> threading.Lock:
        """Held by the thread whose turn it is."""
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _started(self) -> Worker:
        """The worker, which is started if there is none; called by the thread whose turn it is."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            if self._worker is not None:
                self._worker.forget()
                self._worker = None
        if self._worker is not None and not self._worker.alive:
            self.close()
        if self._worker is None:
            self._worker = Worker(self.limits)
        return self._worker

    def end(self) -> None:
        """End the worker for good: none that is lent comes back, and nothing is read in this box any more."""
        self._closed = True
        self.close()

    def close(self, at_once: bool = True) -> None:
        """End the worker."""
        if self._worker is not None and self._owner == os.getpid():
            self._worker.end(at_once)
        self._worker = None

    @contextlib.contextmanager
    def lent(self) -> Iterator["Box"]:
        """A box with this one's worker, or a new one, for a job during which this box is used for others.

        The worker comes back at the end, unless this box has started another one.
        """
        own = Box(self.limits)
        with self._lock:
            if self._owner == os.getpid():
                own._worker, self._worker = self._worker, None
        try:
            yield own
        finally:
            with self._lock:
                if self._worker is None and self._owner == os.getpid() and not self._closed:
                    own._worker, self._worker = None, own._worker
            own.close()

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
            MediaError: The file cannot be decoded within the limits, or ended the worker; or the box has ended.
            AvpeaError: The worker does not start.
        """
        from avpea.media.receiving import Refused, received  # numpy, which opening a box does not need

        asked = {"job": job, "path": _absolute(path), "options": options}
        with self._lock:
            worker = self._started()
            if self._closed:  # looked at afterwards, since the box may end in another thread meanwhile
                self.close()
                raise MediaError(path, ENDED)
            worker.watch(_watching(frames, samples, options))
            try:
                worker.ask(asked)
                answer = received(worker, kind, self.limits, path, frames, samples)
            except Ended:
                reason = (
                    ENDED
                    if self._closed
                    else STOPPED
                    if worker.stopped
                    else _why(worker.code(), worker.overdue, self.limits)
                )
                self.close()
                raise MediaError(path, reason) from None
            except Refused as error:
                self._rest(worker, error.ends)
                raise error.reason from None
            except BaseException:  # Ctrl-C included: the worker is in the middle of something
                self.close()
                raise
            self._rest(worker)
            return answer

    def _rest(self, worker: Worker, ends: bool = False) -> None:
        """A job is done: what watched it must not end the worker in the next one."""
        worker.rest()
        if ends or worker.ended:  # it may have been ended just now
            self.close()


class Pool(Box):
    """Several boxes, for several threads at once; each file is read in one that is free.

    Args:
        limits: What a file may take.
        count: Number of boxes.
    """

    def __init__(self, limits: Limits, count: int) -> None:
        super().__init__(limits)
        self._boxes = [Box(limits) for _ in range(count)]
        self._free: queue.LifoQueue[Box] = queue.LifoQueue()
        for box in self._boxes:
            self._free.put(box)

    @property
    def process_ids(self) -> list[int]:
        """Numbers of the workers' processes, of those that there are."""
        return [box.process_id for box in self._boxes if box.process_id is not None]

    def start(self) -> None:
        """Start all workers, without waiting for them."""
        for box in self._boxes:
            box.start()

    @contextlib.contextmanager
    def lent(self) -> Iterator[Box]:
        """A box with a worker of its own."""
        own = Box(self.limits)
        try:
            yield own
        finally:
            own.close()

    def end(self) -> None:
        """End all workers for good."""
        for box in self._boxes:
            box.end()

    def close(self, at_once: bool = True) -> None:
        """End all workers."""
        for box in self._boxes:
            box.close(at_once)

    def run(
        self, job: str, kind: type[Answer], path: Path, frames: Any, samples: Any, options: dict[str, Any]
    ) -> Answer:
        """See `Box`."""
        watch = _WATCH.get()
        while True:
            try:
                box = self._free.get(timeout=WAIT_SECONDS)
                break
            except queue.Empty:
                if watch is not None and watch(0.0):
                    raise MediaError(path, STOPPED) from None
        try:
            return box.run(job, kind, path, frames, samples, options)
        finally:
            self._free.put(box)


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Watch what this thread reads in the block, where a worker decodes.

    Args:
        watch: Called now and then with the seconds that are decoded so far, in another thread; where it returns true,
            reading ends with a `MediaError`.
    """
    before = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(before)


@contextlib.contextmanager
def watched_too(unwanted: Callable[[], bool]) -> Iterator[None]:
    """End what this thread reads in the block when a function says so, beside whatever watches it already."""
    before = _WATCH.get()
    with watched(lambda seconds: unwanted() or (before is not None and before(seconds))):
        yield


def _watching(frames: Any, samples: Any, options: dict[str, Any]) -> Callable[[], bool] | None:
    """What a worker's process is watched by, if its reading is watched."""
    watch, rate = _WATCH.get(), options.get("rate_hz", SAMPLE_RATE_HZ)
    return None if watch is None else lambda: watch(max(float(len(frames)), len(samples) / rate))


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


class _Block:
    """A block in which files are decoded in a box, or in this process."""

    def __init__(self, box: Box | None) -> None:
        self.box = box


# The blocks that are open in this process. Those of several threads may end in any order, so each removes its own.
_blocks: list[_Block] = []
_BLOCK: ContextVar[_Block | None] = ContextVar("avpea_media_block", default=None)


def current() -> Box | None:
    """The box that is open here: this thread's innermost, else the last that another thread has opened."""
    blocks, own = tuple(_blocks), _BLOCK.get()
    if own in blocks:
        return own.box
    return blocks[-1].box if blocks else None


def limits_here() -> Limits | None:
    """The limits of the box that is open here, to open one like it in another process; None if none is open."""
    return None if (box := current()) is None else box.limits


def open_for_good(limits: Limits | None) -> None:
    """Open a box, or none, until this process ends: for processes that another one starts for such work."""
    _blocks[:] = [_Block(None if limits is None else Box(limits))]  # none of a parent's blocks, which a fork inherits


@contextlib.contextmanager
def boxed(limits: Limits | None = DEFAULT, workers: int = 1) -> Iterator[None]:
    """Decode in a worker process in this block; with None, in this process.

    Threads that have opened no block decode in the one that was opened last.

    Args:
        limits: What a file may take.
        workers: Number of processes; more than one are of use to several threads only.
    """
    box = None if limits is None else Pool(limits, workers) if workers > 1 else Box(limits)
    block, before = _Block(box), _BLOCK.get()
    _blocks.append(block)
    _BLOCK.set(block)
    try:
        yield
    finally:
        _BLOCK.set(before)
        with contextlib.suppress(ValueError):  # `open_for_good` has put another in its place
            _blocks.remove(block)
        if box is not None:
            box.end()


def warm_up() -> None:
    """Start the worker of the open box, if there is one, while something else is loaded."""
    if (box := current()) is not None:
        box.start()
