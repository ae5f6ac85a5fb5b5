"""Committed results keep their meaning: each is the result of its row, and their report is what lies there."""

from pathlib import Path

import pytest

from avpea.compare import load_sweep
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
