"""`avpea evaluate`, `avpea report` and `avpea calibrate`."""

import argparse
from collections.abc import Iterator
from typing import Any

from avpea.command import (
    Command,
    a_path,
    add_run,
    loading_of,
    print_json,
)
from avpea.tables import Table, how_many, show

__all__ = ["COMMANDS"]


def _add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="videos in a forward pass (default: 8)")


def _add_cache(parser: argparse.ArgumentParser) -> None:
    about = "folder of the sample cache, if another one than in training"
    parser.add_argument("--data.cache", dest="cache", metavar="DIR", help=about)


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    splits = ("train", "val", "test")
    parser.add_argument("--split", default="test", choices=splits, help="split to evaluate on (default: test)")
    parser.add_argument(
        "--data.root", dest="root", metavar="DIR", help="the data set, if moved since training, or another one"
    )
    parser.add_argument("--data.name", dest="reader", metavar="READER", help="reader of that data set, if another one")
    _add_cache(parser)
    parser.add_argument("--details", action="store_true", help="print more, such as the confusion matrix of events")
    _add_batch_size(parser)


def _evaluate(options: argparse.Namespace) -> None:
    from avpea import evaluate as evaluation

    files = {"root": options.root, "reader": options.reader, "cache": options.cache, **loading_of(options)}
    sizes = {"batch_size": options.batch_size, "progress": not options.quiet}
    result = evaluation.evaluate(options.run, options.split, **files, **sizes)
    print_json(result.metrics) if options.json else show(_evaluation_report(result, options))


def _evaluation_report(result: Any, options: argparse.Namespace) -> Iterator[str | Table]:
    """The task's metric, reference scores, and the metric by class or type."""
    from avpea import calibrate as calibration
    from avpea.metrics.figures import epoch_kept

    metrics, task = result.metrics, result.task
    reached = task.figure.reached
    where = metrics["split"] if metrics["data"]["own"] else f"{metrics['split']} of {metrics['data']['root']}"
    yield f"{options.run} on {where}: {reached(metrics[metrics['metric']])} ({how_many(metrics['videos'], 'video')})"
    yield from _about_data(result)
    if metrics["source"]:
        yield f"Annotations: {metrics['source']}."
    yield f"{epoch_kept(metrics)}."
    if metrics["skipped"]:
        yield f"{how_many(len(metrics['skipped']), 'video was', 'videos were')} skipped:"
        yield from (f"  {key}: {reason}" for key, reason in list(metrics["skipped"].items())[:10])
    for reference, share in metrics["references"].items():
        yield f"For comparison, {reference}: {reached(share)}."
    yield from calibration.report(metrics, str(options.run), options.details)
    yield from task.report(metrics, details=options.details)


def _about_data(result: Any) -> Iterator[str]:
    """Whose data an evaluation is about, unless it is the run's."""
    about = result.metrics["data"]
    if about["own"] is None:
        yield (
            f"This run was imported, or trained by an earlier version, and does not know its data; whether "
            f"{about['root']} is the same is not known. Written to {result.folder}."
        )
    elif not about["own"]:
        differ = f": {'; '.join(about['changes'][:4])}" if about["changes"] else ""
        yield f"{about['root']} is other data than this run was trained with{differ}. Written to {result.folder}."
    if about["trained_on"] and result.metrics["split"] != "train":
        rows = about["rows"][result.metrics["split"]]
        them = how_many(about["trained_on"], "is of a video", "are of videos")
        yield f"Of its {how_many(rows, 'sample')}, {them} that the run was trained on."


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--split", default="test", choices=("train", "val", "test"), help="split to report on (default: test)"
    )
    parser.add_argument("--out", type=a_path, metavar="FILE", help="page to write (default: report.html in the run)")
    parser.add_argument("--data.root", dest="root", metavar="DIR", help="the data set, if moved since training")
    _add_cache(parser)


def _report(options: argparse.Namespace) -> None:
    from avpea.report import report

    page = report(
        options.run,
        options.split,
        out=options.out,
        root=options.root,
        cache=options.cache,
        **loading_of(options),
        progress=not options.quiet,
    )
    show([str(page)])


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--data.root", dest="root", metavar="DIR", help="the data set, if moved since training")
    _add_cache(parser)
    _add_batch_size(parser)


def _calibrate(options: argparse.Namespace) -> None:
    from avpea.calibrate import calibrate

    files = {"root": options.root, "cache": options.cache, **loading_of(options)}
    fitted = calibrate(options.run, **files, batch_size=options.batch_size, progress=not options.quiet)
    print_json(fitted.to_dict()) if options.json else show([f"{options.run}: {fitted.line()}"])


COMMANDS = [
    Command(
        "evaluate", "Evaluate a run on a split.", "avpea evaluate runs/NAME --split test",
        _evaluate_arguments, _evaluate, json=True, quiet=True,
    ),
    Command(
        "report",
        "Write one HTML page about a run: how it learned, its figures, and where it was surely wrong.",
        "avpea report runs/NAME", _report_arguments, _report, quiet=True,
    ),
    Command(
        "calibrate", "Calibrate a run's confidence, as training does at its end; for runs of version 0.1.0.",
        "avpea calibrate runs/NAME", _calibrate_arguments, _calibrate, json=True, quiet=True,
    ),
]  # fmt: skip
