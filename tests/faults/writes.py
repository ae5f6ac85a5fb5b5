"""What is refused by the place that is written to: at each write of every command, in every way.

The system's calls that write (open to write, mkdir, rename, link, fsync) are counted in an undisturbed command. Then,
for one call after another, that call and all later ones fail, as on a disk that is full (ENOSPC), over quota (EDQUOT)
or read only (EROFS), or that call alone, as on a disk that fails (EIO). In the same way commands run on a real file
system that is too small (`tmpfs`, where this machine permits one) and under a real limit on the size of files
(RLIMIT_FSIZE). Afterwards the same command is run again, where all can be written. Figures, by kind of fault: how many
were made, how many ended the command with exit code 1, and how many it `went_on` from, as with a cache. Of all of them,
each must be 0:

- `tracebacks`: not a sentence that says the reason
- `other_exit_codes`: neither 1, nor 0 with the results of an undisturbed run
- `stray_files`: half files or temporary ones, after the fault or after the second run
- `other_results`: after the second run not, bit for bit, those of an undisturbed run
"""

import contextlib
import errno
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults.commands import COMMANDS, Place, State, Work, new_place, start, undisturbed, wait

SHORT, LONG = 24, 360  # of some 2,500, which would take hours
ERRORS = {"ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "EROFS": errno.EROFS, "EIO": errno.EIO}
PROMISED = ("tracebacks", "other_exit_codes", "stray_files", "other_results")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_LIMITS = (0, 200, 2_000, 20_000)  # bytes
_ROOMS = (0, 8, 32, 96, 160)  # KiB beyond what is there at the start


class Refusing:
    """Counts the calls that write below a folder, and refuses some of them; only for a process of its own."""

    def __init__(self, folder: str, first: int, number: int, once: bool) -> None:
        self.folder, self.first, self.number, self.once = folder, first, number, once
        self.calls = 0
        sys.addaudithook(self._hear)
        fsync = os.fsync

        def refusing(descriptor: int) -> None:
            self._call(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        os.fsync = refusing  # type: ignore[assignment]

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            self._call(arguments[0])
        elif event in ("os.rename", "os.link"):
            self._call(arguments[1])
        elif event == "os.mkdir" and not os.path.isdir(arguments[0]):
            self._call(arguments[0])

    def _call(self, path: Any) -> None:
        if isinstance(path, int) or not os.path.abspath(os.fsdecode(path)).startswith(self.folder):
            return
        self.calls += 1
        if self.calls == self.first or (self.calls > self.first > 0 and not self.once):
            raise OSError(self.number, os.strerror(self.number), os.fsdecode(path))


def run(long: bool, share: float = 1) -> dict[str, Any]:
    """Figures of `LONG` or `SHORT` faults, or a share of them, which are drawn at random."""
    with new_place() as place:
        return trials(place, round(share * (LONG if long else SHORT)))


def trials(place: Place, count: int, names: tuple[str, ...] = tuple(COMMANDS)) -> dict[str, Any]:
    """Figures of some faults of some commands."""
    calls: dict[str, int] = {}
    known: dict[str, State] = {}
    for name in names:
        calls[name] = _count(place, COMMANDS[name])
        known[name] = COMMANDS[name].state(place)
    cases = [
        (name, kind, value)
        for name in names
        for kind, values in (
            *((error, range(1, calls[name] + 1)) for error in ERRORS),
            ("RLIMIT_FSIZE", _LIMITS),
            *([("tmpfs", _ROOMS)] if _mounts() else []),
        )
        for value in values
    ]
    chosen = _drawn(cases, count)
    counts: Counter[str] = Counter(dict.fromkeys(PROMISED, 0))
    kinds: dict[str, Counter[str]] = {}
    faults = []
    for number, (name, kind, value) in enumerate(chosen):
        code, wrong = trial(place, COMMANDS[name], kind, value, known[name])
        outcome = "went_on" if code == 0 else "ended"
        kinds.setdefault(kind, Counter()).update(["made", outcome])
        counts.update(wrong.keys())
        faults += [f"{name}, {kind} {value}: {what}" for what in wrong.values()]
        print(f"{number + 1}/{len(chosen)} {name}, {kind} {value}: {outcome} {wrong or ''}", file=sys.stderr)
    return {
        "calls": calls,
        "possible": len(cases),
        "made": len(chosen),
        **{key: counts[key] for key in PROMISED},
        "kinds": {kind: dict(sorted(found.items())) for kind, found in sorted(kinds.items())},
        "faults": faults,
    }


def _drawn(cases: list[tuple[str, str, int]], count: int) -> list[tuple[str, str, int]]:
    """Some of the cases at random, none twice: as many of each kind, over all commands in turn, while there are any."""
    chance, kinds = random.Random(0), list(dict.fromkeys(kind for _, kind, _ in cases))
    names = list(dict.fromkeys(name for name, _, _ in cases))
    left: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for case in chance.sample(cases, len(cases)):
        left.setdefault(case[:2], []).append(case)
    # A diagonal walk: neighbours differ in kind and in command.
    turns = [
        (names[(shift + place) % len(names)], kind) for shift in range(len(names)) for place, kind in enumerate(kinds)
    ]
    drawn: list[tuple[str, str, int]] = []
    while len(drawn) < min(count, len(cases)):
        drawn += [left[turn].pop() for turn in turns if left.get(turn)][: count - len(drawn)]
    return sorted(drawn)


def trial(place: Place, work: Work, kind: str, value: int, wanted: State) -> tuple[int | None, dict[str, str]]:
    """Make one fault; returns the command's exit code, and what was wrong."""
    with _room(place, work, value) if kind == "tmpfs" else _begun(place, work):
        output = place.folder / "refused.txt"
        code = wait(start(_disturbed(place, work, kind, value), output), 300)
        said, wrong = output.read_text(errors="replace"), dict[str, str]()
        if "Traceback" in said or "Exception ignored" in said:
            wrong["tracebacks"] = said[-1500:]
        elif code == 1 and not any(os.strerror(number) in said for number in (*ERRORS.values(), errno.EFBIG)):
            wrong["tracebacks"] = f"does not say the reason: {said[-500:]}"
        if code not in (0, 1):
            wrong["other_exit_codes"] = f"exit code {code}: {said[-500:]}"
        there = [path.name for path in place.work.rglob("*")]
        if stray := [name for name in there if name.endswith(".tmp") or "lock" in name]:
            wrong["stray_files"] = f"{stray} after the fault"
        if code == 0 and kind != "tmpfs" and work.state(place).results != wanted.results and "cache" not in said:
            wrong["other_exit_codes"] = f"0, although its results are others: {said[-500:]}"
        if kind == "tmpfs":
            subprocess.run(["mount", "-o", "remount,size=64m", str(place.work)], check=True)
        try:
            undisturbed(place, work)
        except RuntimeError as error:
            return code, {**wrong, "other_results": f"cannot be run again: {error}"}
        found = work.state(place)
        if found.results != wanted.results:
            wrong["other_results"] = f"other results; it had said {said[-300:]!r}"
        if found.files != wanted.files:
            wrong["stray_files"] = f"files {sorted(set(found.files) ^ set(wanted.files))}"
    return code, wrong


def _disturbed(place: Place, work: Work, kind: str, value: int) -> Callable[[], int]:
    def call() -> int:
        if kind in ERRORS:
            Refusing(str(place.work), value, ERRORS[kind], once=kind == "EIO")
        elif kind == "RLIMIT_FSIZE":
            # What is told goes through another process, since the file that it goes to has the limit too.
            told = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
            assert told.stdin is not None
            for stream in (1, 2):
                os.dup2(told.stdin.fileno(), stream)
            sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
            told.stdin.close()
            resource.setrlimit(resource.RLIMIT_FSIZE, (value, resource.RLIM_INFINITY))
        try:
            return work.call(place)
        finally:
            if kind == "RLIMIT_FSIZE":
                sys.stdout.flush()
                sys.stderr.flush()
                for stream in (1, 2):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                told.wait()

    return call


def _count(place: Place, work: Work) -> int:
    """The calls of an undisturbed command."""
    work.begin(place)
    out = place.folder / "calls.txt"

    def call() -> int:
        counting = Refusing(str(place.work), 0, 0, once=True)
        code = work.call(place)
        out.write_text(str(counting.calls))
        return code

    output = place.folder / "counted.txt"
    if wait(start(call, output), 300) != 0:
        raise RuntimeError(output.read_text(errors="replace")[-3000:])
    return int(out.read_text())


@contextlib.contextmanager
def _begun(place: Place, work: Work) -> Iterator[None]:
    work.begin(place)
    yield


@contextlib.contextmanager
def _room(place: Place, work: Work, kibibytes: int) -> Iterator[None]:
    """The work folder on a file system of its own, with so much room beyond what is there at the start."""
    work.begin(place)
    aside = place.work.with_name("begun")
    place.work.rename(aside)
    blocks = sum(-(-path.stat().st_size // 4096) + 1 for path in (aside, *aside.rglob("*")))
    place.work.mkdir()
    room = 4 * blocks + max(kibibytes, 4)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}k", "none", str(place.work)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{aside}/.", str(place.work)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(place.work)], check=True)
        subprocess.run(["rm", "-rf", str(aside)], check=True)


def _mounts() -> bool:
    """Whether this user may mount a file system."""
    if os.geteuid() or not sys.platform.startswith("linux"):
        return False
    there = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    return there.returncode == 0
