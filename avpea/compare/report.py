"""The report of a comparison, as HTML, Markdown, LaTeX and CSV, from a summary of the stored results."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from avpea.compare.summary import RowSummary, Summary
from avpea.errors import AvpeaError
from avpea.files import write_json, write_text, writing
from avpea.formats import csv_line
from avpea.metrics.figures import headline
from avpea.page import Figures, Heading, Part, Picture, Text, as_html, as_latex, as_markdown

__all__ = ["require_pictures", "write_report"]


def write_report(summary: Summary, folder: Path) -> Path:
    """Write `index.html` (in a single file), `report.md` with its pictures, `report.tex`, `rows.csv`, `summary.json`.

    Returns:
        The path of `index.html`.

    Raises:
        AvpeaError: matplotlib is not installed.
    """
    require_pictures()
    from avpea.compare.figures import draw

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    parts = list(_parts(summary, draw(summary, folder)))
    write_text(folder / "report.md", as_markdown(summary.title, parts))
    write_text(folder / "report.tex", as_latex(summary.title, parts))
    write_text(folder / "rows.csv", "".join(map(csv_line, _csv_rows(summary))))
    page = folder / "index.html"
    write_text(page, as_html(summary.title, parts))
    write_json(folder / "summary.json", summary.to_dict(), indent=1)
    return page


def require_pictures() -> None:
    """Refuse to begin what ends in a report whose pictures could not be drawn.

    Raises:
        AvpeaError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise AvpeaError('The report needs matplotlib: `pip install "avpea[plot]"`.')


def _which_epoch(summary: Summary) -> str:
    if len(summary.last) == len(summary.rows):
        return "the last epoch was kept"
    chosen = f"the epoch was chosen on {summary.selected_on}"
    return f"{chosen}, and the last was kept in {', '.join(summary.last)}" if summary.last else chosen


def _parts(summary: Summary, pictures: Mapping[str, tuple[Path, str]]) -> Iterator[Part]:
    metric, seeds = summary.figure, sorted({seed for row in summary.rows for seed in row.seeds})
    yield Text(
        f"Sweep `{summary.sweep}`, seeds {', '.join(map(str, seeds))}, {summary.videos} test videos; "
        f"{_which_epoch(summary)}. {metric.heading()}, mean ± sample standard deviation over seeds."
    )
    for remark in summary.remarks:
        yield Text(f"Note: {remark}")
    yield Heading("Result")
    columns = ["", "test", f"less {summary.reference}, 95 % interval", summary.selected_on, "seeds"]
    beside = [key for key in metric.beside if any(row.beside.get(key) is not None for row in summary.rows)]
    columns += [metric.beside[key] for key in beside]
    published = any(row.published for row in summary.rows) or bool(summary.quoted)
    columns += ["published"] * published
    rows = [
        [
            *_accuracy_cells(row),
            *(_spread(row.beside[key], row.beside_std[key]) for key in beside),
            *([headline(row.published)] * published),
        ]
        for row in summary.rows
    ]
    for label, figures in summary.quoted.items():
        rows.append([f"{label} (quoted)", *[""] * (len(columns) - 2), headline(figures)])
    yield Figures(columns, rows, strong=_index(summary))
    for name, share in summary.references.items():
        yield Text(f"For comparison, {name}: {_percent(share)}.")
    yield Text(
        "The interval is a paired bootstrap of the difference (10,000 draws of the test videos, the same for both "
        "rows, and of each row's seeds). One that holds 0 shows no difference at this size."
    )
    if published and summary.published_where:
        yield Text(
            f"Published: {summary.published_where}. To be compared with these figures only as far as data, weights and "
            "protocol are the same."
        )
    for label, figures in summary.quoted.items():
        if "why" in figures:
            yield Text(f"{label} is only quoted: {figures['why']}.")
    yield from _picture(pictures, "parameters")
    yield from _cost_parts(summary)
    yield Heading("Learning curves")
    yield from _picture(pictures, "curves")
    if "gates" in pictures:
        yield Heading("Gates over training")
        yield from _picture(pictures, "gates")
    yield Heading(metric.parts)
    yield from _picture(pictures, "classes")
    names = dict.fromkeys(name for row in summary.rows for name in row.per_class)  # a row may lack some
    yield Figures(
        [metric.part, *(row.label for row in summary.rows)],
        [[name, *(_percent(row.per_class.get(name), 1) for row in summary.rows)] for name in names],
    )
    yield Heading("Where it ran")
    for entry in summary.environments:
        yield Text(", ".join(f"{key} {value}" for key, value in entry.items() if value is not None))


def _accuracy_cells(row: RowSummary) -> list[str]:
    test = _spread(row.test_mean, row.test_std)
    return [row.label, test, row.less(), _percent(row.selection_mean), str(len(row.seeds))]


def _cost_parts(summary: Summary) -> Iterator[Part]:
    yield Heading("Cost")
    columns = ["", "adapters", "trained with head", "minutes of training"]
    if summary.cost_machine is not None:
        columns += ["step, s", f"step over {summary.reference}", "peak MB"]
    rows = []
    for row in summary.rows:
        cells = [row.label, f"{row.adapters:,}", f"{row.trained:,}", f"{row.train_minutes:.1f}"]
        if row.step is not None:
            low, high = row.step["over_reference"]["quartiles"]
            over = f"{row.step['over_reference']['median']:.2f} ({low:.2f} to {high:.2f})"
            cells += [f"{row.step['step_seconds']:.2f}", over, f"{row.step['peak_mb']:,}"]
        rows.append(cells + [""] * (len(columns) - len(cells)))
    yield Figures(columns, rows, strong=_index(summary))
    yield Text("Minutes of training are wall time on a machine that may have been busy with other runs.")
    if summary.cost_machine is not None:
        m = summary.cost_machine
        yield Text(
            f"Steps: forward, loss, backward and optimiser over one batch, in turns with {summary.reference}; median, "
            f"and quartiles of the ratio. Memory: above that of the built model, in a process of its own. Measured on "
            f"{m['processor']} with {m['threads']} threads, load {m['load']}, torch {m['torch']}, {m['date']}."
        )


def _csv_rows(summary: Summary) -> Iterator[list[Any]]:
    """A heading, and a row for each row of the sweep, with unrounded shares; what was published is in percent."""
    part, beside = summary.figure.part, list(summary.figure.beside)
    names = list(dict.fromkeys(name for row in summary.rows for name in row.per_class))
    yield [
        "row", "metric", "test_videos", "seeds", "test_mean", "test_std", "difference", "interval_low", "interval_high",
        "selection_mean", *beside, *(f"{key}_std" for key in beside), "adapter_parameters", "trained_parameters",
        "train_minutes", "step_seconds", "peak_mb", "published", *(f"{part}: {name}" for name in names),
    ]  # fmt: skip
    for row in summary.rows:
        step, interval = row.step or {}, row.interval or (None, None)
        yield [
            row.label, summary.figure.metric, summary.videos, " ".join(map(str, row.seeds)), row.test_mean,
            row.test_std, row.difference, *interval, row.selection_mean, *(row.beside.get(key) for key in beside),
            *(row.beside_std.get(key) for key in beside), row.adapters, row.trained, row.train_minutes,
            step.get("step_seconds"), step.get("peak_mb"), headline(row.published),
            *(row.per_class.get(name) for name in names),
        ]  # fmt: skip


def _index(summary: Summary) -> int | None:
    return next((i for i, row in enumerate(summary.rows) if row.label == summary.reference), None)


def _percent(share: float | None, digits: int = 2) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}"


def _spread(mean: float | None, deviation: float | None) -> str:
    """The mean over seeds, with its deviation if there is one."""
    return _percent(mean) if deviation is None else f"{_percent(mean)} ± {_percent(deviation)}"


def _picture(pictures: Mapping[str, tuple[Path, str]], name: str) -> Iterator[Part]:
    if name in pictures:
        yield Picture(*pictures[name])
