"""Answers about one video, several, or a folder: computed, printed and written."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avpea.command._arguments import names_several
from avpea.command._options import loading_of, reading_of
from avpea.command._printing import as_options, print_json
from avpea.errors import AvpeaError
from avpea.progress import note
from avpea.tables import how_many

__all__ = ["about_videos", "predictor_for"]


def predictor_for(options: argparse.Namespace, verb: str) -> Any:
    """Load the predictor of `options.run`, whose task must have the method `verb`.

    Raises:
        AvpeaError: The run is of another task; the message says what it is for.
    """
    from avpea.media.box import warm_up

    warm_up()  # before torch is imported, which takes longest
    from avpea.predict import load

    predictor = load(options.run, **loading_of(options))
    task = predictor.model.task
    if task.verb != verb:
        name, use = predictor.info.experiment.task.name, task.use.format(run=options.run)
        raise AvpeaError(f"This run's task is '{name}', for which there is no `avpea {verb}`; it is for `{use}`.")
    return predictor


def about_videos(
    options: argparse.Namespace,
    verb: str,
    *asked: Any,
    jobs: Sequence[Any] | None = None,
    plot: Path | None = None,
    **more: Any,
) -> Iterator[tuple[Any, Path, Any]]:
    """Answer about each video that `options.video` names, print and write it, and yield predictor, video and answer.

    Of several videos, those that fail are told, and the others are done.

    Args:
        options: Parsed arguments: those of `add_run` and `add_missing`, `video` (a list) and `json`; and where the
            command has them, `quiet` and those of `add_outputs`.
        verb: Method of the predictor.
        asked: Further positional arguments of that method, such as a question.
        jobs: The videos as `avpea.batch.find_jobs` found them; None looks for them.
        plot: Picture to draw the answer to; of several videos, a folder for a picture of each.
        more: Further keyword arguments of that method.

    Raises:
        AvpeaError: The run is of another task; something cannot be written; the only video failed; or, at the end,
            some did.
    """
    from avpea.batch import Batch, find_jobs

    if jobs is None:
        jobs = find_jobs(options.video)
    if _into_one_file(options, plot):
        _answer_in_bulk(options, jobs, verb, asked, more)
        return
    outputs = _outputs(options, plot, several=names_several(options.video))
    predictor = predictor_for(options, verb)

    def answer_of(video: Path) -> Any:
        return predictor.predict(video, *asked, **reading_of(options), **more)

    def succeed(answer: Any) -> None:
        from avpea.tables import show

        print_json(answer.to_dict()) if options.json else show(answer.report())

    def worded(error: AvpeaError) -> str:
        return as_options(error, options)

    def fail(video: Path, error: AvpeaError) -> None:
        if options.json:
            print_json({"video": str(video), "error": worded(error)})
        if len(jobs) > 1:
            note(worded(error))

    batch = Batch(predictor, jobs, outputs, worded)
    for video, answer in batch.run(answer_of, succeed, fail, not getattr(options, "quiet", False)):
        yield predictor, video, answer


def _into_one_file(options: argparse.Namespace, plot: Path | None) -> bool:
    """Whether `--out` is a file for all answers, instead of a folder.

    Raises:
        AvpeaError: It is, and more is asked for; or it is not, and only such a file can be written.
    """
    # A command may lack any of these options.
    out, workers = getattr(options, "out", None), getattr(options, "ray", 0)
    written = {name: getattr(options, name, None) for name in ("csv", "format", "attention")} | {"plot": plot}
    given = [f"--{name}" for name, value in written.items() if value]
    if workers < 0:
        raise AvpeaError(f"--ray is {workers}; expected 0 (this process) or more.")
    if out is not None and out.suffix == ".jsonl" and out.is_dir():
        raise AvpeaError(f"--out {out} is a folder; name a file for all answers, or a folder that does not end so.")
    if out is None or out.suffix != ".jsonl":
        if workers:
            raise AvpeaError("--ray writes all answers into one file; name it with --out FILE.jsonl.")
        if out is not None and not written["format"]:
            raise AvpeaError(
                f"--out {out} is a folder for the files of --format, which is not given; for a file of all answers, "
                "let its name end in .jsonl."
            )
        return False
    if given:
        raise AvpeaError(
            f"--out {out} is one file of all answers, and {given[0]} is not written with it; leave it out."
        )
    return True


def _answer_in_bulk(
    options: argparse.Namespace, jobs: Sequence[Any], verb: str, asked: Sequence[Any], more: Mapping[str, Any]
) -> None:
    from avpea.bulk import Request, answer_all
    from avpea.tables import show

    loading = loading_of(options)
    here = {**vars(options), "device": "cpu"} if options.ray else vars(options)  # then it only says what the model is
    predictor = predictor_for(argparse.Namespace(**here), verb)
    request = Request(str(options.run), verb, tuple(asked), reading_of(options), dict(more))
    report = answer_all(
        request,
        jobs,
        options.out,
        predictor,
        workers=options.ray,
        loading=loading,
        overwrite=options.overwrite,
        progress=not options.quiet,
        worded=lambda reason: as_options(reason, options),
    )
    print_json(report.to_dict()) if options.json else show(report.lines())
    if report.failed:
        raise AvpeaError(
            f"{len(report.failed)} of {how_many(len(jobs), 'video')} failed; the same command tries again."
        )


def _outputs(options: argparse.Namespace, plot: Path | None, several: bool) -> Any:
    """What the options say is written; `plot` is a folder if it is one, or if it could be one of several pictures."""
    from avpea.batch import Outputs

    given = {name: value for name in ("csv", "out", "overwrite") if (value := getattr(options, name, None))}
    if chosen := getattr(options, "format", None):
        given["formats"] = tuple(dict.fromkeys(chosen))
    if plot is None:
        return Outputs(**given)
    from avpea import plot as pictures

    folder = plot.is_dir() or (several and not plot.suffix)
    pictures.check_folder(plot) if folder else pictures.check(plot)
    if several and not folder:
        raise AvpeaError(
            f"--plot {plot} is one picture of several videos; name a folder, as in --plot {plot.with_suffix('')}"
        )
    return Outputs(**given, plots=plot) if folder else Outputs(**given, plot=plot)
