"""A clock that is wrong, or jumps: nothing waits by it, and no file is told old or new by it."""

import ast
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avpea.data.cache import SampleCache
from avpea.errors import InUseError
from avpea.files import remove_leftovers
from avpea.labels import Sample
from avpea.locks import LOCK_FILE, locked
from avpea.media import probe
from tests.media_factory import make_video
from tests.tiny import section

ROOT = Path(__file__).parents[1] / "avpea"
# What tells a person or another program the date.
DATES = {
    *("locks.py", "formats/_write.py", "trackers/_mlflow.py", "trackers/_tensorboard.py", "serve/review.py"),
}
# Nanoseconds since 1970: the year 2200, 1970 itself, 1965, and a second later than it.
TIMES = {
    "future": 7_258_118_400_000_000_000,
    "1970": 0,
    "before 1970": -157_766_400_000_000_000,
    "1970, and a bit": 1_700_000_000,
}


def asked_for_the_date(tree: ast.AST) -> bool:
    """Whether a module reads the clock on the wall: `time.time` and its kin, or `datetime.now` and its kin."""
    found = {
        (n.value.id, n.attr) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "time" for a in n.names}
    dates = {("time", "time"), ("time", "time_ns"), ("time", "localtime"), ("datetime", "now"), ("date", "today")}
    return bool(found & dates) or bool(names & {"time", "time_ns", "localtime"})


def test_only_what_tells_the_date_reads_the_clock_on_the_wall() -> None:
    reading = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if asked_for_the_date(ast.parse(path.read_text("utf-8")))
    }
    assert reading <= DATES


def set_time(path: Path, nanoseconds: int) -> None:
    os.utime(path, ns=(nanoseconds, nanoseconds))
    assert path.stat().st_mtime_ns == nanoseconds


@pytest.mark.parametrize("when", TIMES.values(), ids=TIMES)
def test_a_video_of_any_time_is_decoded_once(tmp_path: Path, when: int) -> None:
    video = make_video(tmp_path / "v.mp4", seconds=1, size=(32, 32), fps=4)
    set_time(video, when)
    sample = Sample(key="v", video_id="v", video=video, start_seconds=0.0, segments=1, split="train")
    config = section("data", name="ave", root=str(tmp_path), cache=str(tmp_path / "cache"), workers=0)
    cache = SampleCache(config, section("audio", mel_bins=16), 24)
    assert cache.fill([sample], progress=False).decoded == 1
    entry = cache.path(sample)
    for other in TIMES.values():
        set_time(entry, other)
        assert cache.fill([sample], progress=False).decoded == 0
    set_time(video, when + 1_000_000_000)  # an older or newer one is another video
    assert cache.path(sample) != entry
    assert probe(video).has_video


def lock_and_leave(folder: Path) -> None:
    with locked(folder, "is being trained"):
        pass


@pytest.mark.parametrize("when", TIMES.values(), ids=TIMES)
def test_neither_a_lock_nor_a_leftover_is_told_by_its_time(tmp_path: Path, when: int) -> None:
    lock, leftover = tmp_path / LOCK_FILE, tmp_path / ".model.abc.tmp"
    for path in (lock, leftover):  # of a process that was killed
        path.write_text("{}")
        set_time(path, when)
    remove_leftovers(tmp_path)
    assert not leftover.exists()
    with locked(tmp_path, "is being trained"):
        set_time(lock, when)
        with ThreadPoolExecutor(1) as other:
            held = other.submit(lock_and_leave, tmp_path)
            with pytest.raises(InUseError, match="is being trained by process"):
                held.result(60)
    assert not lock.exists()


def test_a_wait_ends_although_the_clock_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding in a box has bounds on time; a clock that is set back, or years ahead, is no progress and no hang."""
    from avpea.media import Limits, boxed, read

    video = make_video(tmp_path / "v.mp4", seconds=1, size=(32, 32), fps=4)
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: (-1) ** next(jumps) * 1e9)
    with boxed(Limits(seconds=2)):
        assert len(read(video, frame_size=(8, 8)).frames) > 0
