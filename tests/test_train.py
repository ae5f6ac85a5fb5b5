"""Training: what an interruption may not change, what is refused, and the arithmetic of the loop."""

import importlib
import itertools
import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea import backbones, checkpoint
from avpea.adapters.av_pea import AVPEA
from avpea.checkpoint import load_model, read_info
from avpea.cli import main
from avpea.data.cache import SampleCache
from avpea.errors import CheckpointError, DataError, ExperimentError, TrainingError, WeightsError
from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.labels import CaptionLabels, Sample
from avpea.model import AVModel, build
from avpea.optimizer import make_optimizer, rate_factor
from avpea.sharing import save_pretrained
from avpea.stopping import Stopped
from avpea.tensors import read_tensors, write_tensors
from avpea.train import Position, epoch_batches, train
from tests.tiny import (
    assert_same_run,
    assert_same_tensors,
    event_labels,
    exit_code,
    metric_lines,
    section,
    start_training,
    tensors,
    write_rows,
)

Make = Callable[..., Experiment]
OFTEN = {"train.checkpoint_minutes": 1e-6}  # the state is saved after every step

# Before the named call: what has happened by then. An epoch has 3 steps and 2 evaluation batches. The cache is filled:
# files put in their place are experiment, data, skipped videos, metrics and environment, then model and state in turn.
MOMENTS = {
    "the folder is made, but says nothing": ("pathlib:Path.replace", 1),
    "nothing has happened": ("avpea.train:prepare", 1),
    "no step is done": ("avpea.model:AVModel.forward", 1),
    "in the first epoch": ("avpea.model:AVModel.forward", 3),
    "in the second epoch": ("avpea.model:AVModel.forward", 7),
    "before an evaluation": ("avpea.train:infer", 2),
    "a state is written, but not yet in its place": ("pathlib:Path.replace", 8),
    "the best model is written, but not yet in its place": ("pathlib:Path.replace", 10),
    "the best model is saved, but not logged": ("avpea.run:RunFolder.log", 1),
    "an epoch is logged, but not saved": ("avpea.checkpoint:save_state", 8),
}


# What such a moment leaves half done.
LEFTOVERS = {
    "the folder is made, but says nothing": [".experiment.yaml"],
    "a state is written, but not yet in its place": [".state.safetensors"],
    "the best model is written, but not yet in its place": [".model.safetensors"],
}


QUICK = ("in the second epoch", "a state is written, but not yet in its place", "an epoch is logged, but not saved")


@pytest.mark.parametrize(
    "moment", [pytest.param(one, marks=[] if one in QUICK else [pytest.mark.slow]) for one in MOMENTS]
)
def test_a_killed_run_goes_on_to_the_same_bits(
    moment: str, tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    experiment = tiny_experiment(**OFTEN)
    process, _ = start_training(experiment.to_dict(), tmp_path / "run", *MOMENTS[moment])
    assert exit_code(process) == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "run").glob(".*.tmp")]
    assert [name.rsplit(".", 2)[0] for name in left] == LEFTOVERS.get(moment, [])
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", tiny_run)
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_torchs_settings_around_a_training_change_nothing(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    with torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        train(tiny_experiment(), tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", tiny_run)


def test_torchs_random_state_stays_the_callers(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: train(tiny_experiment(**{"train.epochs": 1}), tmp_path / "run", progress=False),
        lambda: load_model(tmp_path / "run"),
        lambda: evaluate(tmp_path / "run", progress=False),
    ]
    for call in calls:
        before = torch.get_rng_state()
        call()
        assert torch.equal(torch.get_rng_state(), before)


def kill_at_random(experiment: Experiment, run: Path, kills: int) -> int:
    """Kill a training at random times, then finish it; answers how many kills hit a run that was not done."""
    hits = 0
    for _ in range(kills):
        process, begun = start_training(experiment.to_dict(), run)
        assert begun.wait(60)
        time.sleep(random.uniform(0.05, 0.6))
        process.kill()
        hits += exit_code(process) == -signal.SIGKILL
    train(experiment, run, progress=False)
    return hits


def test_kills_at_random_times(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    kill_at_random(tiny_experiment(**OFTEN), tmp_path / "run", kills=2)
    assert_same_run(tmp_path / "run", tiny_run)


@pytest.mark.slow
def test_five_kills_at_random_times(tiny_experiment: Make, tmp_path: Path) -> None:
    longer = {"train.epochs": 12, "train.accumulate": 2, "train.schedule": "cosine"}
    whole = train(tiny_experiment(**longer), tmp_path / "whole", progress=False).run
    assert kill_at_random(tiny_experiment(**longer, **OFTEN), tmp_path / "run", kills=5) >= 3
    assert_same_run(tmp_path / "run", whole)


def test_ctrl_c_leaves_a_model_and_a_state_and_goes_on_to_the_same_bits(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    experiment = tiny_experiment()
    process, _ = start_training(experiment.to_dict(), tmp_path, "avpea.model:AVModel.forward", 2, signal.SIGINT)
    assert exit_code(process) == 130
    model, info = load_model(tmp_path)
    assert info.results == {"epoch": 0, "selected_on": None}
    assert not model.training
    assert (tmp_path / "state.safetensors").is_file()
    result = train(experiment, tmp_path, progress=False)
    assert [line["epoch"] for line in result.epochs] == [1, 2, 3]
    assert_same_run(tmp_path, tiny_run)


def test_ctrl_c_in_an_evaluation_keeps_the_epoch(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment()
    process, _ = start_training(experiment.to_dict(), tmp_path, "avpea.train:infer", 1, signal.SIGINT)
    assert exit_code(process) == 130
    assert [line["epoch"] for line in metric_lines(tmp_path)] == [1]
    train(experiment, tmp_path, progress=False)
    assert_same_run(tmp_path, tiny_run)


def test_ctrl_c_in_the_last_evaluation_is_obeyed(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment()
    last = experiment.train.epochs
    process, _ = start_training(experiment.to_dict(), tmp_path, "avpea.train:infer", last, signal.SIGTERM)
    assert exit_code(process) == 143
    assert [line["epoch"] for line in metric_lines(tmp_path)] == list(range(1, last + 1))
    train(experiment, tmp_path, progress=False)
    assert_same_run(tmp_path, tiny_run)


def test_a_start_that_is_not_there_is_told_before_videos_are_decoded(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avpea.train.prepare", lambda *_: pytest.fail("decoded"))
    with pytest.raises(CheckpointError, match="There is no run folder or checkpoint 'nowhere'"):
        train(tiny_experiment(**{"train.start_from": "nowhere"}), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_start_that_is_replaced_meanwhile_is_named_as_it_was_read(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Path(shutil.copytree(tiny_run, tmp_path / "stage"))
    expected, read = checkpoint.weights_fingerprint(stage), checkpoint.take_over

    def replaced(run: str | Path, model: AVModel) -> Any:
        found = read(run, model)
        changed = read_tensors(stage / "model.safetensors")
        tensors = {key: value + 1 for key, value in changed.tensors.items()}
        write_tensors(stage / "model.safetensors", tensors, changed.metadata)
        return found

    monkeypatch.setattr("avpea.checkpoint.take_over", replaced)
    experiment = tiny_experiment(**{"train.epochs": 1, "train.start_from": str(stage)})
    run = train(experiment, tmp_path / "run", progress=False).run
    assert checkpoint.read_origin(run / "state.safetensors").start == expected != checkpoint.weights_fingerprint(stage)


def test_seconds_before_an_interruption_count(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of the model takes a minute on the clock, and Ctrl-C comes in the second of three steps."""
    forward, now, calls = AVModel.forward, [0.0], itertools.count(1)

    def slow(self: AVModel, *arguments: Any, **options: Any) -> Any:
        now[0] += 60
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(AVModel, "forward", slow)
    monkeypatch.setattr("avpea.train.time.perf_counter", lambda: now[0])
    experiment = tiny_experiment(**{"train.epochs": 1})
    with pytest.raises(Stopped):
        train(experiment, tmp_path, progress=False)
    now[0] += 86_400  # until it goes on
    (line,) = train(experiment, tmp_path, progress=False).epochs
    assert line["seconds"] == 180


def test_the_number_of_threads_is_that_of_one_training(tiny_experiment: Make, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    train(tiny_experiment(**{"train.epochs": 1, "train.threads": before + 1}), tmp_path, progress=False)
    assert torch.get_num_threads() == before


def test_dropout_draws_the_same_numbers_after_an_interruption(tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(**{"head.name": "cmbs", "train.epochs": 1})
    whole = train(experiment, tmp_path / "whole", progress=False).run
    process, _ = start_training(experiment.to_dict(), tmp_path / "run", "avpea.model:AVModel.forward", 2, signal.SIGINT)
    assert exit_code(process) == 130
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("task", ["avr", "avc"])
@pytest.mark.slow
def test_training_of_texts_goes_on_as_if_never_interrupted(
    task: str, tiny_captioned: Callable[..., Experiment], tmp_path: Path
) -> None:
    whole = train(tiny_captioned(task, **{"train.segments": 2}), tmp_path / "whole", progress=False).run
    short = tiny_captioned(task, **{"train.segments": 2, "train.epochs": 1})
    train(short, tmp_path / "parts", progress=False)
    train(short, tmp_path / "parts", extend=2, progress=False)
    assert_same_run(whole, tmp_path / "parts")


def test_the_home_folder_is_that_of_the_user(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no folder called ~, in which nothing would find the run."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, tmp_path / "mine")
    assert train(tiny_experiment(), "~/mine", progress=False).run == tmp_path / "mine"
    assert save_pretrained("~/mine", "~/shared") == tmp_path / "shared"
    assert main(["report", "~/mine", "--out=~/page.html", "--quiet"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "page.html", "shared"]


def test_a_finished_run_is_left_as_it_is(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "sec')  # as if the machine had gone down in the middle of a line
    result = train(tiny_experiment(), run, progress=False)
    assert [line["epoch"] for line in result.epochs] == [1, 2, 3]
    assert result.best == read_info(tiny_run).results
    assert result.finished_before
    assert_same_run(run, tiny_run)


def rewrite_position(run: Path, **changes: Any) -> None:
    """Change the position in a training state; None removes a value."""
    found = read_tensors(run / "state.safetensors")
    position = json.loads(found.metadata["position"]) | changes
    position = {key: value for key, value in position.items() if value is not None}
    values = {key: value.clone() for key, value in found.tensors.items()}
    write_tensors(run / "state.safetensors", values, {**found.metadata, "position": json.dumps(position)})


HARMS: dict[str, Callable[[Path], Any]] = {
    "gone": Path.unlink,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "damaged": lambda path: path.write_bytes(path.read_bytes()[:-40] + bytes(40)),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_best_model_that_is_gone_or_damaged_is_told(
    harm: str, tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    rewrite_position(run, best={**read_info(run).results, "epoch": 1})  # so that the state has other weights
    HARMS[harm](run / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"finished, but its model is gone: .* remove .* and train again"):
        train(tiny_experiment(), run, progress=False)


@pytest.mark.parametrize("harm", HARMS)
def test_a_model_of_the_states_own_epoch_is_written_again(
    harm: str, tiny_experiment: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny_experiment(**{"train.epochs": 1})
    whole = train(experiment, tmp_path / "whole", progress=False).run
    run = shutil.copytree(whole, tmp_path / "run")
    HARMS[harm](run / "model.safetensors")
    capsys.readouterr()
    assert train(experiment, run, progress=False).best == read_info(whole).results
    assert "model.safetensors" in (said := capsys.readouterr().err)
    assert "It is written again from the training state" in said
    assert_same_run(run, whole)


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * 500),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"epoch": 1', b'"epoch": 7')),
        lambda path: path.write_bytes(path.read_bytes().replace(b"loss", b"lass", 1)),
        lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[1:])),
        lambda path: path.write_text("[]\n" + path.read_text()),
    ],
)
def test_metrics_that_are_damaged_or_gone_come_from_the_state(
    harm: Callable[[Path], Any], tiny_experiment: Make, tiny_run: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = shutil.copytree(tiny_run, tmp_path / "run")
    harm(run / "metrics.jsonl")
    result = train(tiny_experiment(), run, progress=False)
    assert (run / "metrics.jsonl").read_bytes() == (tiny_run / "metrics.jsonl").read_bytes()
    assert [line["epoch"] for line in result.epochs] == [1, 2, 3]
    assert "metrics.jsonl was damaged or gone; it is written again" in capsys.readouterr().err


def test_a_state_of_before_does_not_know_the_metrics(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    rewrite_position(run, metrics=None)
    assert len(train(tiny_experiment(), run, progress=False).epochs) == 3
    (run / "metrics.jsonl").write_text("".join((run / "metrics.jsonl").read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(CheckpointError, match=r"has 2 of the 3 epochs that .* has finished; put it back"):
        train(tiny_experiment(), run, progress=False)
    with pytest.raises(CheckpointError, match=r"has \['unheard_of'\], which this version does not know"):
        Position.read({"epoch": 1, "unheard_of": 2}, run)


def test_a_run_folder_that_cannot_be_made(tiny_experiment: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot be made \(Not a directory\); choose another --run"):
        train(tiny_experiment(), tmp_path / "file" / "run", progress=False)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    train(tiny_experiment(), tmp_path / "again", progress=False)
    assert_same_run(tmp_path / "again", tiny_run)
    train(tiny_experiment(**{"train.seed": 1}), tmp_path / "other", progress=False)
    with pytest.raises(AssertionError):
        assert_same_tensors(tmp_path / "other" / "model.safetensors", tiny_run / "model.safetensors")


def test_what_a_run_folder_holds(tiny_run: Path) -> None:
    assert {path.name for path in tiny_run.iterdir()} == {
        *("experiment.yaml", "data.json", "metrics.jsonl", "skipped.json", "environment.json", "tensorboard"),
        *("model.safetensors", "state.safetensors"),
    }
    assert json.loads((tiny_run / "skipped.json").read_text()) == {}
    (environment,) = json.loads((tiny_run / "environment.json").read_text())
    assert environment.keys() == {*("avpea", "commit", "torch", "python", "processor", "cores", "device", "precision")}
    assert environment["device"] == "cpu"
    assert environment["precision"] == "fp32"  # what the recipe of the tests says, whatever the processor has
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    keys = {
        "epoch",
        "seconds",
        "waited_seconds",
        "train/loss",
        "train/cross_entropy",
        "val/loss",
        "val/segment_accuracy",
        "gates",
    }
    assert all(line.keys() == keys for line in lines)
    places = {f"attn.{stream}.{gate}" for stream in ("visual", "audio") for gate in ("cross_gate", "output_gate")}
    assert all(line["gates"].keys() == places for line in lines)
    assert all(len(blocks) == 2 and all(blocks) for blocks in lines[-1]["gates"].values())
    assert lines[-1]["train/loss"] < lines[0]["train/loss"]
    best = read_info(tiny_run).results
    assert best["selected_on"] == "val"
    assert best["segment_accuracy"] == max(line["val/segment_accuracy"] for line in lines)
    events = b"".join(path.read_bytes() for path in (tiny_run / "tensorboard").glob("events*"))
    assert events.count(b"train/loss") >= 3


def test_a_folder_with_other_settings_is_refused(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"train\.seed is 0, not 7\).*another folder"):
        train(tiny_experiment(**{"train.seed": 7}), tiny_run, progress=False)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(CheckpointError, match="not empty and not a run folder"):
        train(tiny_experiment(), tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_options_that_were_edited_in_a_run_are_told(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    """Weights that still fit say nothing about them."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    edited = tiny_experiment(**{"audio.mean": -9.0, "train.learning_rate": 0.5})
    (run / "experiment.yaml").write_text(edited.to_yaml())
    expected = r"was edited .*\(audio\.mean is -?[\d.]+, not -9\.0; train\.learning_rate is [\d.]+, not 0\.5\); put"
    for experiment, extend in ((edited, 0), (edited, 1)):
        with pytest.raises(CheckpointError, match=expected):
            train(experiment, run, extend=extend, progress=False)


def test_select_on_test_is_written_into_the_result(tiny_experiment: Make, tmp_path: Path) -> None:
    result = train(tiny_experiment(**{"train.select_on": "test", "train.epochs": 1}), tmp_path, progress=False)
    assert result.best["selected_on"] == "test"
    assert read_info(tmp_path).results["selected_on"] == "test"
    assert "test/segment_accuracy" in metric_lines(tmp_path)[0]


# Broken videos and numbers.


def with_broken_videos(tiny_data: Path, folder: Path) -> str:
    rows = ["green&g0&good&0&2", "red&text&good&1&3", "red&nowhere&good&0&3"]
    root = write_rows(folder / "data", tiny_data, train=rows)
    (root / "AVE" / "text.mp4").write_text("not a video")
    return str(root)


def test_broken_videos_are_skipped_and_listed(tiny_experiment: Make, tiny_data: Path, tmp_path: Path) -> None:
    root = with_broken_videos(tiny_data, tmp_path)
    train(tiny_experiment(**{"data.root": root, "train.epochs": 1}), tmp_path / "run", progress=False)
    skipped = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert sorted(skipped) == ["train-0001-text", "train-0002-nowhere"]
    assert "text.mp4" in skipped["train-0001-text"]


def test_strict_refuses_broken_videos(tiny_experiment: Make, tiny_data: Path, tmp_path: Path) -> None:
    root = with_broken_videos(tiny_data, tmp_path)
    with pytest.raises(DataError, match=r"(?s)2 of 6 samples.*nowhere"):
        train(tiny_experiment(**{"data.root": root, "data.strict": True}), tmp_path / "run", progress=False)


def test_a_split_without_a_usable_video_is_named(tiny_experiment: Make, tiny_data: Path, tmp_path: Path) -> None:
    root = write_rows(tmp_path / "data", tiny_data, val=["red&nowhere&good&0&3"])
    with pytest.raises(DataError, match="split 'val' has no usable video"):
        train(tiny_experiment(**{"data.root": str(root)}), tmp_path / "run", progress=False)


def test_a_rate_that_explodes_is_named(tiny_experiment: Make, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"epoch 1, step 2, at learning rate 1e\+30.*try a lower"):
        train(tiny_experiment(**{"train.learning_rate": 1e30}), tmp_path, progress=False)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_loss_that_is_no_number_keeps_the_last_good_state(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    experiment, run = tiny_experiment(**{"data.cache": str(tmp_path / "cache")}), tmp_path / "run"
    process, _ = start_training(experiment.to_dict(), run, "avpea.run:RunFolder.log", 2)
    assert exit_code(process) == -signal.SIGKILL
    poisoned = poison(experiment)
    with pytest.raises(TrainingError, match=r"^The loss became nan in epoch 2, step [456], "):
        train(experiment, run, progress=False)
    load_model(run)
    assert all(value.isfinite().all() for value in tensors(run / "state.safetensors").values())
    assert len(metric_lines(run)) == 1
    poisoned.unlink()  # it is decoded anew, and the run goes on as if nothing had been
    train(experiment, run, progress=False)
    assert_same_run(run, tiny_run)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_norm: float
) -> None:
    def build_explosive(*of: Any) -> AVModel:
        model, calls = build(*of), iter(range(100))
        (adapter,) = (one for block, stream, one in model.encoder.beside_attention() if (block, stream) == (0, "audio"))
        assert isinstance(adapter, AVPEA)
        adapter.output_gate.register_hook(lambda g: g * math.inf if next(calls) == 4 else g)
        return model

    monkeypatch.setattr(importlib.import_module("avpea.train"), "build", build_explosive)
    experiment = tiny_experiment(**{"train.clip_norm": clip_norm})
    with pytest.raises(TrainingError, match=r"^The gradient's norm became (inf|nan) in epoch 2, step [456], "):
        train(experiment, tmp_path, progress=False)
    assert all(value.isfinite().all() for value in tensors(tmp_path / "state.safetensors").values())


def poison(experiment: Experiment) -> Path:
    """Put NaN into the cached sound of one training video."""
    root = Path(experiment.data.root)
    sample = Sample("train-0002-g1", "g1", root / "AVE" / "g1.mp4", 0.0, 3, "train")
    cache = SampleCache(experiment.data, experiment.audio, experiment.backbone.image_size)
    path = cache.path(sample)
    assert path.is_file()
    entry = tensors(path)
    entry["log_mel"].fill_(math.nan)
    write_tensors(path, entry, {"duration_seconds": "3.0"})
    return path


# The arithmetic of the loop.


def gradients(run: Path) -> dict[str, torch.Tensor]:
    """Adam's first moments after one step from zero: a tenth of the gradient."""
    state = tensors(run / "state.safetensors")
    return {key: value for key, value in state.items() if key.endswith("exp_avg")}


def test_identical_batches_accumulate_to_one(tiny_experiment: Make, tiny_data: Path, tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one", tiny_data, train=["green&g1&good&1&2"])
    four = write_rows(tmp_path / "four", tiny_data, train=["green&g1&good&1&2"] * 4)
    common = {"train.epochs": 1, "train.batch_size": 1}
    train(tiny_experiment(**common, **{"data.root": str(one)}), tmp_path / "a", progress=False)
    together = {**common, "data.root": str(four), "train.accumulate": 4}
    train(tiny_experiment(**together), tmp_path / "b", progress=False)
    expected, found = gradients(tmp_path / "a"), gradients(tmp_path / "b")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-7)
    expected, found = (
        tensors(tmp_path / "a" / "model.safetensors"),
        tensors(tmp_path / "b" / "model.safetensors"),
    )
    statistics = [key for key in expected if "running_" in key]
    assert len(statistics) == 16  # 2 blocks, 2 streams, 2 BatchNorms, mean and variance
    for key in statistics:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-6)


def test_a_smaller_last_batch_weighs_what_it_holds(tiny_experiment: Make, tiny_data: Path, tmp_path: Path) -> None:
    rows = ["green&g1&good&1&2", "red&r0&good&1&3", "green&g0&good&0&2"]
    root = write_rows(tmp_path / "data", tiny_data, train=rows)
    # Without adapters there is no BatchNorm, and videos do not see each other.
    common = {"data.root": str(root), "adapter.streams": "none", "train.epochs": 1}
    train(tiny_experiment(**common, **{"train.batch_size": 3}), tmp_path / "a", progress=False)
    together = {**common, "train.batch_size": 2, "train.accumulate": 2}
    train(tiny_experiment(**together), tmp_path / "b", progress=False)
    expected, found = gradients(tmp_path / "a"), gradients(tmp_path / "b")
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-7)
    (a,), (b,) = metric_lines(tmp_path / "a"), metric_lines(tmp_path / "b")
    assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-5)


def test_adapters_and_head_have_their_own_rates(tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(
        **{
            "train.epochs": 1,
            "train.batch_size": 5,
            "train.learning_rate": 1e-9,
            "train.head_learning_rate": 0.1,
        }
    )
    train(experiment, tmp_path, progress=False)
    after = tensors(tmp_path / "model.safetensors")
    # Adam's first step moves each weight by its rate.
    assert all(value.abs() < 1e-8 for key, value in after.items() if key.endswith("_gate"))
    torch.manual_seed(experiment.train.seed)
    before = build(experiment, event_labels()).trained_state()
    moved = (after["head.head.classes.bias"] - before["head.head.classes.bias"]).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1), rtol=1e-3, atol=0)


GATES = {"train.learning_rate": 1e-3, "train.gate_learning_rate": 0.05}


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_the_gates_have_a_group_and_a_rate_of_their_own(tiny_experiment: Make, decay: float) -> None:
    """Without the option they are where they were, in the adapters' group and under its norm."""
    for name, number in (("av_pea", 4), ("lavish", 8)):
        experiment = tiny_experiment(**{"adapter.name": name, "train.weight_decay": decay, **GATES})
        model = build(experiment, event_labels())
        groups = make_optimizer(model, experiment.train).param_groups
        gates = [p for path, p in model.named_parameters() if path.endswith("cross_gate")]
        (own,) = (group for group in groups if group["lr"] == 0.05)
        assert list(map(id, own["params"])) == list(map(id, gates))
        assert (len(gates), own["base_lr"], own["weight_decay"]) == (number, 0.05, 0.0)
        everything = [id(p) for group in groups for p in group["params"]]
        assert len(set(everything)) == len(everything) == sum(p.requires_grad for p in model.parameters())
        plain = experiment.override({"train.gate_learning_rate": 0})
        sizes = [len(group["params"]) for group in make_optimizer(model, plain.train).param_groups]
        assert sum(sizes) == len(everything)
        assert len(sizes) == len(groups) - 1


def test_the_gates_move_by_their_own_rate(tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(**{"train.epochs": 2, "train.batch_size": 5, **GATES})
    train(experiment, tmp_path, progress=False)
    gates = [value for key, value in tensors(tmp_path / "state.safetensors").items() if key.endswith("cross_gate")]
    # Adam's second step, where the first had no gradient, as h was 0: m = 0.1 d / 0.19, v = 0.001 d^2 / 0.001999.
    moved = 0.05 * (0.1 / 0.19) / math.sqrt(0.001 / 0.001999)
    assert [abs(float(gate)) for gate in gates] == pytest.approx([moved] * 4, rel=1e-2)


def test_an_adapter_may_have_a_rate_for_its_gates(tiny_experiment: Make, tmp_path: Path) -> None:
    """`av_pea_tokens` is what the rows "exchange opened, all tokens" of the sweeps spell out, to the last bit."""
    short = {"train.epochs": 2, "train.learning_rate": 1e-3, "train.clip_norm": 0.5}
    spelt = {"adapter.scaled_attention": True, "adapter.queries": "all", "train.gate_learning_rate": 0.03}
    train(tiny_experiment(**short, **spelt), tmp_path / "spelt", progress=False)
    own = tiny_experiment(**short, **{"adapter.name": "av_pea_tokens"})
    train(own, tmp_path / "own", progress=False)
    one, other = (tensors(tmp_path / run / "model.safetensors") for run in ("spelt", "own"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for change, rate in (({"train.gate_learning_rate": 0.2}, 0.2), ({"adapter.cross_modal": False}, 1e-3)):
        changed = own.override(change)
        groups = make_optimizer(build(changed, event_labels()), changed.train).param_groups
        assert max(group["lr"] for group in groups) == rate


def test_a_run_with_a_rate_for_its_gates_goes_on_to_the_same_bits(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_experiment(**OFTEN, **GATES, **{"train.clip_norm": 0.5, "adapter.cross_gate_init": 0.1})
    whole = train(experiment, tmp_path / "whole", progress=False).run
    calls, forward = iter(range(100)), AVModel.forward

    def fails(self: AVModel, *inputs: Any) -> Any:
        assert next(calls) < 7
        return forward(self, *inputs)

    with monkeypatch.context() as patch:
        patch.setattr(AVModel, "forward", fails)
        with pytest.raises(AssertionError):
            train(experiment, tmp_path / "run", progress=False)
    with pytest.raises(CheckpointError, match=r"train\.gate_learning_rate is 0\.05, not 0\.1"):
        train(experiment.override({"train.gate_learning_rate": 0.1}), tmp_path / "run", progress=False)
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", whole)


def test_rates_and_decay_by_part(tiny_captioned: Callable[..., Experiment]) -> None:
    changes = {"train.weight_decay": 0.01, "train.head_learning_rate": 1e-4, "train.beta2": 0.98}
    experiment = tiny_captioned("avr", **changes)
    optimizer = make_optimizer(build(experiment, CaptionLabels()), experiment.train)
    for group in optimizer.param_groups:
        assert all((parameter.ndim > 1) == bool(group["weight_decay"]) for parameter in group["params"])
        assert group["betas"] == (0.9, 0.98)
    assert {group["lr"] for group in optimizer.param_groups} == {3e-3, 1e-4}


def test_the_backbone_stays_as_it_was(tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, built = importlib.import_module("avpea.train"), []

    def keep(*args: Any) -> Any:
        built.append(original(*args))
        return built[-1]

    original = module.build
    monkeypatch.setattr(module, "build", keep)
    experiment = tiny_experiment(**{"train.epochs": 1})
    train(experiment, tmp_path, progress=False)
    frozen = built[0].encoder.backbone
    fresh = backbones.build(experiment.backbone).state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in frozen.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in frozen.parameters())
    assert built[0].training
    assert not any(module.training for module in frozen.modules())


def test_bfloat16_trains_with_weights_in_float32(tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(**{"train.precision": "bf16"})
    losses = [line["train/loss"] for line in train(experiment, tmp_path, progress=False).epochs]
    assert losses[-1] < losses[0]
    saved = tensors(tmp_path / "model.safetensors")
    assert {value.dtype for value in saved.values() if value.is_floating_point()} == {torch.float32}
    model, _ = load_model(tmp_path)
    assert next(model.encoder.backbone.parameters()).dtype == torch.bfloat16


def test_every_video_once_in_an_order_of_seed_and_epoch_alone() -> None:
    config = section("train", batch_size=4, seed=3)
    batches = epoch_batches(10, config, epoch=2)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(index for batch in batches for index in batch) == list(range(10))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert epoch_batches(10, config, epoch=2) == batches
    assert torch.equal(torch.get_rng_state(), before)
    assert epoch_batches(10, config, epoch=3) != batches
    assert epoch_batches(10, section("train", batch_size=4, seed=4), epoch=2) != batches
    late = section("train", batch_size=4, seed=1_764_400_000_000_000_000)  # a time in nanoseconds
    assert epoch_batches(10, late, epoch=2) != epoch_batches(10, late, epoch=3)


def test_rates_in_closed_form() -> None:
    constant = section("train", epochs=4)
    assert [rate_factor(constant, step, 10) for step in (0, 17, 39)] == [1, 1, 1]
    warm = section("train", epochs=4, warmup_steps=3)
    assert [rate_factor(warm, step, 10) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    cosine = section("train", epochs=4, schedule="cosine")
    expected = {0: 1.0, 10: (1 + 0.5**0.5) / 2, 20: 0.5, 30: (1 - 0.5**0.5) / 2, 40: 0.0}
    for step, value in expected.items():
        assert rate_factor(cosine, step, 10) == pytest.approx(value, abs=1e-12)
    drops = section("train", epochs=30, schedule="step", step_epochs=10, gamma=0.5)
    assert [rate_factor(drops, step, 7) for step in (0, 69, 70, 139, 140)] == [1, 1, 0.5, 0.5, 0.25]


def test_what_can_go_wrong_at_once_does_so_before_any_video_is_read(tiny_experiment: Make, tmp_path: Path) -> None:
    cache, run = tmp_path / "cache", tmp_path / "run"
    native = {"audio.layout": "native"}
    changes: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"backbone.weights": str(tmp_path / "absent.pth")}, WeightsError, "absent"),
        ({"adapter.name": "absent"}, ExperimentError, "absent"),
        ({"head.name": "absent"}, ExperimentError, "absent"),
        ({**native, "audio.rows": 8}, ExperimentError, r"audio\.rows is 8, and a patch of 'test_vit' has 16x16 pixels"),
        (
            {**native, "audio.mel_bins": 15},
            ExperimentError,
            r"audio\.mel_bins is 15, and a patch .*; expected at least 16",
        ),
        (
            {"encoder.positions": "sequence", "backbone.name": "test_vit3"},
            ExperimentError,
            r"encoder\.positions is 'sequence'.*use 'grid'",
        ),
        ({"backbone.image_size": 47}, ExperimentError, "would not see the last 15 at the .*; choose 32 or 48"),
    ]
    for change, error, told in changes:
        with pytest.raises(error, match=told):
            train(tiny_experiment(**{"data.cache": str(cache), **change}), run, progress=False)
    assert not cache.exists()
    assert not run.exists()


def test_a_damaged_state_names_the_remedy(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    state = run / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state.safetensors cannot be read .*; remove it to train from the"):
        train(tiny_experiment(), run, progress=False)
    state.unlink()
    train(tiny_experiment(), run, progress=False)
    assert_same_run(run, tiny_run)


def test_a_model_that_answers_nan_is_none(tiny_experiment: Make, tmp_path: Path) -> None:
    """The loss of the only steps is finite, but the weights after the last one are absurd."""
    changes = {"train.epochs": 1, "train.batch_size": 64, "train.learning_rate": 1e30}
    with pytest.raises(
        TrainingError, match=r"output is NaN, since its weights have diverged .* a lower --train\.learn"
    ):
        train(tiny_experiment(**changes), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()
