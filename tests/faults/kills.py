"""Signals at random moments: whether the same command again ends as if nothing had happened.

For each moment a command is begun, gets a signal (SIGKILL, SIGTERM, SIGHUP, Ctrl-C once or twice), and is run again to
its end. Figures: `moments` tried and how many of them `hit` a command that was not done yet, by command and by signal;
and how many times something was not as promised, each of which must be 0:

- `other_results`: weights, metrics, records or rows are not, bit for bit, those of an undisturbed run
- `stray_files`: files that an undisturbed run does not leave
- `other_exit_codes`: not 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP (or 0 where it was done)
- `tracebacks`: after a signal that can be handled
- `hung`: not ended after a minute
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from typing import Any

from tests.faults.commands import COMMANDS, Place, State, Work, new_place, undisturbed, wait
from tests.faults.commands import run as begin

SHORT, LONG = 20, 200
SIGNALS: dict[str, tuple[int, ...]] = {
    "SIGKILL": (signal.SIGKILL,),
    "SIGTERM": (signal.SIGTERM,),
    "SIGHUP": (signal.SIGHUP,),
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
}
PROMISED = ("other_results", "stray_files", "other_exit_codes", "tracebacks", "hung")


def run(long: bool, share: float = 1) -> dict[str, Any]:
    """Figures of `LONG` or `SHORT` moments, or a share of them."""
    with new_place() as place:
        return trials(place, round(share * (LONG if long else SHORT)), seed=0)


def trials(place: Place, moments: int, seed: int, names: tuple[str, ...] = tuple(COMMANDS)) -> dict[str, Any]:
    """Figures of some moments, drawn with a seed, over some commands in turn."""
    chance, known = random.Random(seed), {}
    counts: Counter[str] = Counter(dict.fromkeys(PROMISED, 0))
    tried: dict[str, Counter[str]] = {"commands": Counter(), "signals": Counter()}
    faults: list[str] = []
    for number in range(moments):
        name, kind = names[number % len(names)], list(SIGNALS)[(number // len(names) + number) % len(SIGNALS)]
        if name not in known:
            known[name] = reference(place, COMMANDS[name])
        seconds, wanted = known[name]
        at = chance.uniform(0, 1.02 * seconds)
        hit, wrong = trial(place, COMMANDS[name], kind, at, chance.uniform(0.001, 0.2), wanted)
        counts["hit"] += hit
        counts.update(wrong.keys())
        tried["commands"][name] += 1
        tried["signals"][kind] += 1
        faults += [f"{name}, {kind} after {at:.2f} of {seconds:.2f} s: {what}" for what in wrong.values()]
        print(f"{number + 1}/{moments} {name}, {kind}, {at:.2f} s{' hit' * hit} {wrong or ''}", file=sys.stderr)
    return {
        "moments": moments,
        **{key: counts[key] for key in ("hit", *PROMISED)},
        **{key: dict(sorted(found.items())) for key, found in tried.items()},
        "faults": faults,
    }


def reference(place: Place, work: Work) -> tuple[float, State]:
    """How long a command takes undisturbed, and what it leaves."""
    work.begin(place)
    began = time.monotonic()
    undisturbed(place, work)
    return time.monotonic() - began, work.state(place)


def trial(place: Place, work: Work, kind: str, at: float, after: float, wanted: State) -> tuple[bool, dict[str, str]]:
    """Disturb a command, and run it again; returns whether it was hit before its end, and what was wrong."""
    work.begin(place)
    output = place.folder / "disturbed.txt"
    process, wrong, code = begin(place, work, output), dict[str, str](), None
    for pause, number in zip((at, after), SIGNALS[kind], strict=False):
        code = wait(process, pause)
        if code is not None:
            break
        os.kill(process, number)
    if code is None and (code := wait(process, 60)) is None:
        os.kill(process, signal.SIGKILL)
        wait(process, 60)
        wrong["hung"] = "did not end"
    first = SIGNALS[kind][0]
    said = output.read_text(errors="replace")
    ended = -first if first == signal.SIGKILL else 128 + first
    early = -first  # before the command has begun to handle signals
    if code not in (0, ended, early, None):
        wrong["other_exit_codes"] = f"exit code {code}, {said[-300:]!r}"
    if "Traceback" in said:
        wrong["tracebacks"] = said[-1500:]
    try:
        undisturbed(place, work)
    except RuntimeError as error:
        return code != 0, {**wrong, "other_results": f"cannot be run again: {error}"}
    found = work.state(place)
    if found.results != wanted.results:
        wrong["other_results"] = f"other results in {_differ(found.results, wanted.results)}"
    if found.files != wanted.files:
        wrong["stray_files"] = f"files {sorted(set(found.files) ^ set(wanted.files))}"
    return code != 0, wrong


def _differ(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
