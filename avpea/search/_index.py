"""Index a folder: only what is new or changed, file by file, so that it may be stopped and gone on with."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpea.checkpoint import fingerprint_of
from avpea.errors import AvpeaError, MediaError
from avpea.labels import MEDIA_SUFFIXES
from avpea.predict import Predictor, load
from avpea.progress import progress_bar
from avpea.search._library import Library
from avpea.search._windows import FileState, require_searchable, rows_of, videos_below
from avpea.sharing import resolve

__all__ = ["IndexReport", "index"]

WRITE_EVERY_SECONDS = 20.0


@dataclass
class IndexReport:
    """What indexing did.

    Attributes:
        library: Where.
        indexed: Files that were new or changed.
        unchanged: Files that were as they had been.
        removed: Files that are no longer there.
        broken: Files that could not be read, with the reason.
        windows: Windows in the library now.
        seconds: That it took.
    """

    library: str
    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    windows: int = 0
    seconds: float = 0.0

    def count(self, source: str, outcome: str) -> None:
        """Count a file, by what `_look` says of it."""
        if outcome == "indexed":
            self.indexed += 1
        elif outcome == "unchanged":
            self.unchanged += 1
        else:
            self.broken[source] = outcome

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))

    def lines(self) -> list[str]:
        """What was done, and which files could not be read, in sentences."""
        parts = [f"{self.indexed} indexed", f"{self.unchanged} unchanged", f"{self.removed} removed"]
        parts += [f"{len(self.broken)} left out"] * bool(self.broken)
        rate = f", {60 * self.indexed / self.seconds:.0f} videos a minute" if self.indexed else ""
        total = f"{self.library}: {', '.join(parts)}; {self.windows} windows in all ({self.seconds:.0f} s{rate})."
        return [*(f"Left out: {reason}" for reason in self.broken.values()), total]


def index(
    run: str | Path,
    folder: str | Path,
    library: str,
    *,
    weights: str | None = None,
    audio_weights: str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> IndexReport:
    """Index the videos in a folder and below it.

    What is there and unchanged is not read again; files that are gone disappear. It may be interrupted at any moment,
    and several may index into one library at once.

    Args:
        run: Of retrieval: folder, checkpoint, or hub repository.
        folder: Where the videos are.
        library: Folder or URL of the library; made where there is none.
        weights: The backbone's weights, if not where they were in training.
        audio_weights: VGGish's weights, likewise.
        workers: Ray Data workers to spread the files over; 0 reads them in this process.
        progress: Show a progress bar.

    Raises:
        AvpeaError: No such folder; the run compares no texts with videos; or the library is another model's.
    """
    started, folder = time.monotonic(), Path(folder)
    if not folder.is_dir():
        raise AvpeaError(f"There is no folder {folder}; expected one with videos in it.")
    if workers < 0:
        raise AvpeaError(f"workers is {workers}; expected 0 (this process) or more.")
    if workers:
        _start_ray()  # before LanceDB is loaded, which does not like to be forked
    predictor = load(run, weights=weights, audio_weights=audio_weights)
    require_searchable(predictor)
    into = Library(library, about(predictor, run))
    report = IndexReport(library)
    known, here = into.files(), [FileState.of(path) for path in videos_below(folder, MEDIA_SUFFIXES)]
    below = folder.absolute().as_posix().rstrip("/") + "/"
    gone = {source for source in known if source.startswith(below)} - {state.source for state in here}
    into.remove(gone)
    new = [state for state in here if known.get(state.source) != (state.size, state.modified)]
    report.removed, report.unchanged = len(gone), len(here) - len(new)
    # Each process in an order of its own: two that index one folder then seldom read the same file.
    random.Random().shuffle(new)
    if workers:
        _with_ray(into, new, report, workers, run=str(run), weights=weights, audio_weights=audio_weights)
    else:
        with progress_bar("Indexing", len(new), shown=progress) as advance:
            _here(into, new, report, predictor, advance)
    into.tidy()
    report.windows, report.seconds = len(into), time.monotonic() - started
    return report


def about(predictor: Predictor, run: str | Path) -> dict[str, Any]:
    """What a library must know of its model."""
    task = require_searchable(predictor)
    return {
        "model": fingerprint_of(resolve(run)),
        "run": str(Path(run).absolute()) if Path(run).exists() else str(run),
        "segments": predictor.info.experiment.data.segments,
        "groups": list(task.searches_by),
        "width": task.embedding_width,
    }


def _look(into: Library, predictor: Predictor, state: FileState) -> tuple[str, list[dict[str, Any]]]:
    """What becomes of a file (`indexed`, `unchanged`, or why it cannot be read), and its rows."""
    if into.has(state):  # another process was faster
        return "unchanged", []
    try:
        return "indexed", rows_of(predictor, Path(state.source))
    except MediaError as error:
        return str(error), []
    except OSError as error:  # it was moved or deleted meanwhile
        return f"{state.source}: {error.strerror or error}.", []


def _here(
    into: Library, new: Sequence[FileState], report: IndexReport, predictor: Predictor, advance: Callable[[int], Any]
) -> None:
    waiting: list[dict[str, Any]] = []
    written = time.monotonic()
    try:
        for state in new:
            outcome, rows = _look(into, predictor, state)
            waiting += rows
            report.count(state.source, outcome)
            advance(1)
            if time.monotonic() - written > WRITE_EVERY_SECONDS:
                into.add(waiting)
                waiting, written = [], time.monotonic()
    finally:
        into.add(waiting)  # what was read is kept, also when this is interrupted


def _with_ray(into: Library, new: Sequence[FileState], report: IndexReport, workers: int, **loading: Any) -> None:
    """Read the files in Ray Data's workers, on this machine or on a cluster that `RAY_ADDRESS` names.

    Each worker loads the model once and writes to the library itself; files must be readable where it runs.
    """
    if not new:
        return
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    files = ray.data.from_items([vars(state) for state in new], override_num_blocks=min(len(new), 4 * workers))
    done = files.map_batches(
        _Worker,
        fn_constructor_kwargs={"library": into.place, "about": into.about, **loading},
        batch_size=4,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    for row in done.iter_rows():
        report.count(row["source"], row["outcome"])


def _start_ray() -> None:
    """Join the cluster that `RAY_ADDRESS` names, or start one here, without its messages."""
    try:
        import ray
    except ImportError:
        raise AvpeaError("Indexing with several workers needs Ray: pip install 'avpea[scale]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)


class _Worker:
    """A Ray actor: indexes batches of files."""

    def __init__(self, library: str, about: Mapping[str, Any], run: str, **loading: Any) -> None:
        import torch

        torch.set_num_threads(1)
        self.library = Library(library, about)
        self.predictor = load(run, **loading)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        states = [
            FileState(str(source), int(size), int(modified))
            for source, size, modified in zip(batch["source"], batch["size"], batch["modified"], strict=True)
        ]
        outcomes = []
        for state in states:
            outcome, rows = _look(self.library, self.predictor, state)
            self.library.add(rows)
            outcomes.append(outcome)
        return {"source": [state.source for state in states], "outcome": outcomes}
