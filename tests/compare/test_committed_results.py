"""Committed results keep their meaning: each is the result of its row, and their report is what lies there."""

from itertools import combinations
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

# isort: split
from matplotlib.text import Annotation

from avpea.compare import load_sweep
from avpea.compare.figures import _parameters
from avpea.compare.report import _parts
from avpea.compare.results import load, read_costs
from avpea.compare.summary import summarise
from avpea.page import as_markdown

RESULTS = Path(__file__).parents[2] / "results" / "mini"
SWEEPS = ["mini/table1", "mini/table2", "mini/table3-avr", "mini/table3-avc", "mini/table4"]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_cell_has_its_result_and_the_report_follows_from_them(name: str) -> None:
    sweep = load_sweep(name)
    found, wrong = load(sweep, RESULTS)
    assert wrong == []
    assert list(found) == list(sweep.cells())
    folder = RESULTS / sweep.folder
    summary = summarise(sweep, found, read_costs(folder, sweep))
    text = as_markdown(summary.title, list(_parts(summary, {})))
    kept = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    pictures = [index for index, line in enumerate(kept) if line.startswith("![")]
    without = [line for index, line in enumerate(kept) if index not in pictures and index - 1 not in pictures]
    assert [line for line in text.splitlines() if line not in ("## Gates over training", "")] == [
        line for line in without if line not in ("## Gates over training", "")
    ]


def test_a_figure_that_is_no_mean_over_videos_has_no_interval() -> None:
    """As the mIoU of masks of classes, which is a mean over classes: of videos the difference may have another sign."""
    sweep = load_sweep("mini/table1")
    found, _ = load(sweep, RESULTS)
    before = {row.label: row for row in summarise(sweep, found, None).rows}
    other = next(row for row in before if row != sweep.reference)
    for cell, result in found.items():
        if cell.row.label == other:
            found[cell] = {**result, "test": {**result["test"], "segment_accuracy": 0.25}}
    summary = summarise(sweep, found, None)
    after = {row.label: row for row in summary.rows}
    assert after[other].difference == pytest.approx(0.25 - before[sweep.reference].test_mean)
    assert {row.interval for row in summary.rows} == {None}
    assert after[other].less() == f"{100 * (0.25 - before[sweep.reference].test_mean):+.2f}"
    assert "is no mean over videos here, so its differences have no intervals." in summary.remarks[-1]


@pytest.mark.parametrize("name", ["mini/avs-digits", "mini/table1"])
def test_no_label_of_a_point_lies_on_another_one_or_outside(name: str) -> None:
    sweep = load_sweep(name)
    figure = _parameters(summarise(sweep, load(sweep, RESULTS)[0], None))
    axes = figure.axes[0]
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(labels) == len(sweep.rows)
    boxes = [label.get_window_extent() for label in labels]
    assert all(figure.bbox.containsx(x) and figure.bbox.containsy(y) for box in boxes for x, y in box.corners())
    assert not [(a, b) for a, b in combinations(boxes, 2) if a.padded(-1).overlaps(b.padded(-1))]
