"""Stored results and costs: whose they are, and when they are not used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from avpea import backbones, measure
from avpea.checkpoint import weights_fingerprint
from avpea.compare import cost
from avpea.compare.grid import _stored_costs
from avpea.compare.results import described, load, read
from avpea.compare.summary import summarise
from avpea.compare.sweep import Cell, Sweep, load_sweep
from avpea.errors import AvpeaError
from tests.tiny import write_weights

Make = Callable[..., Any]
RESULTS = Path(__file__).parents[2] / "results" / "mini"


def grid(folder: Path, experiment: Any, *rows: dict[str, Any]) -> Sweep:
    """A sweep of one seed over an experiment with changed options; the first row is the reference."""
    (folder / "tiny.yaml").write_text(experiment.to_yaml(), encoding="utf-8")
    named = {f"row {index}": {"recipe": str(folder / "tiny.yaml"), **row} for index, row in enumerate(rows)}
    (folder / "grid.yaml").write_text(yaml.safe_dump({"seeds": [0], "rows": named}), encoding="utf-8")
    return load_sweep(folder / "grid.yaml")


def keep(out: Path, cell: Cell, **known: Any) -> None:
    """Store a result, as far as it says whose it is."""
    result = {
        "format": "avpea-result-1", "experiment": described(cell.experiment), "epochs": [{}], "test": {},
        "test_videos": {}, "parameters": {}, "backbone_fingerprint": "0" * 64, **known,
    }  # fmt: skip
    (out / f"{cell.name}.json").write_text(json.dumps(result), encoding="utf-8")


def refused(out: Path, cell: Cell) -> str:
    """Why a stored result is not that of a cell; empty if it is."""
    try:
        assert read(out, cell) is not None
    except AvpeaError as error:
        return str(error)
    return ""


def test_a_result_of_another_start_is_not_used(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    (cell,) = grid(tmp_path, tiny_experiment(), {}).cells()

    def of(start: str | Path) -> Cell:
        (found,) = grid(tmp_path, tiny_experiment(**{"train.start_from": str(start)}), {}).cells()
        return found

    keep(tmp_path, of("/runs/A"))  # as earlier versions did, which knew the name alone
    assert not refused(tmp_path, of("/elsewhere/A"))
    assert "(train.start_from is A, not B)" in refused(tmp_path, of("/runs/B"))
    assert "(train.start_from is A, not empty)" in refused(tmp_path, cell)
    keep(tmp_path, of("/runs/A"), started_from=weights_fingerprint(tiny_run))
    assert not refused(tmp_path, of("/runs/A"))  # it is not here, as where only a report is written
    assert not refused(tmp_path, of(shutil.copytree(tiny_run, tmp_path / "B")))
    assert "train.start_from is of fingerprint" in refused(tmp_path, cell)
    keep(tmp_path, of("/runs/B"), started_from="1" * 64)
    assert "train.start_from is of fingerprint 1111111111111111, not" in refused(tmp_path, of(tmp_path / "B"))


def test_a_result_of_other_frozen_weights_is_not_used(tiny_experiment: Make, tmp_path: Path) -> None:
    first, second = (
        write_weights(tmp_path / "a" / "w.safetensors", 1),
        write_weights(tmp_path / "b" / "w.safetensors", 2),
    )
    moved = shutil.copy(first, tmp_path / "moved.safetensors")

    def of(weights: str | Path) -> Cell:
        (found,) = grid(tmp_path, tiny_experiment(**{"backbone.weights": str(weights)}), {}).cells()
        return found

    digest = backbones.build(of(first).experiment.backbone).fingerprint()
    keep(tmp_path, of(first), backbone_fingerprint=digest)
    assert not refused(tmp_path, of(first))
    assert not refused(tmp_path, of(moved))
    assert not refused(tmp_path, of("/not/here/w.safetensors"))
    assert f"(backbone.weights is of fingerprint {digest[:16]}, not of" in refused(tmp_path, of(second))
    assert "(backbone.weights is w.safetensors, not random)" in refused(tmp_path, of("random"))
    found, wrong = load(grid(tmp_path, tiny_experiment(**{"backbone.weights": str(second)}), {}), tmp_path)
    assert not found
    assert len(wrong) == 1
    keep(tmp_path, of("random"), backbone_fingerprint=digest)
    assert "(backbone.weights is random, not pretrained)" in refused(tmp_path, of("pretrained"))
    assert "(backbone.weights is random, not w.safetensors)" in refused(tmp_path, of(first))


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nothing is computed where costs are measured; the number of threads of each row."""
    threads: list[int] = []

    def interleaved(*_: Any) -> dict[str, list[float]]:
        threads.append(torch.get_num_threads())
        return {"row": [1.0, 1.0], "reference": [1.0, 1.0]}

    monkeypatch.setattr(cost, "TrainingStep", lambda _: None)
    monkeypatch.setattr(measure, "interleaved", interleaved)
    monkeypatch.setattr(measure, "peak_mb", lambda *_: 1.0)
    return threads


def test_each_row_is_measured_with_its_own_number_of_threads(
    unmeasured: list[int], tiny_experiment: Make, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    rows = {"train": {"threads": before + 1}}, {"train": {"threads": 0}}
    found = cost.measure_costs(grid(tmp_path, tiny_experiment(), *rows))
    assert unmeasured == [before + 1, before]
    assert found["machine"]["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_costs_of_rows_that_have_changed_are_not_used(
    unmeasured: list[int], tiny_experiment: Make, tmp_path: Path
) -> None:
    sweep = grid(tmp_path, tiny_experiment(), {}, {"adapter": {"reduction": 4}})
    costs, said = cost.measure_costs(sweep), list[str]()
    (tmp_path / "cost.json").write_text(json.dumps(costs))

    def used(now: Sweep, device: str | None = None, measured: bool = True) -> bool:
        said.clear()
        return _stored_costs(now, tmp_path, device, said.append, measured) == costs

    assert used(sweep)
    assert not said
    moved = {"data.root": "/elsewhere", "train.seed": 3, "train.checkpoint_minutes": 9.0}
    assert used(grid(tmp_path, tiny_experiment(**moved), {}, {"adapter": {"reduction": 4}}))
    other = grid(tmp_path, tiny_experiment(), {}, {"adapter": {"reduction": 8, "cross_modal": False}})
    assert not used(other)
    assert said == [
        f"The costs in {tmp_path / 'cost.json'} were measured otherwise (row 1: adapter.cross_modal is True, not "
        "False, adapter.reduction is 4, not 8); they are measured again."
    ]
    assert not used(other, measured=False)
    assert said[0].endswith("they are left out.")
    for name, value in {"train.batch_size": 3, "train.checkpointing": True}.items():
        assert not used(grid(tmp_path, tiny_experiment(**{name: value}), {}, {"adapter": {"reduction": 4}}))
    costs["rows"]["row 0"]["device"] = "cuda (another card)"
    (tmp_path / "cost.json").write_text(json.dumps(costs))
    assert used(sweep, measured=False)  # a report of what was measured there
    assert not used(sweep)
    assert "row 0: the device is cuda (another card), not cpu" in said[0]
    for row in costs["rows"].values():
        del row["experiment"], row["device"]  # as version 0.1.0 wrote them
    (tmp_path / "cost.json").write_text(json.dumps(costs))
    assert used(other)
    assert "does not say" in said[0]


def test_runs_of_different_precision_or_devices_are_told() -> None:
    sweep = load_sweep("mini/avvp-digits")
    found, _ = load(sweep, RESULTS)
    remark = "Runs were trained in bf16 and fp32, and on cpu and cuda, which changes results, too."
    assert remark in summarise(sweep, found, None).remarks
