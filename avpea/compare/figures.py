"""The figures of the report: accuracy over parameters, learning curves, gates over training, and classes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, BboxBase

from avpea.compare.summary import RowSummary, Summary
from avpea.files import replacing
from avpea.plot.style import (
    COLOURS,
    INK,
    above,
    boxes_for_missing_letters,
    frame,
    label_width,
    legend,
    new_figure,
    plain,
    quiet,
    write,
)

__all__ = ["draw"]


def draw(summary: Summary, folder: Path) -> dict[str, tuple[Path, str]]:
    """Draw all figures for which there is data; returns the file and a caption by name."""
    metric = summary.figure
    drawings: dict[str, tuple[Callable[[Summary], Any], str]] = {
        "parameters": (_parameters, f"Test {metric.name} over trained adapter parameters, with deviation over seeds"),
        "curves": (
            _curves,
            f"{metric.heading()} on {summary.selected_on}, and training loss, by epoch: mean and range over seeds",
        ),
        "gates": (_gates, "Mean size of the adapters' gates after each epoch"),
        "classes": (_classes, f"{metric.parts}: difference from the reference row, times 100"),
    }
    made = {}
    for name, (make, says) in drawings.items():
        with boxes_for_missing_letters():
            figure = make(summary)
            if figure is None:
                continue
            path = folder / f"{name}.png"
            with replacing(path) as aside:
                figure.savefig(aside, format="png", dpi=110, metadata={"Software": None})
            made[name] = (path, says)
    return made


def _colours(summary: Summary) -> dict[str, str]:
    others = [row.label for row in summary.rows if row.label != summary.reference]
    more = (*COLOURS, "#7f6000", "#5a4fcf", "#6b7280", "#8c2d04")
    return {summary.reference: INK} | {label: more[i % len(more)] for i, label in enumerate(others)}


def _parameters(summary: Summary) -> Any:
    metric = summary.figure
    figure = new_figure(7.4, 4.0, f"{metric.heading()} over parameters")
    axes = figure.add_axes((0.09, 0.14, 0.86, 0.66))
    colours = _colours(summary)
    points = {row.label: (row.adapters / 1e6, 100 * row.test_mean, 100 * (row.test_std or 0.0)) for row in summary.rows}
    for label, (x, y, deviation) in points.items():
        axes.errorbar(x, y, yerr=deviation, fmt="o", color=colours[label], capsize=3)
    axes.set_xscale("symlog", linthresh=0.01, linscale=0.4)  # rows without an adapter are at 0
    axes.set_xlim(-0.004, 4 * max(0.1, *(x for x, _, _ in points.values())))  # room for the last label
    _label(axes, points, colours)
    quiet(axes)
    write(axes, 0, above(axes, 0.12), f"test {metric.name}, {metric.unit}", size=8.5)
    write(axes, 1, -0.15, "parameters of the adapters, millions", size=8.5, ha="right")
    return figure


# Where the label of a point may stand: offset from it in points, and which end or edge of the text is there.
_PLACES = (
    (7, 5, "left", "bottom"), (-7, 5, "right", "bottom"), (7, -5, "left", "top"), (-7, -5, "right", "top"),
    (7, 14, "left", "bottom"), (-7, 14, "right", "bottom"), (7, -14, "left", "top"), (-7, -14, "right", "top"),
)  # fmt: skip


def _label(axes: Any, points: dict[str, tuple[float, float, float]], colours: dict[str, str]) -> None:
    """Write each point's label beside it, at the place where least of it lies on others, on points or outside."""
    inside = axes.get_window_extent()
    ends = [[(x, y - deviation), (x, y + deviation)] for x, y, deviation in points.values()]
    taken = [Bbox(axes.transData.transform(bar)).padded(4) for bar in ends]
    for label, (x, y, _) in points.items():
        text = axes.annotate(
            plain(label, 40), (x, y), xytext=(0, 0), textcoords="offset points", fontsize=8.5, color=colours[label],
            parse_math=False,
        )  # fmt: skip
        costs = [(_cost(_placed(text, place), inside, taken), place) for place in _PLACES]
        taken.append(_placed(text, min(costs, key=lambda one: one[0])[1]))


def _placed(text: Any, place: tuple[int, int, str, str]) -> Bbox:
    """Put a label at a place; where it is then, in pixels."""
    text.xyann = place[:2]
    text.set(ha=place[2], va=place[3])
    box: Bbox = text.get_window_extent()
    return box


def _cost(box: Bbox, inside: Bbox, taken: list[Bbox]) -> float:
    """How much of a box is not inside, or lies on what is taken, in square pixels."""
    over = sum(_area(Bbox.intersection(box, other)) for other in taken)
    return over + _area(box) - _area(Bbox.intersection(box, inside))


def _area(box: BboxBase | None) -> float:
    return 0.0 if box is None else float(box.width * box.height)


def _curves(summary: Summary) -> Any:
    figure = new_figure(9.4, 3.9, "Learning curves")
    colours, metric = _colours(summary), summary.figure
    chosen = summary.selected_on.partition(",")[0]
    panels = (
        (f"{chosen}/{summary.figure.metric}", f"{chosen} {metric.name}, {metric.unit}", 100.0),
        ("train/loss", "training loss", 1.0),
    )
    lines: dict[str, Any] = {}
    for column, (key, title, factor) in enumerate(panels):
        axes = figure.add_axes((0.06 + 0.41 * column, 0.13, 0.35, 0.66))
        for row in summary.rows:
            epochs, low, mean, high = _over_seeds(row, key, factor)
            (lines[row.label],) = axes.plot(epochs, mean, "o-", ms=3, lw=1.4, color=colours[row.label])
            axes.fill_between(epochs, low, high, color=colours[row.label], alpha=0.12, lw=0)
        quiet(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        write(axes, 0, above(axes, 0.12), title, size=8.5)
        write(axes, 1, -0.16, "epoch", size=8.5, ha="right")
    legend(figure, lines, 0.83, 8)
    return figure


def _over_seeds(row: RowSummary, key: str, factor: float) -> tuple[Any, Any, Any, Any]:
    length = min(len(seed) for seed in row.epochs)
    values = factor * np.array([[epoch.get(key, np.nan) for epoch in seed[:length]] for seed in row.epochs])
    epochs = [epoch["epoch"] for epoch in row.epochs[0][:length]]
    return epochs, values.min(axis=0), values.mean(axis=0), values.max(axis=0)


def _gate_lines(row: RowSummary) -> Iterator[tuple[str, Any, Any]]:
    """For each gate (`attn.audio.output_gate`), epochs and its mean magnitude over blocks and seeds after each."""
    length = min(len(seed) for seed in row.epochs)
    seeds = [[epoch.get("gates") or {} for epoch in seed[:length]] for seed in row.epochs]
    seeds = [gates for gates in seeds if gates and gates[0]]
    for gate in seeds[0][0] if seeds else ():
        sizes = np.array([[np.abs(epoch[gate]).mean() for epoch in gates] for gates in seeds])
        epochs = [epoch["epoch"] for epoch in row.epochs[0][:length]]
        yield gate, epochs, sizes.mean(axis=0)


def _gates(summary: Summary) -> Any:
    lines = [(row.label, *line) for row in summary.rows for line in _gate_lines(row)]
    if not lines:
        return None
    figure = new_figure(9.4, 3.9, "Gates over training: mean of |gate| over blocks and seeds")
    colours = _colours(summary)
    dashes = {"attn.visual": "-", "attn.audio": "--", "mlp.visual": "-.", "mlp.audio": ":"}
    named: dict[str, Any] = {}
    kinds = (("output_gate", "output gate h"), ("cross_gate", "cross-modal gate g"))
    for column, (kind, title) in enumerate(kinds):
        axes = figure.add_axes((0.06 + 0.39 * column, 0.13, 0.33, 0.66))
        for label, gate, epochs, sizes in lines:
            where, _, name = gate.rpartition(".")
            if name == kind:
                (line,) = axes.plot(epochs, sizes, dashes.get(where, "-"), lw=1.4, color=colours[label])
                if column == 0:
                    named[f"{label}, {where.replace('.', ' ')}"] = line
        quiet(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        write(axes, 0, above(axes, 0.12), title, size=8.5)
        write(axes, 1, -0.16, "epoch", size=8.5, ha="right")
    legend(figure, named, 0.79, 7.5)
    return figure


def _classes(summary: Summary) -> Any:
    reference = next((row for row in summary.rows if row.label == summary.reference), None)
    others = [row for row in summary.rows if row is not reference]
    if reference is None or not others:
        return None
    names = list(reference.per_class)
    table = np.full((len(others), len(names)), np.nan)
    for i, row in enumerate(others):
        for j, name in enumerate(names):
            here, there = row.per_class.get(name), reference.per_class[name]
            if here is not None and there is not None:
                table[i, j] = 100 * (here - there)
    left = 0.3 + max(label_width(plain(row.label, 40)) for row in others)
    below = 0.3 + max(label_width(plain(name, 24)) for name in names)
    width, height = left + 0.42 * len(names) + 0.3, below + 0.32 * len(others) + 0.7
    figure = new_figure(width, height, f"{summary.figure.parts}: points over {summary.reference}")
    axes = figure.add_axes((left / width, below / height, 1 - (left + 0.2) / width, 1 - (below + 0.6) / height))
    reach = max(1.0, float(np.nanmax(np.abs(table))) if np.isfinite(table).any() else 1.0)
    axes.imshow(table, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    for i, j in np.argwhere(np.isfinite(table)):
        strong = abs(table[i, j]) > 0.6 * reach
        axes.text(
            j, i, f"{table[i, j]:+.0f}", ha="center", va="center", fontsize=7, color="white" if strong else "#1f2328"
        )
    axes.set_yticks(range(len(others)), [plain(row.label, 40) for row in others], fontsize=8.5)
    axes.set_xticks(range(len(names)), [plain(name, 24) for name in names], fontsize=8, rotation=90)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    axes.tick_params(length=0)
    frame(axes)
    return figure
