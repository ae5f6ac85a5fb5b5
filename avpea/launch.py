"""Starting a command in several processes of this machine, as `torchrun` does, and ending them together."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avpea.distributed import OthersEnded, launched
from avpea.errors import AvpeaError, ExperimentError
from avpea.progress import note
from avpea.stopping import end_with, from_terminal, handled
from avpea.threads import usable_cores

__all__ = ["ends_with_parent", "launch", "reported"]

_PARENT = "AVPEA_LAUNCHER"  # process number of the launcher
_ERRORS = "AVPEA_ERRORS"  # folder for the errors of the processes other than the first
_MOST_ON_A_CORE = 8
_GRACE_SECONDS = 10.0  # for the others to end by themselves, and again after they were told to


def launch(words: Sequence[str], processes: int) -> int:
    """Run `avpea WORDS` in several processes, and return the exit code: that of the first one that failed.

    If one fails, the others are ended within 20 seconds. Ctrl-C reaches all of them, as they share the terminal;
    SIGTERM and SIGHUP are passed on.

    Args:
        words: Arguments of the command.
        processes: Number of processes.

    Raises:
        ExperimentError: There are too few cores for so many.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if processes > (most := _MOST_ON_A_CORE * usable_cores()):
        raise ExperimentError(
            f"train.devices is {processes}, but there are {usable_cores()} cores here, on which so many would "
            f"mostly wait for each other; expected at most {most}."
        )

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with TemporaryDirectory(prefix="avpea-") as errors:
        shared = {
            **os.environ,
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is this process's
            _PARENT: str(os.getpid()),
            _ERRORS: errors,
        }
        shared.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
        started: list[subprocess.Popen[bytes]] = []
        with _passed_on(started):
            for rank in range(processes):
                own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                command = [sys.executable, "-m", "avpea", *words]
                started.append(subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL))
            first = _ended(started)
        return 0 if first is None else _told([process.wait() for process in started], first, Path(errors))


@contextlib.contextmanager
def _passed_on(started: Sequence["subprocess.Popen[bytes]"]) -> Iterator[None]:
    """Pass requests to end on to the processes, but for Ctrl-C in a terminal, which they get from it, too."""

    def handle(number: int, _: Any) -> None:
        for process in () if from_terminal(number) else started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    with handled(handle):
        yield


def _ended(started: Sequence["subprocess.Popen[bytes]"]) -> int | None:
    """Wait for all, and end the others once one has failed; the rank of the one that failed first, if any has."""
    since, first = 0.0, None
    while True:
        running, now = [process.poll() is None for process in started], time.monotonic()
        if first is None:
            since, first = now, next((rank for rank, process in enumerate(started) if process.returncode), None)
        if not any(running):
            return first
        waited = 0.0 if first is None else now - since
        if waited > 2 * _GRACE_SECONDS:
            _each(started, "kill")
        elif waited > _GRACE_SECONDS:
            _each(started, "terminate")
        time.sleep(0.05)


def _each(started: Sequence["subprocess.Popen[bytes]"], method: str) -> None:
    for process in started:
        if process.poll() is None:
            getattr(process, method)()


def _told(codes: Sequence[int], first: int, errors: Path) -> int:
    """Say why the processes ended, unless process 0 has said it; the exit code. `first` failed before the others."""
    ended = {rank: code for rank, code in enumerate(codes) if code}
    said = {rank: (errors / str(rank)).read_text("utf-8") for rank in ended if (errors / str(rank)).is_file()}
    if codes[first] < 0 and not said:
        note(
            f"process {first} of {len(codes)} was ended by {signal.Signals(-codes[first]).name}, and the others were "
            "stopped; the same command resumes from the last saved state."
        )
        return 128 - codes[first]
    if said and 0 not in said:
        rank = min(said)
        note(f"process {rank} of {len(codes)}: {said[rank]}")
    return codes[min(said, default=first)]


def reported(error: AvpeaError) -> bool:
    """In a process that `launch` started: leave an error for it; whether it is the launcher that tells it."""
    folder = os.environ.get(_ERRORS)
    if not folder:
        return False
    if isinstance(error, OthersEnded):
        return True
    here = launched()
    with contextlib.suppress(OSError):
        (Path(folder) / str(here.rank)).write_text(str(error), encoding="utf-8")
        return not here.first
    return False


def ends_with_parent() -> None:
    """In a process that `launch` or torchrun started: end, as if asked to, when the launcher is gone."""
    under_torchrun = str(os.getppid()) if "TORCHELASTIC_RUN_ID" in os.environ else None
    parent = os.environ.get(_PARENT, under_torchrun)
    if parent is not None:
        end_with(int(parent))
