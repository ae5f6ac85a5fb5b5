"""Many independent jobs in a few processes, with a progress bar; survives a decoder that crashes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from avpea.errors import DataError
from avpea.media import Limits, limits_here, open_for_good
from avpea.progress import progress_bar
from avpea.stopping import SIGNALS

__all__ = ["run"]

Job = TypeVar("Job")
Result = TypeVar("Result")


def run(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    crashed: Callable[[Job], Result],
    title: str,
    progress: bool = True,
    few: int = 8,
) -> Iterator[tuple[Job, Result]]:
    """Call `function` on every job and yield each job with its result, in the order in which they finish.

    Args:
        function: A picklable function; its exceptions end the run.
        jobs: Picklable arguments of `function`.
        workers: Number of processes; 0 means this one.
        crashed: Result for a job whose process died (a crash inside a codec cannot be caught).
        title: Title of the progress bar.
        progress: Whether to show the bar on stderr.
        few: With fewer jobs than this, no process is started, as one that imports torch takes about 3 s.

    Raises:
        DataError: The processes cannot be started.
    """
    here = workers == 0 or len(jobs) < few
    results = ((job, function(job)) for job in jobs) if here else _in_processes(function, jobs, workers, crashed)
    with progress_bar(title, len(jobs), shown=progress and bool(jobs)) as advance:
        for job, result in results:
            advance()
            yield job, result


def _in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, crashed: Callable[[Job], Result]
) -> Iterator[tuple[Job, Result]]:
    left = dict(enumerate(jobs))
    while left:
        yield from _all_at_once(function, left, workers)
        if left:
            # One of the next jobs killed its process; run one at a time to find it.
            yield from _until_crash(function, left, crashed)


def _all_at_once(function: Callable[[Job], Result], left: dict[int, Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """Remove jobs from `left` as they finish; if a process dies, return early and leave the rest."""
    with _pool(min(workers, len(left)), function) as pool:
        try:
            indices = {pool.submit(function, job): index for index, job in left.items()}
        except BrokenProcessPool:
            return
        for future in as_completed(indices):
            try:
                result = future.result()
            except BrokenProcessPool:
                return
            yield left.pop(indices[future]), result


def _until_crash(
    function: Callable[[Job], Result], left: dict[int, Job], crashed: Callable[[Job], Result]
) -> Iterator[tuple[Job, Result]]:
    with _pool(1, function) as pool:
        for index in list(left):
            try:
                result = pool.submit(function, left[index]).result()
            except BrokenProcessPool:
                job = left.pop(index)
                yield job, crashed(job)
                return
            yield left.pop(index), result


@contextmanager
def _pool(workers: int, function: Callable[[Job], Result]) -> Iterator[ProcessPoolExecutor]:
    # `fork` would copy locks that are held by threads of torch or FFmpeg.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(limits_here(),))
    try:
        _require_started(pool, function)
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _require_started(pool: ProcessPoolExecutor, function: object) -> None:
    try:
        # A process that cannot import the function dies when it gets the first job, as if the job had crashed.
        pool.submit(callable, function).result()
    except BrokenProcessPool:
        raise DataError(
            "The processes that decode videos cannot be started; call from a script file that guards its "
            "start with `if __name__ == '__main__':`, or decode in this process with --data.workers 0."
        ) from None


def _start(limits: Limits | None) -> None:
    """Prepare a worker: one thread, a box if the parent has one; it leaves a terminal's signals to that."""
    import torch

    torch.set_num_threads(1)
    open_for_good(limits)
    for number in SIGNALS:
        if number != signal.SIGTERM:  # with which a pool ends its processes
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
