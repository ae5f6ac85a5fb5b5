"""What a plan counts is what closed forms and real runs give; its arithmetic is written out again here."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea import backbones, data
from avpea.cli import main
from avpea.errors import AvpeaError, CheckpointError, DataError, ExperimentError
from avpea.evaluate import prepare, source_of
from avpea.experiment import Experiment, load_recipe
from avpea.plan import ASSUMED, plan
from avpea.plan._counted import counted
from avpea.plan._measured import _rates
from avpea.plan._rates import Rates
from tests.data.data_factory import write_ave
from tests.tiny import ROWS

Make = Callable[..., Experiment]
RATES = Rates(
    start_seconds=1, decode_seconds=2, workers_seconds=3, frozen_seconds=0, read_seconds=0.01, step_seconds=5,
    answer_seconds=0.25, save_seconds=0.125, host_mb=1000, worker_mb=400, device_mb=0, sample_bytes=1e6,
    frozen_bytes=0, model_bytes=2e6, state_bytes=6e6,
)  # fmt: skip


@pytest.fixture
def given_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates that are given instead of measured."""
    monkeypatch.setattr("avpea.plan._plan.measured", lambda *_: asdict(RATES))


def parts(found: Any) -> dict[str, float]:
    return {need.part: need.amount for need in (*found.times, *found.memory, *found.disk)}


@pytest.mark.usefixtures("given_rates")
def test_times_memory_and_disk_are_rates_times_counts(tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(**{"data.cache": str(tmp_path / "new"), "data.workers": 2, "train.accumulate": 2})
    found = plan(experiment)
    assert found.source == "measured"
    assert found.sizes.to_dict() == {
        "train": 5,
        "chosen": 3,
        "test": 3,
        "entries": 8,
        "to_decode": 8,
        "test_entries": 3,
        "test_to_decode": 3,
    }
    given = parts(found)
    assert given["decode"] in (8 * 2 / 1 + 3, 8 * 2 / 2 + 3)  # on one core or two
    assert given["train"] == 3 * 2 * 5  # 3 epochs, 3 batches of 2, 2 of them in a step
    assert given["select"] == 3 * 3 * 0.25
    assert given["calibrate"] == (3 + 5) * 0.25
    assert given["save"] == 3 * 0.125
    assert given["evaluate"] == pytest.approx(given["start"] + 3 * 2 + 3 * 0.25)  # three videos start no processes
    assert given["memory"] == 1e9 + (2 + 1 + 1) * 2 * 1e6  # a step takes two batches, one is read, one comes next
    assert given["memory to decode"] == (2 + 1) * 0.4e9
    assert given["sample cache"] == 11e6
    assert given["run"] == 8e6
    assert found.seconds == sum(need.amount for need in found.times) - given["evaluate"]


@pytest.mark.usefixtures("given_rates")
def test_one_of_a_kind_is_told_as_one(tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avpea.plan._plan._MANY", 1)
    experiment = tiny_experiment(**{"data.cache": str(tmp_path), "data.workers": 1, "train.epochs": 1})
    found = plan(experiment, samples=(1, 1, 1))
    why = {need.part: need.why for need in (*found.times, *found.memory, *found.disk)}
    assert why["train"].startswith("1 × 1 step, ")
    assert why["select"].startswith("1 × 1 sample, ")
    assert why["evaluate"] == "1 test sample in one process, after 1 is decoded"
    assert why["memory to decode"].startswith("before that; 1 process that decodes, and 1 that waits, ")
    assert " 1 samples" not in str(list(found.report()))
    many = plan(experiment, samples=(20, 3, 2)).times
    assert many[-1].why == "2 test samples in one process, after 2 are decoded"


@pytest.mark.usefixtures("given_rates")
def test_what_is_cached_is_not_decoded(tiny_experiment: Make) -> None:
    experiment = tiny_experiment()
    prepare(experiment, data.read(experiment.data), ["train", "val", "test"], progress=False)
    found = plan(experiment)
    assert found.sizes.to_decode == found.sizes.test_to_decode == 0
    assert parts(found)["decode"] == 0


def test_kept_activations_are_planned_within_their_limit(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = asdict(replace(RATES, frozen_seconds=0.5, frozen_bytes=4e6))
    monkeypatch.setattr("avpea.plan._plan.measured", lambda *_: rates)
    changes = {"data.cache": str(tmp_path / "new"), "encoder.keep_frozen": True, "adapter.blocks": [-1]}
    whole = parts(plan(tiny_experiment(**changes)))
    assert (whole["frozen tokens"], whole["frozen layers"]) == (11 * 4e6, 8 * 0.5)
    assert "frozen layers again" not in whole
    bounded = parts(plan(tiny_experiment(**changes, **{"encoder.keep_gb": 0.025})))
    assert (bounded["frozen tokens"], bounded["frozen layers"]) == (6 * 4e6, 8 * 0.5)
    assert bounded["frozen layers again"] == 3 * 2 * 0.5  # 3 epochs, 2 samples


@pytest.mark.usefixtures("given_rates")
def test_processes_share_the_work(tiny_experiment: Make) -> None:
    one, two = plan(tiny_experiment()), plan(tiny_experiment(**{"train.devices": 2}))
    assert parts(two)["select"] == parts(one)["select"] / 2
    assert parts(two)["memory"] == 2 * (parts(one)["memory"] - 3e6)  # each has one of the two samples of a batch
    exchanged = parts(two)["train"] - parts(one)["train"]  # of as many steps, whose seconds are given
    assert exchanged == pytest.approx(3 * 3 * 4 * two.counts.trained_parameters / 1e10)


@pytest.mark.usefixtures("given_rates")
def test_reading_that_takes_longer_than_computing_is_told(
    tiny_experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = asdict(replace(RATES, read_seconds=10.0))
    monkeypatch.setattr("avpea.plan._plan.measured", lambda *_: slow)
    found = plan(tiny_experiment())
    assert parts(found)["train"] == 3 * 3 * 2 * 10
    assert any(note.startswith("Reading is the limit") for note in found.notes)


@pytest.mark.usefixtures("given_rates")
def test_a_disk_or_a_memory_that_is_too_small_is_told(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_experiment(**{"data.cache": str(tmp_path / "new")})
    monkeypatch.setattr("avpea.plan._plan._free", lambda folder: 18.9e6)
    monkeypatch.setattr("avpea.plan._plan._available", lambda: 0.9e9)
    notes = plan(experiment).notes
    assert any("The disk is too small: 19 MB are to be written" in note for note in notes)
    assert any("The memory is too small: 1.01 GB of 900 MB" in note for note in notes)
    monkeypatch.setattr("avpea.plan._plan._free", lambda folder: 19.1e6)
    monkeypatch.setattr("avpea.plan._plan._available", lambda: 1.1e9)
    assert not [note for note in plan(experiment).notes if "too small" in note]


def test_operations_are_those_of_the_closed_form(tiny_experiment: Make) -> None:
    """A ViT without adapters: what its matrix products and attention take, a multiplication and addition being two."""
    experiment = tiny_experiment(**{"adapter.streams": "none"})
    found = counted(experiment, None, half=False)
    vit = backbones.shape_only(experiment.backbone)
    dim, side, patch = vit.dim, 32, 16
    patches = (side // patch) ** 2
    tokens = patches + 1
    matrices = [
        tuple(one.shape) for name, one in vit.state_dict().items() if name.startswith("layers") and one.ndim == 2
    ]
    linear = sum(2 * tokens * rows * columns for rows, columns in matrices)
    attention = 2 * 4 * tokens**2 * dim  # of two blocks
    embedding = 2 * patches * 3 * patch**2 * dim
    hidden = 512
    head = 2 * (2 * dim * hidden + hidden * 29)  # 28 classes and background, for each second
    assert found.answer_flops == 3 * (2 * (linear + attention + embedding) + head)
    # Nothing passes back into the ViT: the products for the head's weights, and those for what enters its second layer.
    assert found.train_flops == found.answer_flops + 3 * (head + 2 * hidden * 29)


@pytest.mark.slow
def test_training_everything_takes_three_times_a_forward_pass() -> None:
    found = counted(load_recipe("mini/avel-full"), None, half=False)
    assert found.train_flops == pytest.approx(3 * found.answer_flops, rel=0.02)
    assert found.whole


def test_checkpointing_takes_more_operations_and_keeps_less(tiny_experiment: Make) -> None:
    usual = counted(tiny_experiment(**{"train.batch_size": 2}), None, half=False)
    again = counted(tiny_experiment(**{"train.checkpointing": True}), None, half=False)
    assert again.activation_bytes < usual.activation_bytes
    assert usual.train_flops < again.train_flops <= usual.train_flops + usual.answer_flops
    assert again.answer_flops == usual.answer_flops


CHECKED = json.loads((Path(__file__).parents[1] / "bench" / "results" / "gpu.json").read_text("utf-8"))["parts"]
QUICK = ("ViT-B/16 none, bf16", "ViT-B/16 full, bf16, checkpointed")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row["what"], marks=() if row["what"] in QUICK else pytest.mark.slow)
        for part in ("speed-base", "speed-ways", "speed-large")
        for row in CHECKED[part]["rows"]
    ],
)
def test_the_memory_of_a_step_is_what_a_gpu_check_has_measured(row: dict[str, Any]) -> None:
    like = Experiment.from_dict(row["experiment"])
    found = counted(like, None, half=like.train.precision == "bf16")
    assert found.step_bytes == pytest.approx(row["peak_mb"] * 2**20, rel=0.2)


@pytest.mark.slow  # what a process takes depends on what else the machine does: once in three runs it was a third more
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process's memory needs Linux")
def test_the_memory_of_a_step_is_what_a_processor_takes() -> None:
    """Here a process's memory before the step has the weights, and what it takes more, at least, is compared."""
    from avpea import measure

    changes = {"backbone.weights": "random", "train.device": "cpu", "train.threads": 1, "train.precision": "fp32"}
    experiment = load_recipe("mini/avel-full").override(changes | {"backbone.depth": 4})
    found = counted(experiment, None, half=False)
    weights = 4.0 * (found.frozen_parameters + 2 * found.trained_parameters)
    taken = min(measure.peak_mb("avpea.compare.cost", json.dumps(experiment.to_dict())) for _ in range(2)) * 2**20
    assert found.step_bytes - weights == pytest.approx(taken, rel=0.25)


def test_bytes_are_those_of_a_run(tiny_experiment: Make, tiny_run: Path) -> None:
    experiment = tiny_experiment()
    found = plan(experiment, measure=False)
    assert found.source == "counted"
    assert found.rates.model_bytes == pytest.approx((tiny_run / "model.safetensors").stat().st_size, rel=0.25)
    assert found.rates.state_bytes == pytest.approx((tiny_run / "state.safetensors").stat().st_size, rel=0.25)
    cache: Any = source_of(experiment)
    files = [path.stat().st_size for path in cache.folder.rglob("*.safetensors")]
    assert found.rates.sample_bytes == pytest.approx(sum(files) / len(files), rel=0.05)


def test_a_few_steps_are_measured_and_nothing_is_left(tiny_experiment: Make, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    found = plan(tiny_experiment(**{"data.cache": str(cache)}))
    assert found.source == "measured"
    assert not cache.exists()
    rates = found.rates
    assert all(getattr(rates, name) > 0 for name in ("step_seconds", "answer_seconds", "decode_seconds"))
    assert 100 < rates.host_mb < 5000
    assert found.rates.sample_bytes == pytest.approx(3 * (32 * 32 * 3 + 98 * 32 * 4), rel=0.1)


@pytest.mark.parametrize("measure", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_batches_that_wait_need_memory(measure: bool, tiny_experiment: Make, tmp_path: Path) -> None:
    """Those that a step accumulates, and those that are read ahead; kept outputs of frozen layers are larger."""

    def memory(**changes: Any) -> tuple[float, Any]:
        experiment = tiny_experiment(**{"data.cache": str(tmp_path / "cache"), "train.readers": 1, **changes})
        found = plan(experiment, measure=measure)
        return parts(found)["memory"], found.rates

    share = tiny_experiment().train.batch_size
    noise = 3e7 if measure else 1.0
    for kept in (False, True):
        changes = {"adapter.name": "ladder", "encoder.keep_frozen": kept}
        (one, rates), (many, _) = memory(**changes), memory(**changes, **{"train.accumulate": 1001})
        each = rates.frozen_bytes if kept else rates.sample_bytes
        assert many - one == pytest.approx(1000 * share * each, abs=noise)


@pytest.mark.usefixtures("given_rates")
def test_numbers_of_samples_take_the_place_of_a_data_set(tiny_experiment: Make) -> None:
    experiment = tiny_experiment(**{"data.root": "", "data.workers": 2, "data.segments": 10})
    shared = plan(experiment, samples=(900, 100, 200), videos=300, measure=False)
    assert (shared.sizes.entries, shared.sizes.test_entries) == (250, 50)  # in proportion
    found = plan(experiment, samples=(1000, 100), measure=False)
    assert (found.sizes.train, found.sizes.chosen, found.sizes.test) == (1000, 100, 0)
    assert found.sizes.to_decode == 1100
    assert parts(found)["decode"] == pytest.approx(1100 * 0.02 * 10 / 2 + 5, rel=0.6)


def test_a_batch_that_cannot_be_is_told(tiny_experiment: Make) -> None:
    experiment = tiny_experiment(**{"train.batch_size": 10**18})
    with pytest.raises(ExperimentError, match=r"^train\.batch_size is 1e\+18, which makes a tensor of more bytes"):
        plan(experiment, samples=(10, 2, 2), measure=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be measured")
def test_a_gpu_that_is_not_here_is_estimated(tiny_experiment: Make) -> None:
    experiment = tiny_experiment(**{"train.batch_size": 8, "train.precision": "auto", "train.readers": 64})
    found = plan(experiment, samples=(3339, 402, 402), device="cuda", assumed=replace(ASSUMED, utilisation=0.5))
    assert found.source == "counted"
    epochs, work = experiment.train.epochs, found.counts.train_flops
    steps = math.ceil(3339 / 8)
    assert found.rates.step_seconds == pytest.approx(8 * work / (0.5 * 989e12))
    reading = 8 * found.rates.sample_bytes / 500e6 / 64
    assert parts(found)["train"] == pytest.approx(epochs * steps * max(found.rates.step_seconds, reading))
    assert parts(found)["memory of a GPU"] > 8 * found.counts.activation_bytes


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be measured")
def test_float32_is_planned_in_full_unless_tf32_is_on(tiny_experiment: Make) -> None:
    """As it is computed; with TF32 it was planned seven times as fast."""
    changes: dict[str, Any] = {"train.precision": "fp32", "train.device": "cuda"}
    for more, speed in (({}, 0.48 * 67e12), ({"train.tf32": True}, 0.08 * 494e12)):
        found = plan(tiny_experiment(**changes, **more), samples=(8,), measure=False)
        work = found.counts.train_flops * tiny_experiment().train.batch_size
        assert found.rates.step_seconds == pytest.approx(work / speed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be measured")
def test_the_check_says_what_no_adapter_reached(tiny_experiment: Make, tmp_path: Path) -> None:
    bare = tiny_experiment(**{"train.device": "cuda", "train.precision": "bf16", "adapter.streams": "none"})
    rows = [
        {"experiment": one.to_dict(), "step_seconds": seconds}
        for one, seconds in ((bare.override({"adapter.streams": "both"}), 3.0), (bare, 1.0))
    ]
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"machine": {"card": "card"}, "parts": {"speed": {"rows": rows}}}))
    found = plan(bare, samples=(400,), figures=path)
    assert found.rates.step_seconds == pytest.approx(1.0)
    assert any("and no adapter" in note for note in found.notes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be measured")
def test_a_row_of_another_precision_says_operations_a_second(tiny_experiment: Make, tmp_path: Path) -> None:
    """And no share of a peak that is not its own."""
    measured = tiny_experiment(**{"train.device": "cuda", "train.precision": "fp32"})
    path, row = tmp_path / "gpu.json", {"experiment": measured.to_dict(), "step_seconds": 1.0}
    path.write_text(json.dumps({"machine": {"card": "card"}, "parts": {"speed": {"rows": [row]}}}))
    for change in ({}, {"train.tf32": True}, {"train.precision": "bf16"}):
        found = plan(measured.override(change), samples=(400,), figures=path)
        assert found.rates.step_seconds == pytest.approx(1.0, rel=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be measured")
def test_figures_of_a_gpu_check_replace_what_is_assumed(tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(**{"train.device": "cuda", "train.precision": "bf16"})
    work = counted(experiment, None, half=True).train_flops
    step = 2 * work / 1e14
    rows = [
        {"experiment": tiny_experiment(**changes).to_dict(), "step_seconds": seconds}
        for changes, seconds in (
            ({"adapter.name": "lora", "train.precision": "bf16", "train.batch_size": 4}, 9.0),
            ({"train.precision": "bf16"}, step),
            ({"train.precision": "bf16", "train.checkpointing": True}, 8.0),
            ({"train.precision": "fp32"}, 7.0),
        )
    ]
    path = tmp_path / "gpu.json"
    check = {"machine": {"card": "card"}, "parts": {"speed": {"rows": [*rows, {"what": "too big", "ok": False}]}}}
    path.write_text(json.dumps(check))
    found = plan(experiment, samples=(400,), figures=str(path), device=torch.device("cuda"))
    assert found.source == "figures"
    assert any("card reached 100 TFLOP/s (10% of its peak)" in note for note in found.notes)
    assert not any(note.startswith(("Assumed: 10%", "Here a process")) for note in found.notes)
    assert found.rates.step_seconds == pytest.approx(2 * work / 1e14)
    assert any(note.startswith(f"{path} has no speed of answering") for note in found.notes)
    assert found.rates.answer_seconds == pytest.approx(found.counts.answer_flops / 1e14)
    for seconds in (-1.0, 0.0, 1e-9, 1e400):
        rows[1]["step_seconds"] = seconds
        path.write_text(json.dumps(check | {"parts": {"speed": {"rows": [rows[1]]}}}))
        with pytest.raises(CheckpointError):
            plan(experiment, samples=(400,), figures=path)
    for content in (
        "[]",
        "{}",
        "{",
        '{"parts": {"speed": {"rows": []}}}',
        '{"parts": {"speed": {"rows": [3]}}}',
        '{"parts": 3}',
    ):
        path.write_text(content)
        with pytest.raises(CheckpointError) as refused:
            plan(experiment, samples=(400,), figures=path)
        assert not re.search(r"Error|'parts'", str(refused.value))
        if content != "{":
            assert "has no training step that was measured on a GPU" in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be measured")
@pytest.mark.parametrize("of_its_own", [True, False])
def test_answering_is_planned_at_the_speed_of_answering(
    of_its_own: bool, tiny_experiment: Make, tmp_path: Path
) -> None:
    """By the row's own experiment, or in an older file by that of the training row of the same name."""
    experiment = tiny_experiment(**{"train.device": "cuda", "train.precision": "bf16"})
    work, plain = counted(experiment, None, half=True), experiment.to_dict()
    training = {"what": "one", "experiment": plain, "step_seconds": 2 * work.train_flops / 1e14}
    answering = {"what": "one", "seconds": 2 * work.answer_flops / 3e14} | ({"experiment": plain} if of_its_own else {})
    others = [{"what": "another", "seconds": 9.0}, {"what": "one", "ok": False}]
    parts = {"speed-base": {"rows": [training]}, "inference": {"rows": [*others, answering]}}
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"machine": {"card": "card"}, "parts": parts}))
    found = plan(experiment, samples=(400, 40), figures=path)
    assert found.rates.step_seconds == pytest.approx(2 * work.train_flops / 1e14)
    assert found.rates.answer_seconds == pytest.approx(work.answer_flops / 3e14)
    assert any("in answering, card reached 300 TFLOP/s" in note for note in found.notes)


@pytest.mark.slow  # every row of it is counted, in its real size
def test_the_file_of_figures_that_is_here_has_speeds_of_both(tiny_experiment: Make) -> None:
    path = Path(__file__).parents[1] / "bench" / "results" / "gpu.json"
    if torch.cuda.is_available():
        pytest.skip("it would be measured")
    notes = plan(tiny_experiment(**{"train.device": "cuda"}), samples=(4,), figures=path).notes
    assert sum("NVIDIA H200 reached" in note for note in notes) == 2
    assert any("The check trained with 4 videos at a time, and here a process has 2." in note for note in notes)


@pytest.mark.slow
def test_every_recipe_can_be_counted() -> None:
    from avpea.experiment import recipe_names

    for name in recipe_names():
        found = plan(load_recipe(name), samples=(100, 10, 10), measure=False, device="cpu")
        assert 0 < found.counts.answer_flops <= found.counts.train_flops


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mini/nothing"], "mini/nothing"),
        (["mini/avel"], "--samples TRAIN,VAL,TEST"),
        (["mini/avel", "--data.root", "nowhere"], "There is no nowhere"),
        (["mini/avel", "--samples", "many"], "--samples is 'many'"),
        (["mini/avel", "--samples", "0"], "--samples is '0', which has no sample to train on"),
        (["mini/avel", "--samples", "0,0,0"], "--samples is '0,0,0', which has no sample to train on"),
        (["mini/avel", "--samples", "9,9,9,9"], "--samples is"),
        (["mini/avel", "--samples", "9", "--videos", "10"], "--videos is 10; expected 1 to 9"),
        (["mini/avel", "--videos", "10"], "--videos is 10; expected 1 to 0"),
        (["mini/avel", "--samples", "100", "--devices", "5"], "5 processes cannot share batches of 4"),
        (["mini/avel", "--samples", "3", "--devices", "4"], "4 processes cannot share 3 training samples"),
        (["mini/avel", "--samples", "9", "--devices", "0"], "train.devices is 0"),
        (["mini/avel", "--samples", "9", "--device", "tpu"], "device is 'tpu'"),
        (["mini/avel", "--samples", "9", "--utilisation", "2"], "--utilisation is 2"),
        (["mini/avel", "--samples", "9", "--tflops", "nan"], "--tflops is nan"),
        (["mini/avel", "--samples", "9", "--backbone.image_size", "90"], "would not see the last 6 at the right"),
        (
            ["mini/avel", "--samples", "9", "--device", "cpu", "--utilisation", "0.1"],
            "is not used where steps are timed",
        ),
        (
            ["mini/avel", "--samples", "9", "--device", "cpu", "--tflops", "5"],
            "--tflops is about a GPU",
        ),
        (
            ["mini/avel", "--samples", "9", "--device", "cuda", "--no-measure", "--figures", "g.json", "--tflops", "5"],
            "--figures says what a card reached, so --tflops is not used",
        ),
        (["mini/avel", "--samples", "9", "--adapter.blocks", "99"], "99"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *words]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_without_validation_or_videos(
    tiny_experiment: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "videos.csv"
    table.write_text("video,start_seconds,end_seconds,label,split\na.mp4,0,1,x,train\n")
    with pytest.raises(DataError, match="no video in the split 'val'"):
        plan(tiny_experiment(**{"data.name": "own", "data.root": str(table)}), measure=False)
    write_ave(tmp_path, ROWS)
    found = plan(tiny_experiment(**{"data.root": str(tmp_path)}), measure=False)
    assert any("Not there yet: 11 of 11 videos;" in note for note in found.notes)


def test_json_and_table(tiny_experiment: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(tiny_experiment(**{"data.root": ""}).to_yaml())
    words = ["plan", str(recipe), "--samples", "400,84,112", "--no-measure"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "counted"
    assert found["samples"]["train"] == 400
    assert found["total_seconds"] == pytest.approx(sum(found["seconds"].values()) - found["seconds"]["evaluate"], abs=1)
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "an estimate from operations and bytes" in " ".join(out.split())
    assert "avpea train" in out


def test_an_error_of_the_measurement_is_a_sentence() -> None:
    failed = subprocess.Popen([sys.executable, "-c", "raise OSError('no')"], stdout=-1, stderr=-1, text=True)
    with pytest.raises(ExperimentError, match="--no-measure estimates it instead"):
        _rates(failed)
    said = "import json; print(json.dumps({'error': 'The memory is too small; lower it.'}))"
    failed = subprocess.Popen([sys.executable, "-c", said], stdout=-1, stderr=-1, text=True)
    with pytest.raises(AvpeaError, match=r"^The memory is too small; lower it\.$"):
        _rates(failed)


def test_more_processes_than_a_batch_has_videos_are_refused_as_in_training(tiny_experiment: Make) -> None:
    with pytest.raises(ExperimentError, match="3 processes cannot share batches of 2 videos"):
        plan(tiny_experiment(**{"train.devices": 3}))
