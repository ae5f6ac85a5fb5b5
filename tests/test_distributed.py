"""Several processes train as one: the same weights, the same validation, each sample once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpea import distributed
from avpea.distributed import gathered, mean_of, own_share, share
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from tests.several import together, trained

Make = Callable[..., Experiment]


def rows_of_three(counts: list[int]) -> dict[str, Any]:
    with distributed.joined(distributed.meet(distributed.launched()), torch.device("cpu")) as here:
        own = counts[here.rank]
        rows = torch.arange(float(max(own, 1)) * 2).reshape(-1, 2) + 10 * here.rank
        rows.requires_grad_()
        here.weight = float(own > 0)
        everything, first = gathered(rows)
        (everything * torch.arange(float(everything.numel())).reshape(everything.shape)).sum().backward()
        longer, _ = gathered(torch.ones(max(own, 1), 2 + here.rank))
        mean = mean_of(torch.tensor(float(here.rank)), torch.tensor(own))
        assert rows.grad is not None
        return {
            "rows": everything.tolist(),
            "first": first,
            "gradient": rows.grad.tolist(),
            "longer": longer.tolist(),
            "mean": float(mean * here.weight),
            "everyones": distributed.everyones(here.rank),
            "from_first": distributed.from_first(here.rank),
        }


def test_rows_of_several_processes_and_one_that_is_absent() -> None:
    found = together(3, rows_of_three, [2, 0, 1])
    for rank, one in enumerate(found):
        assert one["rows"] == [[0, 1], [2, 3], [20, 21]]
        assert len(one["longer"]) == 3
        assert one["longer"][0] == [1, 1, 0, 0]  # padded to the longest
        assert one["everyones"] == [0, 1, 2]
        assert one["from_first"] == 0
        assert rank == 1 or one["first"] == {0: 0, 2: 2}[rank]
    assert found[0]["gradient"] == [[0, 3], [6, 9]]  # what the own rows get in all three sums
    assert found[1]["gradient"] == [[0, 0]]
    assert found[2]["gradient"] == [[12, 15]]
    assert sum(one["mean"] for one in found) == pytest.approx(2 / 3)  # (0 + 2) over three answers


def test_one_process_gets_what_it_gives() -> None:
    rows = torch.ones(2, 2)
    assert gathered(rows)[0] is rows
    assert own_share([1, 2, 3]) == [1, 2, 3]
    assert distributed.everyones(5) == [5]
    assert distributed.from_first("x") == "x"
    assert float(mean_of(torch.tensor(3.0), torch.tensor(0))) == 3.0
    with share(2, 2, 1) as weight:
        assert weight == 1.0


@pytest.mark.parametrize(
    ("variables", "said"),
    [({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2"), ({"WORLD_SIZE": "x"}, "WORLD_SIZE=x"), ({"RANK": "1"}, "RANK=1")],
)
def test_variables_that_contradict_each_other(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExperimentError, match=said):
        distributed.launched()


# Five videos in batches of 3 and 2; with three processes, one is absent from the last batch of each epoch.
FIVE_STEPS = {"train.epochs": 3, "train.batch_size": 3, "train.learning_rate": 1e-2, "train.precision": "fp32"}


def compared(experiment: Experiment, tmp_path: Path, processes: int) -> None:
    """One process and several end with the same weights, losses and validation."""
    alone = together(1, trained, experiment.to_dict(), str(tmp_path / "alone"))[0]
    several = together(processes, trained, experiment.to_dict(), str(tmp_path / "several"))
    assert alone["steps"] >= 5
    for found in several:
        assert found["weights"].keys() == alone["weights"].keys()
        for name, weights in alone["weights"].items():
            np.testing.assert_allclose(found["weights"][name], weights, rtol=1e-6, atol=1e-7, err_msg=name)
        for ours, theirs in zip(found["metrics"], alone["metrics"], strict=True):
            for name in ours.keys() - {"seconds", "waited_seconds", "gates"}:
                assert ours[name] == pytest.approx(theirs[name], rel=1e-6), name


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_as_one(processes: int, tiny_experiment: Make, tmp_path: Path) -> None:
    compared(tiny_experiment(**FIVE_STEPS), tmp_path, processes)


CHANGES: dict[str, dict[str, Any]] = {
    "accumulated": {"train.accumulate": 2, "train.epochs": 5},
    "head with means over some windows": {"head.name": "cmbs"},
    "mixed": {"train.augment.mixup": 0.4, "train.augment.flip": 0.5, "train.augment.time_masks": 1},
    "computed again": {"train.checkpointing": True},
    "kept frozen layers": {"encoder.keep_frozen": True, "adapter.blocks": [1]},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_changed(name: str, tiny_experiment: Make, tmp_path: Path) -> None:
    compared(tiny_experiment(**(FIVE_STEPS | CHANGES[name])), tmp_path, 3)


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["batch", "frozen"])
def test_frames_of_other_videos_are_the_same(negatives: str, tiny_asking: Make, tmp_path: Path) -> None:
    compared(tiny_asking(**FIVE_STEPS, **{"head.negatives": negatives}), tmp_path, 3)


@pytest.mark.slow
def test_texts_are_compared_with_the_videos_of_all_processes(tiny_captioned: Make, tmp_path: Path) -> None:
    compared(tiny_captioned("avr", **FIVE_STEPS, **{"train.segments": 2}), tmp_path, 3)
