"""Damaged media: thousands of mutants of sound files, each read as commands read it, in a box.

    files       mutants that were read
    answered    of them, those that give frames and sound
    refused     those that give a reason instead; `reasons` counts the kinds of these
    foreign     exceptions that are no error of avpea
    hangs       files of which one reading took more than 10 s of the worker's CPU time, or 40 s by the clock; each is
                read four times (`_read`)
    peak_mb     most memory of a worker; `over_1_gib` says whether it was more than 1 GiB
    deaths      mutants that ended their worker, by reason: crash, hang, memory, result. The harness, which stands for
                a command, goes on; without a box these may end it
    sound       the sound file that is read after each hundred mutants gave the same frames and sound each time

With AVPEA_FAULTS_KEEP=DIR the mutants that ended a worker are kept there, and an interrupted long run goes on.
"""

import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from avpea.errors import AvpeaError, MediaError
from avpea.media import Clip, Limits, boxed, probe, read, read_sound
from avpea.media.box import current
from tests.faults.mutate import SMALL, mutant, sources
from tests.media_factory import make_video

SEED = 16
EVERY = 100
DEATHS = {
    "crash": re.compile(r"the decoder crashed on it \((\w+)"),
    "hang": re.compile(r"makes no progress"),
    "memory": re.compile(r"takes more than \d+ MB|ended from outside"),
    "result": re.compile(r"frames and sound take more than"),
    "taken over": re.compile(r"nothing that avpea sends"),
}


def run(long: bool) -> dict[str, Any]:
    """Read a few hundred mutants, or 20,000."""
    keep = os.environ.get("AVPEA_FAULTS_KEEP")
    with tempfile.TemporaryDirectory() as folder, boxed(Limits()):
        tally = _Tally(Path(keep) if keep else None)
        files = sources(Path(folder))
        good = make_video(Path(folder) / "good.mp4", **SMALL)
        expected = _read(good)
        for number in range(tally.files, 20_000 if long else 400):
            data, kind = mutant(files, random.Random(f"{SEED}-{number}"))
            path = Path(folder) / "mutant"
            path.write_bytes(data)
            _try(path, data, f"{number}-{kind}", tally)
            if number % EVERY == EVERY - 1:
                tally.sound &= _same(_read(good), expected)
                tally.save()
        return {"sources": len(files), **tally.figures()}


class _Tally:
    """The counts, kept in a file if there is a folder for it."""

    def __init__(self, keep: Path | None) -> None:
        self.keep = keep
        self.files = self.answered = self.refused = self.hangs = 0
        self.sound, self.peak_mb, self.slowest, self.slowest_cpu = True, 0.0, 0.0, 0.0
        self.foreign: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            if (keep / "tally.json").exists():
                for name, value in json.loads((keep / "tally.json").read_text()).items():
                    setattr(self, name, Counter(value) if isinstance(value, dict) else value)

    def save(self) -> None:
        if self.keep is not None:
            values = {name: value for name, value in vars(self).items() if name != "keep"}
            (self.keep / "tally.json").write_text(json.dumps(values))

    def keep_file(self, name: str, data: bytes, reason: str) -> None:
        if self.keep is not None:
            (self.keep / name.replace(" ", "_")).write_bytes(data)
            with (self.keep / "deaths.txt").open("a") as file:
                file.write(f"{name}\t{reason}\n")

    def figures(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "answered": self.answered,
            "refused": self.refused,
            "foreign": dict(self.foreign),
            "hangs": self.hangs,
            "slowest_seconds": round(self.slowest, 1),
            "slowest_cpu_seconds": round(self.slowest_cpu, 1),
            "peak_mb": round(self.peak_mb),
            "over_1_gib": self.peak_mb > 1024,
            "deaths": dict(self.deaths),
            "sound": self.sound,
            "reasons": dict(self.reasons.most_common(20)),
        }


def _try(path: Path, data: bytes, name: str, tally: _Tally) -> None:
    reason, took = "", list[tuple[float, float]]()
    try:
        _read(path, took)
        tally.answered += 1
    except MediaError as error:
        reason = error.reason
        tally.refused += 1
        tally.reasons[_kind(reason)] += 1
    except AvpeaError as error:
        reason = str(error)
        tally.refused += 1
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        tally.foreign[type(error).__name__] += 1
        tally.keep_file(name, data, reason)
    tally.files += 1
    tally.peak_mb = max(tally.peak_mb, _worker_peak_mb())
    cpu, seconds = (max(each) for each in zip(*took, strict=True))
    tally.slowest_cpu, tally.slowest = max(tally.slowest_cpu, cpu), max(tally.slowest, seconds)
    if cpu > 10 or seconds > 40:
        tally.hangs += 1
        tally.keep_file(name, data, f"{cpu:.1f} s of CPU time, {seconds:.1f} s by the clock")
    if death := next((death for death, words in DEATHS.items() if words.search(reason)), ""):
        tally.deaths[death] += 1
        tally.keep_file(name, data, reason)


def _kind(reason: str) -> str:
    """A reason without its numbers."""
    return re.sub(r"[-\d.,]+", "N", reason.split(";")[0])[:90]


def _read(path: Path, took: list[tuple[float, float]] | None = None) -> tuple[Clip, Any]:
    """What commands do with a file: measure, read it whole, its sound at another rate, and one picture as it is.

    Args:
        path: The file.
        took: Gets the CPU time of the worker and the time by the clock of each of these, in seconds.
    """
    with _timed(took):
        info = probe(path)
    with _timed(took):
        clip = read(path, frame_size=(64, 64), missing_audio="silence", missing_video="black")
    with _timed(took):
        read(path, start_seconds=max(0.0, clip.duration_seconds / 2 - 0.5), segments=1, missing_audio="silence",
             missing_video="black")  # fmt: skip
    with _timed(took):
        return clip, (info, read_sound(path, 22_050, missing_audio="silence"))


@contextmanager
def _timed(took: list[tuple[float, float]] | None) -> Iterator[None]:
    cpu, clock = _worker_seconds(), time.monotonic()
    try:
        yield
    finally:
        if took is not None:
            took.append((_worker_seconds() - cpu, time.monotonic() - clock))


def _same(one: tuple[Clip, Any], other: tuple[Clip, Any]) -> bool:
    (clip, (info, sound)), (clip_2, (info_2, sound_2)) = one, other
    alike = torch.equal(clip.frames, clip_2.frames) and torch.equal(clip.waveform, clip_2.waveform)
    return alike and info == info_2 and torch.equal(sound, sound_2)


def _worker_seconds() -> float:
    """CPU time of all workers so far (Linux; elsewhere of those that ended)."""
    times = os.times()
    ended, here = times.children_user + times.children_system, _about("stat")
    if not here:
        return ended
    fields = here.rpartition(")")[2].split()
    return ended + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _worker_peak_mb() -> float:
    """Most memory of a worker so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    running = re.search(r"VmHWM:\s+(\d+)", _about("status"))
    return max(peak, int(running[1]) / 1024 if running else 0.0)


def _about(name: str) -> str:
    """A file of /proc about the worker that runs; empty without one."""
    box = current()
    number = box.process_id if box is not None else None
    path = Path(f"/proc/{number}/{name}")
    return path.read_text() if number is not None and path.exists() else ""
