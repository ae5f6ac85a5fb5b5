"""Commands on tiny data that can be run many times, each in a process of its own that need not import anything.

The parent imports everything once and computes nothing; each command runs in a fork of it, so that it begins at once.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.tiny import tiny_options, write_captions, write_tiny

__all__ = ["COMMANDS", "Place", "State", "Work", "in_child", "start"]

_IMPORTED = (
    *("avpea.cli", "avpea.calibrate", "avpea.compare.grid", "avpea.report", "avpea.official"),
    *("avpea.serve.exports", "avpea.serve.review"),
    *("tensorboard.summary.writer.record_writer", "tokenizers"),
)
_TIMES = ("seconds", "waited_seconds", "train_minutes", "modified", "date", "changed")


class Place:
    """A folder with tiny data, recipes and finished runs, in which each command has a state to begin from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "work"
        os.environ |= {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_CACHE_HOME": str(folder / "home")}
        os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        in_child(self._make, folder / "made.txt")
        for name in _IMPORTED:
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(name)

    def _make(self) -> None:
        from avpea.cli import main
        from avpea.experiment import Experiment

        folder = self.folder
        data = write_tiny(folder / "data")
        values = tiny_options(data, folder / "cache")
        values["train"]["epochs"] = 2
        values["train"]["checkpoint_minutes"] = 1e-6  # the state is saved after every step
        (folder / "tiny.yaml").write_text(Experiment.from_dict(values).to_yaml())
        rows = {
            "none": {"recipe": str(folder / "tiny.yaml"), "adapter": {"streams": "none"}, "train": {"epochs": 1}},
            "AV-PEA": {"recipe": str(folder / "tiny.yaml"), "train": {"epochs": 1}},
        }
        grid = {"title": "grid", "seeds": [0], "rows": rows, "reference": "none"}
        (folder / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
        assert main(["train", str(folder / "tiny.yaml"), "--run", str(folder / "tiny-run"), "--quiet"]) == 0
        assert main(["evaluate", str(folder / "tiny-run"), "--quiet"]) == 0

    def make_found(self) -> None:
        """Train a run of retrieval, unless there is one; its words are those of the wheel with MiniLM."""
        folder = self.folder
        if not (folder / "found-run").exists():
            in_child(self._make_found, folder / "found.txt")

    def _make_found(self) -> None:
        from avpea.experiment import Experiment
        from avpea.train import train

        folder = self.folder
        values = tiny_options(write_captions(folder / "captions", folder / "data"), folder / "cache")
        values["data"]["name"] = "valor32k"
        head = {"name": "matcher", "groups": ["tva", "tv", "ta"], "text": {"name": "tiny", "length": 24}}
        train(Experiment.from_dict({**values, "task": "avr", "head": head}), folder / "found-run", progress=False)


@dataclass(frozen=True)
class State:
    """What a command left: its results by name, and all files."""

    results: dict[str, Any]
    files: list[str]


@dataclass(frozen=True)
class Work:
    """A command, or other work of a process.

    Attributes:
        call: Does it, and returns the exit code; in a process of its own.
        results: What it has made, in plain values without times.
        begins: Copies what it begins from into the work folder.
        ignored: Parts of paths that are another program's own and differ from run to run.
    """

    call: Callable[[Place], int]
    results: Callable[[Path], Mapping[str, Any]]
    begins: Callable[[Place], object] = lambda place: None
    ignored: tuple[str, ...] = ()

    def begin(self, place: Place) -> None:
        """Make the work folder as it is before the command."""
        shutil.rmtree(place.work, ignore_errors=True)
        place.work.mkdir(parents=True)
        self.begins(place)

    def state(self, place: Place) -> State:
        """What there is now; computed in a process of its own."""
        out = place.folder / "state.json"

        def look() -> None:
            out.write_text(json.dumps(timeless(self.results(place.work)), sort_keys=True))

        in_child(look, place.folder / "look.txt")
        files = [path.relative_to(place.work).as_posix() for path in place.work.rglob("*") if not path.is_dir()]
        kept = sorted(name for name in files if not any(part in name for part in self.ignored))
        return State(json.loads(out.read_text()), kept)


def timeless(value: Any) -> Any:
    """The value without times."""
    if isinstance(value, Mapping):
        return {key: timeless(one) for key, one in value.items() if key not in _TIMES}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def in_child(action: Callable[[], Any], output: Path) -> None:
    """Do something in a fork, and wait for it.

    Raises:
        RuntimeError: It failed; with what it wrote.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(start(action, output), 0)[1])
    if code:
        raise RuntimeError(f"exit code {code}: {output.read_text(errors='replace')[-3000:]}")


def start(action: Callable[[], Any], output: Path) -> int:
    """Begin something in a fork; returns the process, whose exit code is what the action returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        # A test runner may have replaced the streams.
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
        code = int(action() or 0)
    except KeyboardInterrupt:
        code = 130
        _tell()
    except BaseException:
        _tell()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _tell() -> None:
    import traceback

    traceback.print_exc()


def wait(process: int, seconds: float) -> int | None:
    """The exit code of a process, negative for a signal; None if it does not end in that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _tensors(path: Path) -> str:
    from avpea.tensors import digest_of, read_tensors

    return digest_of(read_tensors(path).tensors)


def _of_entries(folder: Path) -> dict[str, str]:
    return {path.name: _tensors(path) for path in sorted(folder.rglob("*.safetensors"))}


def _of_run(run: Path) -> dict[str, Any]:
    from avpea.checkpoint import MODEL_FILE, STATE_FILE, read_info, read_position

    info = read_info(run)
    return {
        "model": _tensors(run / MODEL_FILE),
        "state": _tensors(run / STATE_FILE),
        "position": read_position(run / STATE_FILE),
        "results": info.results,
        "calibration": info.calibration and info.calibration.to_dict(),
        "metrics": _lines(run / "metrics.jsonl"),
        "data": json.loads((run / "data.json").read_text()),
    }


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _of_evaluation(run: Path) -> dict[str, Any]:
    found = json.loads((run / "evaluation-val.json").read_text())
    return {"evaluation": found, "predictions": _lines(run / "predictions-val.jsonl"), **_of_run(run)}


def _of_grid(work: Path) -> dict[str, Any]:
    found = {path.stem: json.loads(path.read_text()) for path in sorted((work / "out").glob("*.json"))}
    for one in found.values():
        one.pop("environment")
    return {"results": found, "runs": {run.name: _of_run(run) for run in sorted((work / "runs").iterdir())}}


def _of_library(work: Path) -> dict[str, Any]:
    import lancedb

    rows = lancedb.connect(str(work / "library")).open_table("windows").search().limit(10_000).to_list()
    shown = sorted(hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest() for row in rows)
    return {"rows": shown, "count": len({row["id"] for row in rows})}


def _of_answers(work: Path) -> dict[str, Any]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((work / "answers").rglob("*"))}


def _of_packing(work: Path) -> dict[str, Any]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((work / "answers").iterdir())}


def _copied(*names: str) -> Callable[[Place], None]:
    def copy(place: Place) -> None:
        for name in names:
            shutil.copytree(place.folder / name, place.work / name)

    return copy


def _avpea(arguments: Callable[[Place], list[str]]) -> Callable[[Place], int]:
    """The command line with some arguments."""

    def call(place: Place) -> int:
        from avpea.cli import main

        return main(arguments(place))

    return call


_VIDEOS = ("0" * 32, "1" * 32)
_EDITS = 12  # of each video


def _log_of(place: Place) -> Path:
    """What a person's browser knows: a character for each edit that was answered."""
    return place.folder / "answered.txt"


def _correct(place: Place) -> int:
    """Correct two videos edit by edit, as `avpea serve` does, from what is stored; then write their manifest."""
    from avpea.errors import AvpeaError
    from avpea.formats import Stretch
    from avpea.serve.exports import Reviewed, save_manifest
    from avpea.serve.review import Reviews
    from avpea.stopping import Stopped, stoppable

    reviews, log = Reviews(place.work / "reviews"), _log_of(place)
    try:
        with stoppable():
            known = {key: reviews.get(key, f"{key[0]}.mp4") for key in _VIDEOS}
            stored, answered = sum(one.revision for one in known.values()), len(log.read_text())
            assert stored >= answered, f"{answered} edits were answered, and {stored} are stored"
            for number in range(_EDITS):
                for key in _VIDEOS:
                    event = Stretch(float(number), number + 1.0, f"event {number}")
                    if known[key].revision == number:
                        known[key] = reviews.put(key, known[key].name, [*known[key].events, event], number)
                        with log.open("a") as file:
                            file.write(".")
                    reviews.note_unsure(key, "run", 1 / (number + 1))
            save_manifest(place.work, [Reviewed(one.name, list(one.events)) for one in known.values()])
    except Stopped as stopped:
        return 128 + stopped.number
    except AvpeaError as error:
        print(error)
        return 1
    return 0


def _of_reviews(work: Path) -> dict[str, Any]:
    """The manifest and the reviews, but not how unsure a run is, which is found out again."""
    manifests = {path.name: path.read_text() for path in work.iterdir() if path.is_file()}
    stored = [path for path in (work / "reviews").glob("*.json") if not path.name.endswith(".unsure.json")]
    return manifests | {path.name: json.loads(path.read_text()) for path in stored}


def _train(place: Place, *more: str) -> list[str]:
    return ["train", str(place.folder / "tiny.yaml"), "--run", str(place.work / "run"), "--quiet", *more]


COMMANDS: dict[str, Work] = {
    "fill the cache": Work(
        _avpea(lambda place: [
            "data", "stats", str(place.folder / "tiny.yaml"), "--data.cache", str(place.work / "cache")
        ]),
        _of_entries,
    ),
    "train": Work(_avpea(_train), lambda work: _of_run(work / "run")),
    "train and fill the cache": Work(
        _avpea(lambda place: _train(place, "--data.cache", str(place.work / "cache"))),
        lambda work: {**_of_run(work / "run"), "cache": _of_entries(work / "cache")},
    ),
    "extend": Work(
        _avpea(lambda place: [
            "train", str(place.folder / "tiny.yaml"), "--run", str(place.work / "tiny-run"), "--extend", "1", "--quiet"
        ]),
        lambda work: _of_run(work / "tiny-run"),
        _copied("tiny-run"),
    ),
    "calibrate": Work(
        _avpea(lambda place: ["calibrate", str(place.work / "tiny-run"), "--quiet"]),
        lambda work: _of_run(work / "tiny-run"),
        _copied("tiny-run"),
    ),
    "evaluate": Work(
        _avpea(lambda place: ["evaluate", str(place.work / "tiny-run"), "--split", "val", "--quiet"]),
        lambda work: _of_evaluation(work / "tiny-run"),
        _copied("tiny-run"),
    ),
    "predict": Work(
        _avpea(lambda place: [
            *("predict", str(place.folder / "tiny-run"), str(place.folder / "data" / "AVE"), "--quiet"),
            *("--csv", str(place.work / "answers" / "events.csv"), "--format", "srt", "--format", "csv"),
            *("--out", str(place.work / "answers"), "--overwrite"),
        ]),
        _of_answers,
    ),
    "compare": Work(
        _avpea(lambda place: [
            *("compare", str(place.folder / "grid.yaml"), "--runs", str(place.work / "runs")),
            *("--out", str(place.work / "out"), "--no-cost", "--quiet"),
        ]),
        _of_grid,
    ),
    "predict into one file": Work(
        _avpea(lambda place: [
            *("predict", str(place.folder / "tiny-run"), str(place.folder / "data" / "AVE"), "--quiet"),
            *("--out", str(place.work / "answers" / "all.jsonl")),
        ]),
        _of_answers,
    ),
    "pack": Work(
        _avpea(lambda place: [
            *("data", "pack", "ave", str(place.work / "answers"), "--data.root", str(place.folder / "data")),
            "--quiet",
        ]),
        _of_packing,
    ),
    "pack decoded": Work(
        _avpea(lambda place: [
            *("data", "pack", "ave", str(place.work / "answers"), "--data.root", str(place.folder / "data")),
            *("--decoded", str(place.folder / "tiny.yaml"), "--quiet"),
        ]),
        _of_packing,
    ),
    "index": Work(
        _avpea(lambda place: [
            *("index", str(place.folder / "found-run"), str(place.folder / "data" / "AVE")),
            *("--library", str(place.work / "library"), "--quiet"),
        ]),
        _of_library,
        Place.make_found,
        ignored=("library/windows.lance/", "library/about.lance/"),
    ),
    "correct labels": Work(_correct, _of_reviews, lambda place: _log_of(place).write_text("")),
}  # fmt: skip


def run(place: Place, work: Work, output: Path) -> int:
    """Begin a command in a fork; returns the process."""

    return start(lambda: work.call(place), output)


def undisturbed(place: Place, work: Work, seconds: float = 300) -> None:
    """Run a command to its end.

    Raises:
        RuntimeError: It failed.
    """
    output = place.folder / "undisturbed.txt"
    code = wait(run(place, work, output), seconds)
    if code != 0:
        raise RuntimeError(f"exit code {code}: {output.read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def new_place() -> Iterator[Place]:
    """A place in a temporary folder."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="avpea-faults-") as folder:
        yield Place(Path(folder).resolve())
