"""Answers about many videos in one file, by this process or by Ray workers, which goes on where it was.

    results.jsonl        {"video": ..., "file": {"bytes": ..., "modified_ns": ...}, and the answer or "error": ...}
    results.about.json   the model and the question that they are from

The path of a video is absolute, or counts from the folder of the results, so that it is the same from wherever the
command is given.

A line is added when a video is done. At the end each video has one line, in the order of the videos' names, so that the
file is the same however many workers there were, and however often they were interrupted.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from avpea import cluster
from avpea.batch import Job
from avpea.errors import AvpeaError
from avpea.exported import digest_of_folder, is_export
from avpea.files import json_line, replacing, write_json, write_whole, writing
from avpea.locks import locked
from avpea.media import Limits, limits_here, open_for_good
from avpea.parsing import parse_json, read_json
from avpea.predict import Predictor, load
from avpea.progress import progress_bar
from avpea.stopping import Stopped
from avpea.tables import how_many

__all__ = ["BulkReport", "Request", "answer_all"]

_Answers = Generator[tuple[Job, dict[str, Any], int], None, None]  # job, plain values, number of tries
_FORMAT = "avpea-results-1"
_AT_ONCE = 5000  # videos that Ray is given at a time, each as a block of its own, so that a crash costs no other
_ATTEMPTS = 2
_SHOWN = 20
_NOWHERE = None, None  # the state of a file that cannot be looked at


@dataclass(frozen=True)
class Request:
    """What is asked about every video.

    Attributes:
        run: The run.
        verb: What its predictor does, such as `ask`.
        asked: Further input, such as a question.
        reading: Options of `avpea.media.read`.
        options: Options of the task.
    """

    run: str
    verb: str
    asked: tuple[Any, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def about(self, predictor: Predictor) -> dict[str, Any]:
        """Plain values by which results of another request, or of another model than a loaded one, are told."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        model = digest_of_folder(Path(self.run)) if is_export(self.run) else predictor.info.model
        return {"format": _FORMAT, "model": model, **plain}


@dataclass
class BulkReport:
    """The result of answering about many videos.

    Attributes:
        out: The file of results.
        answered: Number of videos that were answered about now.
        before: Number of videos that an earlier command had answered about.
        failed: Reason by video, for those without an answer.
        retried: Videos whose worker ended while it answered about them, and which another one took.
        gone: Number of videos that the file has answers about, and that are not there now.
        seconds: Time taken.
    """

    out: str
    answered: int = 0
    before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    retried: list[str] = field(default_factory=list)
    gone: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Sentences for the terminal: what failed, what was tried again, and the counts."""
        lines = [f"Failed: {reason}" for reason in list(self.failed.values())[:_SHOWN]]
        if len(self.failed) > _SHOWN:
            lines.append(f"Failed: {len(self.failed) - _SHOWN} more; {self.out} says why.")
        for video in self.retried[:_SHOWN]:
            again = "and again on the second try" if video in self.failed else "and another one has answered"
            lines.append(f"Tried again: {video}; the process that answered about it ended, {again}.")
        if self.gone:
            many = how_many(self.gone, "video that is", "videos that are")
            lines.append(f"{self.out} keeps answers about {many} not there now.")
        counts = [f"{self.answered} answered", f"{self.before} before", f"{len(self.failed)} failed"]
        return [*lines, f"{self.out}: {', '.join(counts)} ({self.seconds:.0f} s)."]


@dataclass(frozen=True)
class _Line:
    """Where a video's line is in the file of results.

    Attributes:
        video: The video's path as the line has it.
        start: Its first byte.
        stop: The byte after its end.
        state: Size and time of change of the video that it is about.
        failed: Whether it says why there is no answer.
    """

    video: str
    start: int
    stop: int
    state: tuple[Any, Any]
    failed: bool


class _Results:
    """The file of results: what is in it, and adding to it.

    Args:
        path: The file.
        about: What they are from.

    Raises:
        AvpeaError: The file is something else, of another request, or damaged.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], overwrite: bool) -> None:
        self.path, self.lines = path, dict[str, _Line]()  # by absolute path
        self.folder = os.path.realpath(path.parent)
        self.beside = path.with_name(f"{path.stem}.about.json")
        if overwrite:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._require_same(about)
            self._read()
        write_json(self.beside, about)

    def _require_same(self, about: Mapping[str, Any]) -> None:
        anew = "choose another --out, or --overwrite to begin anew"
        if not self.beside.is_file():
            raise AvpeaError(f"{self.path} exists, but {self.beside.name}, which says what it is of, does not; {anew}.")
        found = read_json(self.beside, AvpeaError, remedy=anew)
        there = found if isinstance(found, dict) else {}
        if differ := [name for name in about if name != "run" and there.get(name) != about[name]]:
            what = "; ".join(f"{name}: {there.get(name)!r:.60} there, {about[name]!r:.60} now" for name in differ)
            raise AvpeaError(f"{self.path} holds answers of another command ({what}); {anew}.")

    def _read(self) -> None:
        """Find the lines; a last one that is cut short, as by a kill, is removed."""
        with writing(self.path), self.path.open("rb+") as file:
            start = 0
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    file.truncate(start)
                    break
                self._found(line, number, start)
                start += len(line)

    def _found(self, line: bytes, number: int, start: int) -> None:
        remedy = "remove that line, and the same command answers about its video again"
        values = parse_json(
            line.decode("utf-8", "replace"), str(self.path), AvpeaError, line=number, remedy=remedy, paths=True
        )
        try:
            video, state = values["video"], (values["file"]["bytes"], values["file"]["modified_ns"])
            self.lines[self._absolute(video)] = _Line(video, start, start + len(line), state, "error" in values)
        except (TypeError, KeyError):
            raise AvpeaError(f"{self.path}, line {number}: no video with its file; {remedy}.") from None

    def _absolute(self, video: str) -> str:
        return os.path.normpath(os.path.join(self.folder, video))

    def line_of(self, video: Path) -> _Line | None:
        """The line of a video; None if it has none."""
        return self.lines.get(os.path.abspath(video))

    def rename(self, jobs: Sequence[Job], states: Mapping[str, tuple[int | None, int | None]]) -> None:
        """Find the lines of an earlier version, whose paths count from where its command was given.

        Such a line is one of a video that is called so now, and where its path leads from the folder of the results is
        no file, or another one than it is about.
        """
        with self.path.open("rb") as file:
            for job in jobs:
                video, meant = str(job.video), self._absolute(str(job.video))
                line, absolute = self.lines.get(meant), os.path.abspath(job.video)
                if line is None or meant == absolute or absolute in self.lines:
                    continue
                there = _state(Path(meant))
                if there != _NOWHERE and (there == line.state or line.state != states[video]):
                    continue  # it is about that file
                if line.state != states[video] or line.state == _NOWHERE:
                    self.lines[absolute] = self.lines.pop(meant)  # until the new answer takes its place
                    continue
                file.seek(line.start)
                values = json.loads(file.read(line.stop - line.start))
                with self.path.open("ab") as end:
                    self.add(end, job.video, values)
                del self.lines[meant]

    def add(self, file: IO[bytes], video: Path, values: Mapping[str, Any]) -> None:
        """Add the line of a video, at once."""
        named = _from(self.folder, video)
        line = json_line({**values, "video": named}).encode() + b"\n"
        start = os.fstat(file.fileno()).st_size
        with writing(self.path):
            write_whole(file.fileno(), line)
        state = values["file"]["bytes"], values["file"]["modified_ns"]
        self.lines[os.path.abspath(video)] = _Line(named, start, start + len(line), state, "error" in values)

    def forget_failures(self, jobs: Sequence[Job]) -> None:
        """Leave out what says of other videos than these that they failed, and of which no file is there any more."""
        asked = {os.path.abspath(job.video) for job in jobs}
        others = {video for video, line in self.lines.items() if line.failed} - asked
        self.lines = {
            video: line for video, line in self.lines.items() if video not in others or os.path.lexists(video)
        }

    def gone(self) -> int:
        """Number of videos that have an answer and are not there."""
        return sum(not line.failed and not os.path.lexists(video) for video, line in self.lines.items())

    def finish(self) -> None:
        """Put the lines in order, and leave out those that others have replaced."""
        ordered = sorted(self.lines.values(), key=lambda line: line.video)
        starts = [line.start for line in ordered]
        if starts == sorted(starts) and sum(one.stop - one.start for one in ordered) == self.path.stat().st_size:
            return
        with self.path.open("rb") as file, replacing(self.path) as aside, aside.open("wb") as out:
            for line in ordered:
                file.seek(line.start)
                out.write(file.read(line.stop - line.start))


def answer_all(
    request: Request,
    jobs: Sequence[Job],
    out: Path,
    predictor: Predictor,
    *,
    workers: int = 0,
    loading: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    worded: Callable[[str], str] = str,
) -> BulkReport:
    """Answer about every video, and write a line for each; videos with an answer already are left out.

    A video that has changed since it was answered about, or that failed, is done again. Lines of other videos stay, and
    so does an answer about a video that is not there now.

    Args:
        request: What is asked.
        jobs: The videos.
        out: File of the results, with the ending `.jsonl`.
        predictor: The run, loaded.
        workers: Number of Ray workers, which must see the videos and the run; 0 answers in this process.
        loading: How workers load the run: arguments of `avpea.load`.
        overwrite: Whether to begin anew.
        progress: Whether to show a progress bar on stderr.
        worded: The reason of a failure as the results have it.

    Raises:
        AvpeaError: The file holds something else; Ray is not installed, or its workers cannot load the run.
        WriteError: The file cannot be written; what was written is kept.
        Stopped: Ctrl-C was pressed; what is done is kept.
    """
    began, report = time.monotonic(), BulkReport(str(out))
    with locked(out.absolute().parent, f"has {out.name}, which is being written", f".{out.name}.lock"):
        about = request.about(predictor)
        results = _Results(out, about, overwrite)
        states = {str(job.video): _state(job.video) for job in jobs}
        if out.exists():
            results.rename(jobs, states)
        todo = [job for job in jobs if not _is_done(results.line_of(job.video), states[str(job.video)])]
        report.before = len(jobs) - len(todo)
        answers = (
            _by_ray(request, todo, workers, about["model"], loading or {})
            if workers
            else _here(request, todo, predictor)
        )
        try:
            with (
                closing(answers),
                out.open("ab") as file,
                progress_bar("Videos", len(jobs), shown=progress, done=report.before) as step,
            ):
                for job, values, tries in answers:
                    video = str(job.video)
                    if "error" in values:
                        values["error"] = worded(values["error"])
                    size, modified = states[video]
                    before = results.line_of(job.video)
                    if "error" in values and states[video] == _NOWHERE and before is not None and not before.failed:
                        values["error"] += " The answer from before is kept."
                    else:
                        line = {"video": video, "file": {"bytes": size, "modified_ns": modified}, **values}
                        results.add(file, job.video, line)
                    _count(report, video, values, tries)
                    step()
        except KeyboardInterrupt as stopped:
            number = stopped.number if isinstance(stopped, Stopped) else signal.SIGINT
            done = f"{report.before + report.answered} of {how_many(len(jobs), 'video')}"
            raise Stopped(number, f"stopped: {out} has answers about {done}; the same command goes on.") from None
        results.forget_failures(jobs)
        results.finish()
        report.gone = results.gone()
    report.retried.sort()
    report.seconds = time.monotonic() - began
    return report


def _state(video: Path) -> tuple[int | None, int | None]:
    try:
        about = os.stat(video)
    except (OSError, ValueError):
        return _NOWHERE
    return about.st_size, about.st_mtime_ns


def _from(folder: str, video: Path) -> str:
    """A video's path in the results in a folder, from which it counts; one that is given from there stays as it is."""
    if video.is_absolute() or folder == os.path.realpath(os.curdir):
        return str(video)
    try:
        return os.path.relpath(os.path.abspath(video), folder)
    except ValueError:  # on another drive
        return os.path.abspath(video)


def _is_done(line: _Line | None, state: tuple[int | None, int | None]) -> bool:
    return line is not None and not line.failed and line.state == state


def _count(report: BulkReport, video: str, values: Mapping[str, Any], tries: int) -> None:
    if "error" in values:
        report.failed[video] = str(values["error"])
    else:
        report.answered += 1
    if tries > 1:
        report.retried.append(video)


def _here(request: Request, jobs: Sequence[Job], predictor: Predictor) -> _Answers:
    for job in jobs:
        yield job, {"error": job.trouble} if job.trouble else _answered(request, predictor, job.video), 1


def _answered(request: Request, predictor: Predictor, video: Path) -> dict[str, Any]:
    """The answer about a video as plain values, or why there is none; any error is one of this video's."""
    try:
        answer = predictor.predict(video, *request.asked, **request.reading, **request.options)
        return {name: value for name, value in answer.to_dict().items() if name != "video"}
    except AvpeaError as error:
        return {"error": str(error)}
    except Exception as error:
        text = " ".join(str(error).split())
        return {
            "error": f"{video}: {type(error).__name__}: {text} This is no fault of yours; run the command on this file "
            "alone to see where it happens."
        }


def _by_ray(request: Request, jobs: Sequence[Job], workers: int, model: str, loading: Mapping[str, Any]) -> _Answers:
    """The answers of Ray workers, in the order in which they come. Ray starts a worker that ended again."""
    yield from ((job, {"error": job.trouble}, 1) for job in jobs if job.trouble)
    jobs = [job for job in jobs if not job.trouble]
    if not jobs:
        return
    with cluster.joined("Answering"):
        from ray.exceptions import RayError

        try:
            yield from _from_workers(request, jobs, workers, model, loading)
        except RayError as error:
            reason = str(error).strip().splitlines()[-1][:300]
            raise AvpeaError(
                f"Ray's workers failed ({reason}); what is answered is kept, and the same command goes on."
            ) from None


def _from_workers(
    request: Request, jobs: Sequence[Job], workers: int, model: str, loading: Mapping[str, Any]
) -> _Answers:
    import ray

    device, share = cluster.device_of_workers(loading.get("device", "auto"), workers, cluster.cards())
    attempts = ray.remote(num_cpus=0)(_Attempts).remote()
    given = {"request": request, "loading": {**loading, "device": device}, "attempts": attempts}
    given |= {"limits": limits_here(), "folder": os.getcwd(), "model": model}
    for first in range(0, len(jobs), _AT_ONCE):
        some = jobs[first : first + _AT_ONCE]
        items = [{"number": n, "video": os.fsencode(os.path.abspath(job.video))} for n, job in enumerate(some)]
        done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Worker, fn_constructor_kwargs=given, batch_size=1, **cluster.workers_of(workers, share)
        )
        for row in done.iter_rows():
            job, values = some[row["number"]], json.loads(row["values"])
            if "error" in values:  # which names the file as the worker sees it
                values["error"] = values["error"].replace(os.path.abspath(job.video), str(job.video))
            yield job, values, row["tries"]


class _Attempts:
    """A Ray actor that counts how often each video was begun and not finished."""

    def __init__(self) -> None:
        self.open: dict[bytes, int] = {}

    def begin(self, video: bytes) -> int:
        """Count a beginning; returns how many there were."""
        self.open[video] = self.open.get(video, 0) + 1
        return self.open[video]

    def end(self, video: bytes) -> None:
        """A video is done, however often its answer is asked for again."""
        self.open[video] = 0


class _Worker:
    """A Ray actor that answers about one video after another."""

    def __init__(
        self,
        request: Request,
        loading: Mapping[str, Any],
        attempts: Any,
        limits: Limits | None,
        folder: str,
        model: str,
    ) -> None:
        import torch

        torch.set_num_threads(1)
        if os.path.isdir(folder):
            os.chdir(folder)  # from which relative paths of the run count
        open_for_good(limits)
        self.request, self.attempts = request, attempts
        self.predictor = load(request.run, **loading)
        if request.about(self.predictor)["model"] != model:
            raise AvpeaError(
                f"The run {request.run} has been trained or calibrated since this command began; its answers are those "
                "of another model. Choose another --out."
            )

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        import ray

        video = bytes(batch["video"][0])
        tries = ray.get(self.attempts.begin.remote(video))
        if tries > _ATTEMPTS:
            values = {
                "error": f"{os.fsdecode(video)}: the process that answers about it ended {_ATTEMPTS} times, as when "
                "memory runs out; run the command on this file alone to see why."
            }
        else:
            values = _answered(self.request, self.predictor, Path(os.fsdecode(video)))
        ray.get(self.attempts.end.remote(video))
        return {"number": [int(batch["number"][0])], "values": [json.dumps(values)], "tries": [min(tries, _ATTEMPTS)]}
