"""Stored results of a comparison, damaged: the same report, or a sentence."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea.compare import load_sweep
from avpea.compare.grid import compare
from avpea.compare.report import _parts
from avpea.compare.statistics import paired_bootstrap
from avpea.compare.summary import Summary
from avpea.page import as_markdown
from tests.properties.kinds import outcome, spoiled_bytes, spoiled_value

RESULTS = Path(__file__).parents[2] / "results" / "mini"
SWEEP = load_sweep("mini/table3-avr").only(["LAVISH"])
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a sweep without those of others."""
    folder = tmp_path_factory.mktemp("results")
    for cell in SWEEP.cells():
        shutil.copy(RESULTS / f"{cell.name}.json", folder)
    shutil.copytree(RESULTS / "mini-table3-avr", folder / "mini-table3-avr")
    return folder


def _page(summary: Summary, folder: Path) -> Path:
    """The report without its pictures, which take long."""
    assert as_markdown("", list(_parts(summary, {})))
    return folder


@pytest.mark.parametrize("damage", ["one result", "the costs"])
@given(drawn=st.data())
def test_a_spoiled_result_is_reported_or_refused(out: Path, damage: str, drawn: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avpea.compare.grid.write_report", _page)
        few = functools.partial(paired_bootstrap, draws=100)
        patch.setattr("avpea.compare.summary.paired_bootstrap", few)
        path = sorted(out.glob("*.json"))[0] if damage == "one result" else out / "mini-table3-avr" / "cost.json"
        whole = path.read_bytes()
        try:
            if drawn.draw(st.booleans()):
                path.write_text(json.dumps(drawn.draw(spoiled_value(json.loads(whole)))))
            else:
                path.write_bytes(drawn.draw(spoiled_bytes(whole)))
            outcome(functools.partial(compare, SWEEP, runs=out / "runs", out=out, run=False))
        finally:
            path.write_bytes(whole)
