"""The frame of the harness of faults: parts are kept side by side, and none is forgotten by another's run."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults import __main__ as frame
from tests.faults import commands, kills, writes

ROOT = Path(__file__).parents[1]


def test_a_part_replaces_only_its_own_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: dict[str, Any] = {"lost": 0}
    for name in ("media", "writes"):
        part = SimpleNamespace(run=lambda long, *share, name=name: {**figures, "name": name, "share": share})
        monkeypatch.setitem(sys.modules, f"tests.faults.{name}", part)
    monkeypatch.setattr(frame, "PARTS", ("media", "writes"))
    out = tmp_path / "deep" / "faults.json"
    frame.main(["--out", str(out)])
    figures["lost"] = 2
    frame.main(["writes", "--long", "--share", "0.25", "--out", str(out)])
    kept = json.loads(out.read_text())
    assert [kept["media"]["figures"]["lost"], kept["writes"]["figures"]["lost"]] == [0, 2]
    assert kept["writes"]["command"] == "python -m tests.faults writes --long --share 0.25"
    assert [kept["media"]["figures"]["share"], kept["writes"]["figures"]["share"]] == [[], [0.25]]
    with pytest.raises(SystemExit):
        frame.main(["media", "--share", "0.25", "--out", str(out)])
    assert {"avpea", "torch", "commit", "cores"} <= kept["media"]["machine"].keys()
    assert "av" in kept["media"]["versions"]
    assert str(ROOT) not in out.read_text()


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        frame.main(["meida"])
    assert ended.value.code == 2
    assert "no part is called meida" in capsys.readouterr().err


@pytest.fixture(scope="module")
def place() -> Iterator[commands.Place]:
    with pytest.MonkeyPatch.context() as patch:
        # A place sets these for its commands; here they have to be for other tests again what they were.
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "OMP_NUM_THREADS", "HF_HUB_OFFLINE"):
            patch.setenv(name, os.environ.get(name, ""))
        with commands.new_place() as made:
            yield made


@pytest.mark.slow
def test_signals_at_random_moments_change_nothing(place: commands.Place) -> None:
    """A few moments of two commands; `python -m tests.faults kills` takes all of them."""
    figures = kills.trials(place, 3, seed=1, names=("train and fill the cache", "evaluate"))
    assert {name: figures[name] for name in kills.PROMISED} == dict.fromkeys(kills.PROMISED, 0), figures["faults"]


@pytest.mark.slow
def test_what_the_place_refuses_is_a_sentence_and_changes_nothing(place: commands.Place) -> None:
    """A few faults of two commands; `python -m tests.faults writes` takes all of them."""
    figures = writes.trials(place, 5, names=("calibrate", "evaluate"))
    assert {name: figures[name] for name in writes.PROMISED} == dict.fromkeys(writes.PROMISED, 0), figures["faults"]
