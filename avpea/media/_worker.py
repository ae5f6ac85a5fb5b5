"""The process that decodes: it reads jobs from its input, and writes what it decodes to its output.

It may be taken over by what it reads, so it gets bounds that it cannot raise, and what it writes is checked.
"""

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avpea.errors import MediaError
from avpea.media import wire
from avpea.media.growing import Array
from avpea.media.jobs import JOBS, answered
from avpea.media.limits import Limits, decoding

__all__ = ["main"]

PIXEL_BYTES = 6  # of three channels with 16 bits, the most that is common
SPARE_BYTES = 2**25  # for the stack of a thread, and what is allocated together
TELL_SECONDS = 0.2  # how often progress is told
LOOK_SECONDS = 2.0  # how often to look whether the parent is still there
PATIENT_PACKETS = 1_000_000  # that say neither where they are in the file nor when


def main() -> None:
    """Do jobs until the input ends, which it does with the parent."""
    config = json.loads(_line())
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints is no message
    decoding.limits, decoding.threads, decoding.boxed = Limits(**config["limits"]), config["threads"], True
    progress = _Progress(out)
    decoding.progressed = progress.packet
    decoding.is_short = _bound(decoding.limits)
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(jobs, config["parent"]), daemon=True).start()
    _send(out, wire.READY)
    while True:
        _do(jobs.get(), out, progress)


def _do(asked: dict[str, Any], out: int, progress: "_Progress") -> None:
    path, job = Path(asked["path"]), JOBS[asked["job"]]
    frames, samples = (_Sent(out, sink, progress) for sink in (wire.FRAMES, wire.SAMPLES))
    progress.begin()
    try:
        with answered(path):
            answer = job.run(path, frames, samples, **asked["options"])
    except MediaError as error:
        ends = isinstance(error.__cause__, MemoryError)  # what is left of its memory is in pieces
        body = json.dumps([type(error).__name__, error.reason]).encode()
        _send(out, wire.ERROR, int(ends), len(body), body)
        return
    body = json.dumps(asdict(answer)).encode()
    _send(out, wire.ANSWER, 0, len(body), body)


class _Sent:
    """Rows that go to the parent at once, so that this process keeps none."""

    def __init__(self, out: int, sink: int, progress: "_Progress") -> None:
        self._out, self._sink, self._progress = out, sink, progress
        self._count, self._shape = 0, ()

    def __len__(self) -> int:
        return self._count

    def append(self, rows: Array) -> None:
        if not rows.size:
            return
        shape = rows.shape[1:]
        if shape != self._shape:
            self._shape, body = shape, json.dumps(shape).encode()
            _send(self._out, wire.SHAPE, self._sink, len(body), body)
        _send(self._out, wire.ROWS, self._sink, len(rows), np.ascontiguousarray(rows).data.cast("B"))
        self._count += len(rows)
        self._progress.advanced()

    def repeat(self, count: int) -> None:
        _send(self._out, wire.REPEAT, self._sink, count)
        self._count += count
        self._progress.advanced()

    def clear(self) -> None:
        _send(self._out, wire.CLEAR, self._sink)
        self._count, self._shape = 0, ()


class _Progress:
    """Tells the parent of progress, and moves the bound on this process's CPU time with it.

    Progress is a packet from a place in the file that lies behind all earlier ones of its track, or a row of the
    result: a damaged index can lead in circles for ever.
    """

    def __init__(self, out: int) -> None:
        self._out = out
        self.begin()

    def begin(self) -> None:
        """A new job begins."""
        self._furthest: dict[tuple[int, bool], int] = {}
        self._nowhere = 0
        self._told = time.monotonic()
        _allow_cpu(decoding.limits.seconds)

    def packet(self, packet: Any) -> None:
        """A packet was read."""
        if not packet.size:
            self._furthest.clear()  # the end of a pass over the file; the next one begins
            return
        somewhere = packet.pos is not None and packet.pos >= 0
        place, key = packet.pos if somewhere else packet.dts, (packet.stream_index, somewhere)
        if place is None:
            self._nowhere += 1
            if self._nowhere < PATIENT_PACKETS:
                self.advanced()
        elif place > self._furthest.get(key, -(2**63) - 1):
            self._furthest[key] = place
            self.advanced()

    def advanced(self) -> None:
        """There was progress."""
        if time.monotonic() - self._told >= TELL_SECONDS:
            _allow_cpu(decoding.limits.seconds)
            _send(self._out, wire.ALIVE)
            self._told = time.monotonic()


def _bound(limits: Limits) -> Callable[[int], bool]:
    """Bound memory, and forbid to write files, where the system can (not on Windows; memory only on Linux).

    Returns:
        A function that says whether there is little memory left for a picture of some pixels.
    """
    try:
        import resource
    except ImportError:
        return lambda pixels: False
    for name in ("RLIMIT_CORE", "RLIMIT_FSIZE"):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (0, 0))
    about, page = Path("/proc/self/statm"), resource.getpagesize()
    if not about.exists():
        return lambda pixels: False
    most = int(about.read_text().split()[0]) * page + limits.memory_mb * 2**20
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def is_short(pixels: int) -> bool:
        now = int(about.read_text().split()[0]) * page
        return now + PIXEL_BYTES * pixels + SPARE_BYTES > most

    return is_short


def _allow_cpu(seconds: int) -> None:
    """Let the system end this process after some more seconds of CPU time."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1 + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _send(out: int, kind: bytes, sink: int = 0, count: int = 0, body: bytes | memoryview = b"") -> None:
    try:
        for part in (wire.HEADER.pack(kind, sink, count), body):
            left = memoryview(part)
            while left:
                left = left[os.write(out, left) :]
    except OSError:  # nobody listens any more
        os._exit(1)


def _listen(jobs: "queue.Queue[dict[str, Any]]", parent: int) -> None:
    """Read jobs; end this process when the parent ends, also in the middle of a job."""
    try:
        while True:
            jobs.put(json.loads(_line(parent)))
    except (ValueError, OSError):
        os._exit(0)


def _line(parent: int = 0) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if sys.platform != "win32":
            import select

            while not select.select([0], [], [], LOOK_SECONDS)[0]:
                if parent and os.getppid() != parent:  # another process holds the other end of the pipe open
                    os._exit(0)
        if not (more := os.read(0, 2**16)):
            os._exit(0)
        line += more
    return line
