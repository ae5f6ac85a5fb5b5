"""A worker process as its parent sees it: how it starts, what is said to it, and how it ends."""

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avpea.errors import AvpeaError
from avpea.media import wire
from avpea.media.limits import Limits, decoding
from avpea.threads import WATCHING

__all__ = ["Ended", "Worker"]

START_SECONDS = 120.0
PATIENCE = 4  # times the CPU time without progress that may pass by the clock: disks and networks can be slow
MOST_WORDS = 4000
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from avpea.media._worker import main; main()"


class Ended(Exception):
    """The worker ended before its answer."""


class Worker:
    """A worker process, and both ends of what is said to it."""

    def __init__(self, limits: Limits) -> None:
        root = str(Path(__file__).parents[2])
        paths = [path for path in sys.path if path]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        # Its own session or group: Ctrl-C is for the parent, which ends it.
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, json.dumps([*paths, *([root] if root not in paths else [])])],
            bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, env=environment,
            pipesize=2**20, **apart,
        )  # fmt: skip
        with contextlib.suppress(Ended):  # then the first job says why it does not start
            self._say({"limits": asdict(limits), "threads": decoding.video_threads(), "parent": os.getpid()})
        self._ready, self.overdue, self.stopped = False, False, False
        self._unwanted: Callable[[], bool] | None = None
        self._judging = threading.Lock()  # held from looking at a job to ending the process for it
        self._deadline = math.inf
        self._patience = limits.seconds * (PATIENCE if sys.platform != "win32" else 1)
        self._asked, self._over = threading.Event(), False
        threading.Thread(target=self._watch, name=WATCHING, daemon=True).start()

    @property
    def process_id(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def ended(self) -> bool:
        """Whether the process was ended because a job was overdue or not wanted any more."""
        return self.stopped or self.overdue

    def ask(self, asked: dict[str, Any]) -> None:
        """Send a job.

        Raises:
            AvpeaError: The process did not start.
            Ended: It ended since the last job.
        """
        self._asked.set()
        if not self._ready:
            self._deadline = time.monotonic() + START_SECONDS
            try:
                kind, _, _ = self.header()
                self._ready = kind == wire.READY
            except Ended:
                if self.stopped:
                    raise
                raise AvpeaError(self._why_not()) from None
        self._deadline = time.monotonic() + self._patience
        self._say(asked)

    def _say(self, value: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            line = memoryview(json.dumps(value, default=lambda one: one.item()).encode() + b"\n")
            while line:
                line = line[self._process.stdin.write(line) :]
        except OSError:
            raise Ended from None

    def header(self) -> tuple[bytes, int, int]:
        """The next message, without its body."""
        head = bytearray(wire.HEADER.size)
        self.fill(memoryview(head))
        kind, sink, count = wire.HEADER.unpack(head)
        return kind, sink, count

    def fill(self, place: memoryview) -> None:
        """Read into memory.

        Raises:
            Ended: The process ended before.
        """
        pipe = self._process.stdout
        assert pipe is not None
        while place:
            if self._ready:
                self._deadline = time.monotonic() + self._patience
            got = pipe.readinto(place)  # type: ignore[attr-defined]  # unbuffered
            if not got:
                raise Ended
            place = place[got:]
        if self._ready:
            self._deadline = math.inf  # what is done with the message is nothing that the process is late with

    def watch(self, unwanted: Callable[[], bool] | None) -> None:
        """Ask now and then during the next job whether nobody waits for it any more; then the process is ended."""
        self._unwanted = unwanted

    def rest(self) -> None:
        """The job is done; nothing is expected until the next."""
        with self._judging:
            self._unwanted = None
            self._asked.clear()
            self._deadline = math.inf

    def _watch(self) -> None:
        """End the process when nothing came for too long."""
        while not self._over:
            self._asked.wait()
            with self._judging:
                self.stopped = self._unwanted is not None and self._unwanted()
                self.overdue = time.monotonic() > self._deadline
                if self.ended:
                    self._process.kill()
                    return
            time.sleep(0.2)

    def code(self) -> int:
        """How the process ended; it is waited for."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(5)
        self._process.kill()
        return self._process.wait()

    def end(self, at_once: bool = True) -> None:
        """End the process and wait for it."""
        self._over = True
        self._asked.set()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if at_once:
            self._process.kill()
        self.code()
        self._words.close()

    def forget(self) -> None:
        """Leave the process to the one that started it: this one is a fork of that."""
        self._over = True
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.returncode = 0

    def _why_not(self) -> str:
        code = self.code()
        self._words.seek(0)
        lines = self._words.read()[-MOST_WORDS:].decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {code}"
        remedy = "--in-process (in Python avpea.media.boxed(None)) decodes without it"
        return f"The process that decodes media does not start ({last}); {remedy}."
