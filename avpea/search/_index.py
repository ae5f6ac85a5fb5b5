"""Indexing a folder of videos: only new and changed files, so that it can be interrupted and resumed."""

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from avpea import cluster
from avpea.device import choose_device
from avpea.errors import AvpeaError, DeviceMemoryError, MediaError, with_option
from avpea.media import Limits, MediaBelow, limits_here, media_below, open_for_good
from avpea.predict import Predictor, load
from avpea.progress import progress_bar
from avpea.search._library import Library
from avpea.search._windows import FileState, require_searchable, rows_of
from avpea.sections import require_device_name
from avpea.tables import how_many

__all__ = ["IndexReport", "index"]

WRITE_EVERY_SECONDS = 20.0


@dataclass
class IndexReport:
    """The result of indexing.

    Attributes:
        library: Folder or URL of the library.
        indexed: Number of new or changed files.
        unchanged: Number of unchanged files.
        removed: Number of files that no longer exist.
        broken: Reason by file or folder, for those that could not be read.
        others: Files without an ending of video or sound, which were left out.
        remarks: Sentences about what was left out, and about what is mended or lost in the files.
        windows: Number of windows in the library now.
        seconds: Time taken.
    """

    library: str
    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    windows: int = 0
    seconds: float = 0.0

    def count(self, source: str, outcome: str, remarks: Sequence[str] = ()) -> None:
        """Count a file with an outcome of `_look`, and the remarks about reading it."""
        self.remarks += [f"{source}: {remark}" for remark in remarks]
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
        """Sentences for the terminal: the files that could not be read, and the counts."""
        parts = [f"{self.indexed} indexed", f"{self.unchanged} unchanged", f"{self.removed} removed"]
        parts += [f"{len(self.broken)} left out"] * bool(self.broken)
        rate = f", {how_many(round(60 * self.indexed / self.seconds), 'video')} a minute" if self.indexed else ""
        windows = how_many(self.windows, "window")
        total = f"{self.library}: {', '.join(parts)}; {windows} in all ({self.seconds:.0f} s{rate})."
        left_out = (f"Left out: {reason}" for reason in self.broken.values())
        return [*left_out, *self.remarks, total]


def index(
    run: str | Path,
    folder: str | Path,
    library: str | Path,
    *,
    weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
    device: str | torch.device = "auto",
    trust: bool = False,
    workers: int = 0,
    audio_track: int | None = None,
    video_track: int | None = None,
    progress: bool = True,
) -> IndexReport:
    """Index the videos in a folder and all folders below it.

    Unchanged files are not read again, and files that no longer exist are removed from the library. Indexing can be
    interrupted at any time, and several processes can index into the same library.

    Args:
        run: A run of retrieval: run folder, checkpoint or hub repository.
        folder: Folder of the videos.
        library: Folder or URL of the library, which is made if it does not exist.
        weights: The backbone's weights, if they have moved since training.
        audio_weights: VGGish's weights, if they have moved since training.
        device: Device to embed on; see `avpea.load`. Workers share the cards that Ray has: `auto` uses them if there
            are any, and `cuda` insists.
        trust: Whether to open and to download what the run names although somebody else made it.
        workers: Number of Ray Data workers; 0 reads the files in this process.
        audio_track: Number of the audio track of each file, from 0; None takes the one that FFmpeg would choose.
        video_track: Number of the video track of each file, from 0; None takes the one that FFmpeg would choose.
        progress: Whether to show a progress bar.

    Raises:
        AvpeaError: The folder does not exist or holds no media, the run is not one of retrieval, or the library was
            made by another model or of other tracks.
        ExperimentError: There is no such device here, or none for the workers.
    """
    started, folder = time.monotonic(), Path(os.path.expanduser(folder))
    require_device_name(device, "device")
    device, library = str(device), os.fspath(library)
    if not workers:
        choose_device(device)
    if not folder.is_dir():
        raise AvpeaError(f"There is no folder {folder}; expected one with videos in it.")
    place = _plain(folder)
    found = media_below(place)
    if not found.files:
        raise AvpeaError(
            " ".join([f"There is no video or sound in {folder}.", *found.unreadable.values(), *found.remarks()])
        )
    if workers < 0:
        raise AvpeaError(f"workers is {workers}; expected 0 (this process) or more.")
    loading: dict[str, Any] = {"weights": weights, "audio_weights": audio_weights, "trust": trust}
    # Ray starts before LanceDB is imported, which does not support forks.
    with cluster.joined("Indexing") if workers else nullcontext():
        share = 0.0
        if workers:
            device, share = cluster.device_of_workers(device, workers, cluster.cards())
        # With workers, the model here only says what it is.
        predictor = load(run, **loading, device="cpu" if workers else device)
        require_searchable(predictor)
        chosen = {"audio_track": audio_track, "video_track": video_track}
        tracks = {name: number for name, number in chosen.items() if number is not None}
        into = Library(library, about(predictor, run) | ({"tracks": tracks} if tracks else {}))
        if into.tracks != tracks:
            raise AvpeaError(
                f"The library {library} holds {named(into.tracks)} of its files, but "
                f"{named(tracks)} is to be indexed; index into another library."
            )
        report = IndexReport(library, others=[str(path) for path in found.others], remarks=found.remarks())
        known, here = into.files(), _states(found, report)
        closed = tuple(_below(path) for path in found.closed)  # what was in these folders may still be there
        below = _below(place)
        gone = {one.source for one in known if one.source.startswith(below) and not one.source.startswith(closed)}
        gone -= {state.source for state in here}
        into.remove(gone)
        new = [state for state in here if state not in known]
        present = {state.source: state for state in here}
        older = {one for one in known if present.get(one.source, one) != one}
        report.removed, report.unchanged = len(gone), len(here) - len(new)
        # In random order, so that two processes that index the same folder rarely read the same file.
        random.Random().shuffle(new)
        if workers:
            run = os.path.abspath(run) if os.path.exists(run) else str(run)
            _with_ray(into, new, report, workers, tracks, share, run=run, device=device, **loading)
        else:
            with progress_bar("Indexing", len(new), shown=progress) as advance:
                _here(into, new, report, predictor, tracks, advance)
        # Windows of versions that are no more: left by a kill, or of files that cannot be read as they are now.
        left = older & into.files() if older else set()
        into.remove_versions(left)
        changed = {one.source for one in left} & report.broken.keys()
        if changed:
            report.remarks.append(
                f"The windows that {how_many(len(changed), 'file')} of these had before were removed."
            )
        into.tidy()
        report.windows, report.seconds = len(into), time.monotonic() - started
        return report


def named(tracks: Mapping[str, int]) -> str:
    """Tracks in words."""
    return " and ".join(f"{name} {number}" for name, number in tracks.items()) or "the default tracks"


def _plain(folder: Path) -> Path:
    """A folder by an absolute path without `..`, so that a file has one path however the folder was called."""
    plain = Path(os.path.abspath(folder))
    behind_a_link = not (plain.is_dir() and plain.samefile(folder))  # `link/..` is above what the link leads to
    return folder.resolve() if behind_a_link else plain


def _below(folder: Path) -> str:
    return folder.absolute().as_posix().rstrip("/") + "/"


def _states(found: MediaBelow, report: IndexReport) -> list[FileState]:
    """The versions of the files found; what cannot be indexed is put into the report."""
    report.broken.update({str(path.absolute()): reason for path, reason in found.unreadable.items()})
    states = []
    for path in found.files:
        try:
            str(path).encode()
            states.append(FileState.of(path))
        except UnicodeEncodeError:
            report.broken[str(path)] = f"{path}: its name is not UTF-8, as a library needs; rename it."
        except OSError as error:  # it was moved or deleted in the meantime
            report.broken[str(path)] = f"{path}: {error.strerror}."
    return states


def about(predictor: Predictor, run: str | Path) -> dict[str, Any]:
    """The description of the model that a library stores."""
    task = require_searchable(predictor)
    return {
        "model": predictor.info.model,
        "run": str(Path(run).absolute()) if Path(run).exists() else str(run),
        "segments": predictor.info.experiment.data.segments,
        "groups": list(task.searches_by),
        "width": task.embedding_width,
    }


def _look(
    into: Library, predictor: Predictor, state: FileState, tracks: Mapping[str, int]
) -> tuple[str, list[dict[str, Any]], list[str]]:
    """The outcome for a file (`indexed`, `unchanged`, or why it cannot be read), its rows, and remarks about it."""
    if into.has(state):  # another process was faster
        return "unchanged", [], []
    remarks: list[str] = []
    try:
        return "indexed", rows_of(predictor, Path(state.source), remarks, **tracks), remarks
    except (MediaError, DeviceMemoryError) as error:
        reason = with_option(str(error), "")
    except OSError as error:  # it was moved or deleted in the meantime
        reason = f"{state.source}: {error.strerror or error}."
    except Exception as error:  # so that one file does not end a night's work
        reason = str(error) if isinstance(error, AvpeaError) else _unforeseen(state.source, error)
    return reason, [], []


def _unforeseen(source: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    return (
        f"{source}: {type(error).__name__}: {text} This is no fault of yours; index a folder with this file alone to "
        "see whether it happens again."
    )


def _here(
    into: Library,
    new: Sequence[FileState],
    report: IndexReport,
    predictor: Predictor,
    tracks: Mapping[str, int],
    advance: Callable[[int], Any],
) -> None:
    waiting: list[dict[str, Any]] = []
    written = time.monotonic()
    try:
        for state in new:
            outcome, rows, remarks = _look(into, predictor, state, tracks)
            waiting += rows
            report.count(state.source, outcome, remarks)
            advance(1)
            if time.monotonic() - written > WRITE_EVERY_SECONDS:
                into.add(waiting)
                waiting, written = [], time.monotonic()
    finally:
        into.add(waiting)  # also after an interruption


def _with_ray(
    into: Library,
    new: Sequence[FileState],
    report: IndexReport,
    workers: int,
    tracks: Mapping[str, int],
    share: float,
    **loading: Any,
) -> None:
    """Index the files in Ray Data workers, on this machine or on the cluster that `RAY_ADDRESS` names.

    Each worker has a share of a card, loads the model once and writes to the library itself. It must be able to read
    the files.

    Raises:
        AvpeaError: The workers failed, as when one cannot load the model.
    """
    if not new:
        return
    import ray.data
    from ray.exceptions import RayError

    files = ray.data.from_items([vars(state) for state in new], override_num_blocks=min(len(new), 4 * workers))
    done = files.map_batches(
        _Worker,
        fn_constructor_kwargs={
            "library": into.place if "://" in into.place else os.path.abspath(into.place),
            "folder": os.getcwd(),
            "tracks": tracks,
            "limits": limits_here(),
            **loading,
        },
        batch_size=4,
        **cluster.workers_of(workers, share),
    )
    try:
        for row in done.iter_rows():
            report.count(row["source"], row["outcome"], json.loads(row["remarks"]))
    except RayError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
        raise AvpeaError(
            f"Ray's workers failed ({reason}); what is indexed is kept, and the same command goes on."
        ) from None


class _Worker:
    """A Ray actor that indexes batches of files."""

    def __init__(
        self,
        library: str,
        folder: str,
        tracks: Mapping[str, int],
        limits: Limits | None,
        run: str,
        **loading: Any,
    ) -> None:
        import torch

        torch.set_num_threads(1)
        if os.path.isdir(folder):
            os.chdir(folder)  # from which relative paths of the run count
        open_for_good(limits)
        self.library = Library(library)
        self.tracks = tracks
        self.predictor = load(run, **loading)
        self.library.require(about(self.predictor, run)["model"], run)  # it may have been trained further meanwhile

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        states = [
            FileState(str(source), int(size), int(modified))
            for source, size, modified in zip(batch["source"], batch["size"], batch["modified"], strict=True)
        ]
        outcomes, remarks = [], []
        for state in states:
            outcome, rows, told = _look(self.library, self.predictor, state, self.tracks)
            self.library.add(rows)
            outcomes.append(outcome)
            remarks.append(json.dumps(told))  # as text, since Arrow takes columns of no remarks at all for another type
        return {"source": [state.source for state in states], "outcome": outcomes, "remarks": remarks}
