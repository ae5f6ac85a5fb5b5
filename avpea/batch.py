"""Answers about many videos: which files, what is written for each, and going on after those that fail."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

from avpea import formats
from avpea.errors import AvpeaError, WriteError
from avpea.files import write_text, write_whole, writing
from avpea.media.folder import media_below
from avpea.progress import note, progress_bar, say
from avpea.stopping import Stopped
from avpea.tables import how_many

__all__ = ["Batch", "Job", "Outputs", "find_jobs", "require_other_files"]


@dataclass(frozen=True)
class Job:
    """A video to answer about.

    Attributes:
        video: The file.
        inside: Its place among the results, if those are in a folder of their own.
        trouble: Why it cannot be read, if that is known already.
    """

    video: Path
    inside: Path
    trouble: str = ""


@dataclass(frozen=True)
class Outputs:
    """What is written, beside what is printed.

    Attributes:
        csv: A table of all answers.
        formats: Names of formats; each makes a file for each video.
        out: Folder for those files; None puts each beside its video.
        plot: Picture of the only answer.
        plots: Folder for a picture of each answer.
        overwrite: Whether files that exist are replaced, as `plot` is in any case.
    """

    csv: Path | None = None
    formats: tuple[str, ...] = ()
    out: Path | None = None
    plot: Path | None = None
    plots: Path | None = None
    overwrite: bool = False


@dataclass
class Written:
    """Where the files of each job go.

    Attributes:
        by_format: Path by format, for each job.
        plots: Picture for each job; None draws none.
    """

    by_format: list[dict[str, Path]] = field(default_factory=list)
    plots: list[Path | None] = field(default_factory=list)


def find_jobs(given: Sequence[str | Path]) -> list[Job]:
    """The videos that files and folders stand for: of a folder, the media files in it and below it, sorted.

    A file that is given twice counts once. A folder without media files is a job that fails.
    """
    several = sum(os.path.isdir(one) for one in given) > 1
    jobs: dict[str, Job] = {}
    for one in map(Path, given):
        for job in _of_folder(one, several) if os.path.isdir(one) else [Job(one, Path(one.name))]:
            jobs.setdefault(os.path.abspath(job.video), job)
    return list(jobs.values())


def _of_folder(folder: Path, several: bool) -> Iterator[Job]:
    found, above = media_below(folder), Path(folder.resolve().name if several else "")
    if not found.files and not found.unreadable:
        yield Job(folder, above, f"There is no media file in {folder} or below it; give a folder of videos, or files.")
    for path in sorted([*found.files, *found.unreadable]):
        yield Job(path, above / path.relative_to(folder), found.unreadable.get(path, ""))


def plan(jobs: Sequence[Job], outputs: Outputs) -> Written:
    """Where every file will be written; nothing is.

    Two videos whose names differ only in their ending get files with both endings, `a.mp4.srt` and `a.mov.srt`.

    Raises:
        AvpeaError: A file exists already, would replace a video, or would be written twice.
    """
    written = Written([{} for _ in jobs], [outputs.plot] * len(jobs))
    for name in outputs.formats:
        for index, path in enumerate(_targets(jobs, outputs.out, formats.SUFFIXES[name])):
            written.by_format[index][name] = path
    files = [path for some in written.by_format for path in some.values()]
    if outputs.plots is not None:
        pictures = _targets(jobs, outputs.plots, ".png")
        written.plots, files = list(pictures), files + pictures
    files += [outputs.csv] if outputs.csv else []
    everything = [*files, outputs.plot] if outputs.plot else files
    require_other_files(everything, jobs)
    if double := _alike([path for path in everything if path.is_file() or not path.exists()]):  # not /dev/null
        raise AvpeaError(f"{min(double)} would be written twice, with different things; choose another place for one.")
    if not outputs.overwrite:
        _require_free(files, outputs.csv)
    return written


def require_other_files(files: Sequence[Path], jobs: Sequence[Job]) -> None:
    """Refuse to write over a video that is read, whatever the user allows to be overwritten.

    Raises:
        AvpeaError: One of the files is one of the videos.
    """
    videos = {os.path.realpath(job.video) for job in jobs}
    over = [path for path in files if os.path.realpath(path) in videos]
    if over:
        raise AvpeaError(f"{over[0]} is one of the videos, and would be replaced; choose another place for it.")


def _targets(jobs: Sequence[Job], out: Path | None, suffix: str) -> list[Path]:
    where = [(job.video.parent if out is None else out / job.inside.parent, job.video) for job in jobs]
    short = [folder / f"{video.stem}{suffix}" for folder, video in where]
    alike = _alike(short)
    paths = [folder / f"{v.name}{suffix}" if s in alike else s for (folder, v), s in zip(where, short, strict=True)]
    if double := _alike(paths):
        raise AvpeaError(f"Two videos would both be written to {min(double)}; give them in two commands.")
    return paths


def _alike(paths: Sequence[Path]) -> set[Path]:
    """Paths that are there twice, on some systems at least, where A and a, or two forms of ä, are the same."""
    by_key: dict[str, list[Path]] = {}
    for path in paths:
        by_key.setdefault(normalize("NFC", os.path.realpath(path)).casefold(), []).append(path)
    return {path for some in by_key.values() if len(some) > 1 for path in some}


def _require_free(files: Sequence[Path], table: Path | None) -> None:
    there = [path for path in files if os.path.lexists(path)]
    if not there:
        return
    what = f"{there[0]} exists" if len(there) == 1 else f"{len(there)} files exist, the first is {there[0]}"
    elsewhere = "--csv names another table" if there == [table] else "--out DIR writes to another folder"
    raise AvpeaError(f"{what}; --overwrite replaces what exists, and {elsewhere}.")


class Batch:
    """Answers about each video in turn.

    Args:
        predictor: The predictor, whose task says what can be written.
        jobs: The videos.
        outputs: What to write.
        worded: The sentence of an error for the table.

    Raises:
        AvpeaError: What is asked for cannot be written; nothing was done.
    """

    def __init__(
        self, predictor: Any, jobs: Sequence[Job], outputs: Outputs, worded: Callable[[AvpeaError], str] = str
    ) -> None:
        _require_written(predictor, outputs)
        self.task, self.jobs, self.outputs, self._worded = predictor.model.task, jobs, outputs, worded
        self.written = plan(jobs, outputs)
        self.done = self.failed = 0

    def run(
        self,
        answer_of: Callable[[Path], Any],
        succeed: Callable[[Any], None],
        fail: Callable[[Path, AvpeaError], None],
        progress: bool = True,
    ) -> Iterator[tuple[Path, Any]]:
        """Answer about each video, tell and write the answer, and yield both; go on after failures.

        Args:
            answer_of: Answers about a video.
            succeed: Tells an answer.
            fail: Tells why there is none.
            progress: Whether to show a progress bar on stderr, if there are several videos.

        Raises:
            AvpeaError: The only video failed; or, after all others are done, how many did.
            WriteError: The table cannot be written, or what `succeed` tells; says before how many were done.
            KeyboardInterrupt: Ctrl-C was pressed; says how many were done.
        """
        many = len(self.jobs) > 1
        heading = ["video", *self.task.columns, "error"]
        with (
            _table(self.outputs.csv, heading) as add,
            progress_bar("Videos", len(self.jobs), shown=progress and many) as step,
        ):
            try:
                for index, job in enumerate(self.jobs):
                    name = _in_table(self.outputs.csv, job.video)
                    try:
                        answer = self._one(index, answer_of)
                    except AvpeaError as error:
                        self.failed += 1
                        add([[name, *self._nothing, self._worded(error)]])
                        fail(job.video, error)
                        if not many:
                            raise
                    else:
                        self.done += 1
                        rows = list(answer.rows()) if self.outputs.csv else []
                        add([[name, *row, None] for row in rows or [self._nothing]])
                        succeed(answer)
                        yield job.video, answer
                    step()
            except KeyboardInterrupt as stopped:
                number = stopped.number if isinstance(stopped, Stopped) else signal.SIGINT
                raise Stopped(number, f"stopped: {self.summary} What was written is whole.") from None
            except WriteError:
                note(f"stopped: {self.summary} What was written is whole.")
                raise
        if self.failed:
            raise AvpeaError(self.summary)
        if many:
            say(self.summary)

    @property
    def summary(self) -> str:
        """How many videos are done, and how many failed."""
        return f"{self.done} of {how_many(len(self.jobs), 'video')} done, {self.failed} failed."

    @property
    def _nothing(self) -> list[None]:
        return [None] * len(self.task.columns)

    def _one(self, index: int, answer_of: Callable[[Path], Any]) -> Any:
        """The answer, written; any error is one of this video's, so that a night's work goes on."""
        job = self.jobs[index]
        if job.trouble:
            raise AvpeaError(job.trouble)
        try:
            answer = answer_of(job.video)
            _write(self.task, job, answer, self.written.by_format[index])
            _draw(answer, self.written.plots[index])
        except Exception as error:
            if isinstance(error, AvpeaError) or len(self.jobs) == 1:
                raise
            text = " ".join(str(error).split())
            raise AvpeaError(
                f"{job.video}: {type(error).__name__}: {text} This is no fault of yours; run the command on this file "
                "alone to see where it happens."
            ) from error
        return answer


def _write(task: Any, job: Job, answer: Any, files: Mapping[str, Path]) -> None:
    for name, path in files.items():
        if name == "csv":
            text = "".join(map(formats.csv_line, [task.columns, *answer.rows()]))
        else:
            text = formats.rendered(name, job.video, task.stretches, list(answer.stretches()), path)
        try:
            write_text(path, text)
        except OSError as error:
            raise AvpeaError(f"{path} cannot be written ({error.strerror}); choose another place with --out.") from None


def _draw(answer: Any, picture: Path | None) -> None:
    if picture is None:
        return
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AvpeaError(f"{picture.parent} cannot be made ({error.strerror}); choose another --plot.") from None
    answer.plot(picture)
    say(f"Picture: {picture}")


def _require_written(predictor: Any, outputs: Outputs) -> None:
    """Refuse what the answers of this task cannot be written as."""
    task, name = predictor.model.task, predictor.info.experiment.task.name
    timed = [one for one in outputs.formats if one != "csv"]
    if timed and not task.stretches:
        also = "; --format csv and --csv FILE work" if task.columns else "; use --json"
        raise AvpeaError(f"An answer of the task '{name}' has no start and end, which --format {timed[0]} needs{also}.")
    if (outputs.csv or "csv" in outputs.formats) and not task.columns:
        raise AvpeaError(f"The task '{name}' names no columns, so there is no CSV of its answers; use --json.")


def _in_table(table: Path | None, video: Path) -> str:
    """A video's path for a table, which counts from the table's folder, as in the manifest that it is once corrected.

    In a table that is no file, such as a pipe, it is the path as it was given.
    """
    if table is None or video.is_absolute() or not table.is_file():
        return formats.file_cell(video)
    folder = os.path.realpath(table.parent)
    if folder == os.path.realpath(os.curdir):
        return formats.file_cell(video)
    try:
        return formats.file_cell(os.path.relpath(os.path.abspath(video), folder))
    except ValueError:  # on another drive
        return formats.file_cell(os.path.abspath(video))


@contextmanager
def _table(path: Path | None, heading: Sequence[str]) -> Iterator[Callable[[Sequence[Sequence[Any]]], None]]:
    """A function that adds rows to a table at once, so that whatever ends the command leaves whole ones."""
    if path is None:
        yield lambda rows: None
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb", buffering=0)

    def add(rows: Sequence[Sequence[Any]]) -> None:
        with writing(path):
            write_whole(file.fileno(), "".join(map(formats.csv_line, rows)).encode("utf-8", "backslashreplace"))

    with file:
        try:
            add([heading])
        except WriteError:
            if path.is_file():  # and no device: an empty one would be in the way of the same command
                path.unlink()
            raise
        yield add
