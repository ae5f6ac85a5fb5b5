"""Summarising stored results: figures for each row, and remarks on the limits of the comparison."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avpea import registry
from avpea.compare.statistics import mean_and_std, paired_bootstrap
from avpea.compare.sweep import Cell, Row, Sweep
from avpea.metrics.figures import Figure, headline
from avpea.tables import Table, how_many

__all__ = ["RowSummary", "Summary", "summarise"]

_ROUNDED = 1e-5  # scores of videos are stored with six decimals


@dataclass(frozen=True)
class RowSummary:
    """The results of a row over its seeds. Accuracies are shares in [0, 1].

    Attributes:
        label: Label of the row in the sweep.
        seeds: Seeds with a result.
        test: Test accuracy of each seed.
        test_mean: Mean test accuracy over seeds.
        test_std: Sample standard deviation of the test accuracy over seeds; None for a single seed.
        selection_mean: Mean accuracy over seeds on the split that chose the epoch.
        difference: Mean test accuracy minus that of the reference row, on the same videos; None for the reference row.
        interval: 95 % paired bootstrap interval of `difference`, over test videos and seeds; None where the test figure
            is no mean over videos.
        adapters: Number of trained parameters of the adapters.
        trained: Number of all trained parameters, with the head.
        train_minutes: Mean wall time of training over seeds.
        step: Seconds, ratio to the reference row and peak memory of a training step, or None.
        published: The paper's figures for this row.
        beside: Other metrics that the task shows, mean over seeds; None if a seed lacks one.
        beside_std: The sample standard deviation of each over seeds; None also for a single seed.
        per_class: Mean test accuracy over seeds by class or type of question; None for a class without samples.
        epochs: Records of all epochs of each seed.
    """

    label: str
    seeds: tuple[int, ...]
    test: tuple[float, ...]
    test_mean: float
    test_std: float | None
    selection_mean: float
    difference: float | None
    interval: tuple[float, float] | None
    adapters: int
    trained: int
    train_minutes: float
    step: Mapping[str, Any] | None
    published: Mapping[str, float]
    beside: Mapping[str, float | None]
    beside_std: Mapping[str, float | None]
    per_class: Mapping[str, float | None]
    epochs: tuple[Sequence[Mapping[str, Any]], ...]

    def less(self) -> str:
        """The difference from the reference row in points, with its interval if it has one; empty if there is none."""
        if self.difference is None:
            return ""
        low, high = self.interval or (0.0, 0.0)
        return f"{100 * self.difference:+.2f}" + f" [{100 * low:+.2f}, {100 * high:+.2f}]" * (self.interval is not None)


@dataclass(frozen=True)
class Summary:
    """The summary of a comparison.

    Attributes:
        sweep: Name of the sweep.
        title: Title of the sweep.
        reference: Label of the row from which differences are taken.
        selected_on: Split or splits that the epochs were evaluated on, and by which the best were chosen.
        last: Labels of the rows whose last epoch was kept, whatever the split says.
        figure: The metric that is compared.
        videos: Number of test videos that all runs have in common.
        references: Test scores of trivial baselines that neither see nor hear, by name.
        rows: Rows with results, in the sweep's order.
        quoted: Published rows that were not run.
        published_where: The data that published figures were measured on.
        remarks: Sentences about the limits of the comparison.
        environments: Versions, commits and processors of the runs.
        cost_machine: The machine on which training steps were measured, or None.
    """

    sweep: str
    title: str
    reference: str
    selected_on: str
    last: tuple[str, ...]
    figure: Figure
    videos: int
    references: Mapping[str, float]
    rows: tuple[RowSummary, ...]
    quoted: Mapping[str, Mapping[str, Any]]
    published_where: str
    remarks: tuple[str, ...]
    environments: tuple[Mapping[str, Any], ...]
    cost_machine: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the epochs."""
        values = {("metric" if key == "figure" else key): value for key, value in dataclasses.asdict(self).items()}
        values["metric"] = self.figure.metric
        for row in values["rows"]:
            del row["epochs"]
        return values

    def report(self) -> Iterator[str | Table]:
        """For the terminal: metric and deviation, difference and interval, parameters, and seconds of a step."""
        unit = "%" if self.figure.unit == "%" else f"{self.figure.name} {self.figure.unit}"
        columns = ["", f"test {unit}", f"less {self.reference} [95 %]", "adapters, M", "step s", "published %"]
        rows = []
        for row in self.rows:
            deviation = "" if row.test_std is None else f" ± {100 * row.test_std:.2f}"
            step = "" if row.step is None else f"{row.step['step_seconds']:.2f}"
            cells = (f"{100 * row.test_mean:.2f}{deviation}", row.less(), f"{row.adapters / 1e6:.2f}", step)
            rows.append([row.label, *cells, headline(row.published)])
        yield Table(columns, rows, self.title)
        yield from self.remarks
        if self.published_where and any(row.published for row in self.rows):
            yield f"Published: {self.published_where}; comparable only as far as data and weights are the same."


def summarise(sweep: Sweep, results: Mapping[Cell, Mapping[str, Any]], costs: Mapping[str, Any] | None) -> Summary:
    """Summarise the stored results of a sweep, on the test videos that all runs have in common."""
    by_row = {row: {c.seed: r for c, r in results.items() if c.row is row} for row in sweep.rows}
    by_row = {row: found for row, found in by_row.items() if found}
    answered = [set(result["test_videos"]) for result in results.values()]
    common = sorted(set.intersection(*answered))
    reference = next((row for row in by_row if row.label == sweep.reference), None)
    shares = {row: _shares(found, common) for row, found in by_row.items()}
    first = next(iter(results.values()))
    asked = np.array([first.get("test_weights", {}).get(video, 1) for video in common])  # older files: all alike
    figure: Figure = registry.load("task", next(iter(by_row)).experiment.task.name).figure
    of_videos = all(_is_of_videos(result, figure.metric) for result in results.values())
    rows = []
    for row, found in by_row.items():
        difference, interval = None, None
        if reference is not None and row is not reference and not of_videos:
            difference = _mean_test(found, figure.metric) - _mean_test(by_row[reference], figure.metric)
        elif reference is not None and row is not reference and common:
            gap = np.average(shares[row] - shares[reference].mean(axis=0), axis=1, weights=asked)
            difference = float(gap.mean())
            interval = paired_bootstrap(shares[row], shares[reference], asked)
        rows.append(_row(row, found, figure, difference, interval, (costs or {}).get("rows", {}).get(row.label)))
    remarks = _remarks(sweep, by_row, results, max(map(len, answered)), len(common))
    if not of_videos:
        remarks.append(f"{figure.name} is no mean over videos here, so its differences have no intervals.")
    environments = {repr(e): e for result in results.values() for e in result["environment"]}
    return Summary(
        sweep=sweep.name,
        title=sweep.title,
        reference=sweep.reference,
        selected_on=", ".join(sorted({str(result["selected_on"]) for result in results.values()})),
        last=tuple(row.label for row, found in by_row.items() if any(map(_kept_last, found.values()))),
        figure=figure,
        videos=len(common),
        references=first["test"].get("references", {}),
        rows=tuple(rows),
        quoted=sweep.quoted,
        published_where=sweep.published_where,
        remarks=tuple(remarks),
        environments=tuple(environments.values()),
        cost_machine=None if costs is None else costs["machine"],
    )


def _kept_last(result: Mapping[str, Any]) -> bool:
    """Whether a run's last epoch was kept; results of version 0.1.0 say so in their experiment alone."""
    return bool(result.get("kept", result["experiment"]["train"].get("keep")) == "last")


def _shares(found: Mapping[int, Mapping[str, Any]], videos: Sequence[str]) -> np.ndarray:
    return np.array([[result["test_videos"][video] for video in videos] for result in found.values()])


def _is_of_videos(result: Mapping[str, Any], metric: str) -> bool:
    """Whether a test figure is the mean of its videos' scores; for masks of classes, for one, it is that of classes."""
    videos, weights = result["test_videos"], result.get("test_weights", {})
    if not videos:
        return True
    mean = np.average(list(videos.values()), weights=[weights.get(video, 1) for video in videos])
    return bool(abs(mean - result["test"][metric]) < _ROUNDED)


def _mean_test(found: Mapping[int, Mapping[str, Any]], metric: str) -> float:
    return mean_and_std([result["test"][metric] for result in found.values()])[0]


def _row(
    row: Row, found: Mapping[int, Mapping[str, Any]], figure: Figure, difference: float | None,
    interval: tuple[float, float] | None, step: Mapping[str, Any] | None,
) -> RowSummary:  # fmt: skip
    results = list(found.values())
    metric = figure.metric
    test = [result["test"][metric] for result in results]
    mean, std = mean_and_std(test)
    counts = results[0]["parameters"]
    beside = {key: _mean_and_std([result["test"].get(key) for result in results]) for key in figure.beside}
    return RowSummary(
        label=row.label,
        seeds=tuple(found),
        test=tuple(test),
        test_mean=mean,
        test_std=_or_none(std),
        selection_mean=mean_and_std([result["selection"][metric] for result in results])[0],
        difference=difference,
        interval=interval,
        adapters=counts["adapters"],
        trained=counts["trainable"],
        train_minutes=mean_and_std([result["epochs"][-1]["seconds"] / 60 for result in results])[0],
        step=step,
        published=row.published,
        beside={key: mean for key, (mean, _) in beside.items()},
        beside_std={key: deviation for key, (_, deviation) in beside.items()},
        per_class=_per_class([result["test"][figure.breakdown] for result in results]),
        epochs=tuple(result["epochs"] for result in results),
    )


def _mean_and_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None, None
    mean, std = mean_and_std(known)
    return mean, _or_none(std)


def _or_none(std: float) -> float | None:
    return None if math.isnan(std) else std


def _per_class(seeds: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for one in seeds for name in one):
        known = [share for one in seeds if (share := one.get(name)) is not None]
        means[name] = sum(known) / len(known) if known else None
    return means


def _mixed(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence if runs computed in different precisions or on different kinds of devices, as far as they know."""
    precisions = sorted({str(one["precision"]) for one in environments if one.get("precision")})
    kinds = sorted({str(one["device"]).split()[0].partition(":")[0] for one in environments if one.get("device")})
    ways = [f"in {' and '.join(precisions)}"] if len(precisions) > 1 else []
    ways += [f"on {' and '.join(kinds)}"] if len(kinds) > 1 else []
    return [f"Runs were trained {', and '.join(ways)}, which changes results, too."] if ways else []


def _remarks(
    sweep: Sweep, by_row: Mapping[Row, Mapping[int, Any]], results: Mapping[Cell, Mapping[str, Any]],
    most: int, common: int,
) -> list[str]:  # fmt: skip
    remarks = []
    lacking = [cell.name for cell in sweep.cells() if cell not in results]
    if lacking:
        some = f"{', '.join(lacking[:4])}{' …' if len(lacking) > 4 else ''}"
        have = "run has" if len(lacking) == 1 else "runs have"
        remarks.append(f"Not finished: {len(lacking)} {have} no result ({some}).")
    if not any(row.label == sweep.reference for row in by_row):
        remarks.append(f"The reference row, {sweep.reference}, has no result yet, so there are no differences.")
    if len({tuple(sorted(found)) for found in by_row.values()}) > 1:
        remarks.append("The rows have results of different seeds.")
    if common < most:
        remarks.append(f"Differences are over the {common} test videos that all runs answered, of up to {most}.")
    skipped = {key for result in results.values() for key in result["skipped"]}
    if skipped:
        remarks.append(f"{len(skipped)} annotated test videos are missing or broken and were left out.")
    if len({result["backbone_fingerprint"] for result in results.values()}) > len(
        {(r["experiment"]["backbone"]["name"], r["experiment"]["backbone"].get("depth")) for r in results.values()}
    ):
        remarks.append("Runs of one backbone name have different frozen weights.")
    if any(result["selected_on"] == "test" and not _kept_last(result) for result in results.values()):
        remarks.append(
            "Epochs were selected on the test split, as published AVE figures are: test accuracies are too high."
        )
    commits = {entry["commit"] for result in results.values() for entry in result["environment"]}
    if len(commits) > 1:
        remarks.append(f"The runs come from {len(commits)} versions of the code; each result names its own.")
    remarks += _mixed([entry for result in results.values() for entry in result["environment"]])
    if len({len(result["epochs"]) for result in results.values()}) > 1:
        remarks.append("Rows were trained for different numbers of epochs.")
    seeds = max(len(found) for found in by_row.values())
    if seeds < 3:
        remarks.append(f"{how_many(seeds, 'seed')}: too few to judge the variance between seeds.")
    return remarks
