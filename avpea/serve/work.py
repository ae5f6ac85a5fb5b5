"""Work that takes longer than a moment: a bounded number waits, some are done at once, and each can be cancelled."""

import contextlib
import json
import math
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal

from avpea.media import watched
from avpea.serve.problems import Problem, problem_of

__all__ = ["Cancelled", "Piece", "State", "Work"]

State = Literal["queued", "running", "done", "failed", "cancelled"]
KEPT, KEPT_BYTES = 500, 256 << 20  # finished pieces whose results can be asked for, and all of these together
LONGEST_RETRY_SECONDS = 60


class Cancelled(Exception):
    """Nobody waits for the result any more."""


class Piece:
    """A piece of work.

    Args:
        kind: What is done, such as `localize`.
        function: Does it; is given the piece.
        deadline_seconds: After which it is given up, from when it begins.

    Attributes:
        id: What the API calls it.
        future: Its result.
        progress: What is done now (`decoding` or `window`), how much of it, and of how much.
        size: Bytes of its result, if that is JSON.
    """

    def __init__(self, kind: str, function: Callable[["Piece"], Any], deadline_seconds: float) -> None:
        self.id = secrets.token_urlsafe(12)
        self.kind, self._deadline_seconds, self.size = kind, deadline_seconds, 0
        self._function: Callable[[Piece], Any] | None = function
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()  # it is cancelled by `cancel` alone
        self.state: State = "queued"
        self.progress: tuple[str, float, float] | None = None
        self._cancelled = threading.Event()
        self._deadline = math.inf
        self.seconds = 0.0

    def result(self) -> Any:
        """The result, of a piece that is done; JSON is read."""
        found = self.future.result()
        return json.loads(found) if isinstance(found, bytes) else found

    def cancel(self) -> None:
        """Stop it, or do not begin."""
        self._cancelled.set()

    @property
    def unwanted(self) -> bool:
        """Whether to stop."""
        return self._cancelled.is_set() or time.monotonic() > self._deadline

    def require_wanted(self) -> None:
        """Stop if nobody waits for the result any more.

        Raises:
            Cancelled: It was cancelled.
            Problem: It takes too long.
        """
        if self._cancelled.is_set():
            raise Cancelled
        if time.monotonic() > self._deadline:
            raise Problem(
                504, f"It was given up after {self._deadline_seconds:.0f} s; send a shorter video.", "takes-too-long"
            )

    def tell(self, stage: str, done: float, of: float) -> None:
        """Tell what is done now, how much of it, and of how much."""
        self.progress = stage, done, of

    @contextlib.contextmanager
    def decoding(self, seconds: float) -> Iterator[None]:
        """Tell how much is decoded in the block of so many seconds, and stop it when nobody waits any more."""
        over = False

        def watch(done: float) -> bool:
            if not over:  # it is called in another thread
                self.tell("decoding", min(done, seconds), seconds)
            return self.unwanted

        self.tell("decoding", 0, seconds)
        with watched(watch):
            yield
        over = True

    def run(self) -> None:
        """Do it, once; the result, or the exception, is that of `future`."""
        begun, function = time.monotonic(), self._function
        assert function is not None
        self.state, self._deadline = "running", begun + self._deadline_seconds
        try:
            self.require_wanted()
            result = function(self)
        except BaseException as error:
            self._fail(error)
        else:
            self.state, self.size = "done", len(result) if isinstance(result, bytes) else 0
            self.future.set_result(result)
        finally:
            self._function = None  # a piece that is kept keeps neither the run nor the video that it was about
            self.seconds = time.monotonic() - begun

    def _fail(self, error: BaseException) -> None:
        why: BaseException = error
        try:
            self.require_wanted()  # a reading that was stopped fails with an error of its own
        except (Cancelled, Problem) as stopped:
            why = stopped
        kept = why if isinstance(why, Cancelled) else problem_of(why)  # which logs what is no problem
        kept.__traceback__ = kept.__cause__ = kept.__context__ = None  # whose frames have all that was decoded
        self.state = "cancelled" if isinstance(why, Cancelled) else "failed"
        self.future.set_exception(kept)


class Work:
    """Does pieces of work in threads.

    Args:
        threads: Pieces that are done at the same time.
        waiting: Pieces that may wait; one more is refused.
        deadline_seconds: After which a piece is given up.
    """

    def __init__(self, threads: int, waiting: int, deadline_seconds: float = 3600.0) -> None:
        self._threads, self._most, self._deadline_seconds = threads, waiting, deadline_seconds
        self._queue: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._kept: dict[str, Piece] = {}
        self._mean_seconds = 1.0
        self.waiting = self.running = self.refused = 0
        self._team = [threading.Thread(target=self._work, name=f"work-{i}", daemon=True) for i in range(threads)]
        for one in self._team:
            one.start()

    def submit(self, kind: str, function: Callable[[Piece], Any], keep: bool = False) -> Piece:
        """Begin a piece of work, or let it wait.

        Args:
            kind: What is done.
            function: Does it; is given the piece.
            keep: Whether it can be asked for by its id.

        Raises:
            Problem: Too many wait already.
        """
        piece = Piece(kind, function, self._deadline_seconds)
        with self._lock:
            if self.waiting + self.running >= self._threads + self._most:
                self.refused += 1
                seconds = math.ceil(self._mean_seconds * (self.waiting + 1) / self._threads)
                retry = max(1, min(seconds, LONGEST_RETRY_SECONDS))
                raise Problem(
                    503, f"{self.waiting} requests wait already; try again in {retry} s.", "busy",
                    {"Retry-After": str(retry)},
                )  # fmt: skip
            self.waiting += 1
            if keep:
                self._kept[piece.id] = piece
                self._drop()
        self._queue.put(piece)
        return piece

    def get(self, piece: str) -> Piece:
        """The piece with an id.

        Raises:
            Problem: There is none.
        """
        with self._lock:
            found = self._kept.get(piece)
        if found is None:
            raise Problem(404, f"There is no job '{piece[:60]}'; its result may have been dropped.", "no-such-job")
        return found

    def close(self) -> None:
        """Cancel what waits or runs, and end."""
        with self._lock:
            pieces = list(self._kept.values())
        for piece in pieces:
            piece.cancel()
        for _ in self._team:
            self._queue.put(None)
        for one in self._team:
            one.join(10)

    def _drop(self) -> None:
        """Drop the oldest results while they are too many, or too big together; the newest stays in any case."""
        finished = [one for one in self._kept.values() if one.state not in ("queued", "running")]
        size = sum(one.size for one in finished)
        for one in finished[:-1]:
            if len(self._kept) <= KEPT and size <= KEPT_BYTES:
                return
            size -= self._kept.pop(one.id).size

    def _work(self) -> None:
        while (piece := self._queue.get()) is not None:
            with self._lock:
                self.waiting -= 1
                self.running += 1
            try:
                piece.run()
            finally:
                with self._lock:
                    self.running -= 1
                    if piece.id in self._kept:
                        self._kept[piece.id] = self._kept.pop(piece.id)  # from the one that ended first to the last
                        self._drop()
                    if piece.state == "done":
                        self._mean_seconds += 0.2 * (piece.seconds - self._mean_seconds)
