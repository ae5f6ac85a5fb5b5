"""What is fitted after training: it belongs to the run, travels with it, and is used by whatever answers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import avpea
from avpea import checkpoint
from avpea.calibrate import calibrate
from avpea.checkpoint import load_model, read_info
from avpea.cli import main
from avpea.data import read
from avpea.errors import CheckpointError, DataError
from avpea.evaluate import evaluate, infer, prepare
from avpea.experiment import Experiment
from avpea.metrics.calibration import fit_temperature
from avpea.sharing import save_pretrained
from avpea.tasks import Calibration
from avpea.tensors import read_tensors, write_tensors
from avpea.train import train
from tests.tiny import assert_same_run, assert_same_tensors, tensors, write_rows

Make = Callable[..., Experiment]


def as_before(run: Path) -> Path:
    """The run as a version without calibration left it."""
    path = run / "model.safetensors"
    metadata = {k: v for k, v in read_tensors(path).metadata.items() if k != "calibration"}
    plain = {k: v for k, v in tensors(path).items() if not k.startswith("calibration.")}
    write_tensors(path, plain, metadata, signed=True)
    return run


def raw(run: Path, split: str) -> tuple[torch.Tensor, torch.Tensor, list[Any]]:
    """Probabilities before calibration and labels of each second of a split, and its samples."""
    model, info = load_model(run)
    model.task.calibration = None
    cache, usable, _ = prepare(info.experiment, read(info.experiment.data), [split], progress=False)
    result = infer(model, cache, usable[split])
    chances = model.task.chances(result.samples, result.answers)
    assert chances is not None
    return chances.probabilities, chances.right, list(result.samples)


def test_training_ends_with_a_calibration(tiny_run: Path) -> None:
    fitted = read_info(tiny_run).calibration
    assert fitted is not None
    assert (fitted.split, fitted.samples, fitted.answers) == ("val", 3, 9)
    assert fitted.chosen.keys() == {"threshold", "min_seconds", "novelty_limit"}
    assert fitted.means is None  # `read_info` reads no tensors
    probabilities, labels, _ = raw(tiny_run, "val")
    all_right = bool((probabilities.argmax(dim=1) == labels).all())
    assert fitted.temperature == pytest.approx(1.0 if all_right else fit_temperature(probabilities, labels))
    model, info = load_model(tiny_run)
    assert model.task.calibration == info.calibration
    assert info.calibration is not None
    assert info.calibration.means is not None
    assert info.calibration.means.shape[0] == 3  # two classes and background


def test_a_run_that_was_interrupted_before_its_calibration_is_calibrated(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("avpea.train.fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_experiment(), tmp_path / "run", progress=False)
    assert read_info(tmp_path / "run").calibration is None
    train(tiny_experiment(), tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", tiny_run)  # state included, which is that of the last epoch


def test_a_run_that_selects_on_test_says_so(tiny_experiment: Make, tmp_path: Path, capsys: Any) -> None:
    run = train(tiny_experiment(**{"train.select_on": "test", "train.epochs": 1}), tmp_path / "run", progress=False).run
    fitted = read_info(run).calibration
    assert fitted is not None
    assert fitted.split == "test"
    assert main(["evaluate", str(run), "--quiet"]) == 0
    assert "fitted on test" in capsys.readouterr().out


def test_evaluation_records_reliability(tiny_run: Path, tmp_path: Path, capsys: Any) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    found = evaluate(run, "test", progress=False).metrics["reliability"]
    rows = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
    sure = np.array([one for row in rows for one in row["confidence"]])
    right = np.array([a == b for row in rows for a, b in zip(row["target"], row["prediction"], strict=True)])
    places = np.minimum((sure * 10).astype(int), 9)
    error = sum(abs(sure[places == b].sum() - right[places == b].sum()) for b in range(10)) / len(sure)
    assert found["expected_calibration_error"] == pytest.approx(error, abs=1e-3)  # confidences have four decimals
    assert found["fitted_on"] == "val"
    # Before: the probabilities of the model itself.
    probabilities, labels, _ = raw(run, "test")
    confidence, given = probabilities.max(dim=1)
    places = (confidence.numpy() * 10).astype(int).clip(0, 9)
    right = (given == labels).numpy()
    error = sum(abs(confidence.numpy()[places == b].sum() - right[places == b].sum()) for b in range(10)) / len(right)
    assert found["before"]["expected_calibration_error"] == pytest.approx(error, abs=1e-5)
    assert main(["evaluate", str(run), "--quiet", "--details"]) == 0
    said = capsys.readouterr().out
    assert "Confidence differs from accuracy by" in said
    assert "Reliability" in said


def test_it_travels_with_the_model(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    video = tiny_data / "AVE" / "r4.mp4"
    shared = save_pretrained(tiny_run, tmp_path / "shared")
    alone = Path(shutil.copy(tiny_run / "model.safetensors", tmp_path / "alone.safetensors"))
    answers = [avpea.load(where).predict(video).to_dict() for where in (tiny_run, shared, alone)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["calibration"]["fitted_on"] == "val"
    assert (answers[0]["threshold_from"], answers[0]["min_seconds_from"]) == ("val", "val")
    assert "Calibrated on val (3 videos)" in (shared / "README.md").read_text()


def test_a_run_of_an_earlier_version(tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: Any) -> None:
    run, video = as_before(shutil.copytree(tiny_run, tmp_path / "run")), tiny_data / "AVE" / "g4.mp4"
    found = avpea.load(run).predict(video)
    assert found.to_dict()["calibration"] is None
    assert found.to_dict()["threshold_from"] == "default"
    assert not any(event.doubtful for event in found.events)
    plain = load_model(run)[0]
    assert plain.task.calibration is None
    said = "\n".join(str(part) for part in found.report())
    assert ("not calibrated; `avpea calibrate RUN`" in said) == bool(found.events)
    assert main(["evaluate", str(run), "--quiet"]) == 0
    assert f"it is not calibrated, which `avpea calibrate {run}` does" in capsys.readouterr().out
    assert evaluate(run, progress=False).metrics["reliability"]["temperature"] is None

    # In the batches of training: with others, products of narrow tokens are rounded otherwise.
    batch = str(load_model(run)[1].experiment.train.batch_size)
    assert main(["calibrate", str(run), "--quiet", "--batch-size", batch]) == 0
    assert "Calibrated on val (3 videos): temperature" in capsys.readouterr().out
    assert_same_tensors(run / "model.safetensors", tiny_run / "model.safetensors")
    ours, theirs = read_info(run).calibration, read_info(tiny_run).calibration
    assert ours is not None
    assert theirs is not None
    assert ours.to_dict() == theirs.to_dict()


def test_the_threshold_of_the_command_line(tiny_run: Path, tiny_data: Path, capsys: Any) -> None:
    video = str(tiny_data / "AVE" / "g4.mp4")
    assert main(["predict", str(tiny_run), video, "--json", "--threshold", "1", "--min-seconds", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["events"] == []
    assert (found["threshold"], found["threshold_from"]) == (1.0, "given")
    assert (found["min_seconds"], found["min_seconds_from"]) == (2.0, "given")
    for second in found["seconds"]:
        assert second["label"] == "background"
        assert sum(second["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert main(["predict", str(tiny_run), video, "--threshold", "70"]) == 1
    assert "The threshold is 70; expected a confidence from 0 to 1" in capsys.readouterr().err


def test_what_cannot_be_calibrated(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, info = load_model(tiny_run)
    early = tmp_path / "early" / "model.safetensors"
    checkpoint.save_model(early, model, info.experiment, info.labels, {"epoch": 0, "selected_on": None})
    with pytest.raises(CheckpointError, match=r"has no best epoch, .* the same --run goes on"):
        calibrate(early.parent, progress=False)
    assert main(["evaluate", str(early.parent)]) == 0
    told = capsys.readouterr().out
    assert "Weights that were selected on no split: training was stopped in its first epoch" in told
    assert "avpea calibrate" not in told
    monkeypatch.setattr("avpea.calibrate.fit", lambda *_: None)
    with pytest.raises(CheckpointError, match="The task 'avel' has no probabilities"):
        calibrate(tiny_run, progress=False)


def test_other_data_is_refused(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "other", tiny_data, val=["green&g3&good&1&3"])
    with pytest.raises(DataError, match=r"is not what .* was trained on .*; name the data that it was trained on"):
        calibrate(shutil.copytree(tiny_run, tmp_path / "run"), root=str(other), progress=False)


@pytest.mark.parametrize("part", [(slice(0, 1), slice(None)), (slice(None), slice(0, 1))], ids=["rows", "width"])
@pytest.mark.slow
def test_means_of_another_model_are_refused_and_made_anew(
    part: Any, tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, video = shutil.copytree(tiny_run, tmp_path / "run"), tiny_data / "AVE" / "g4.mp4"
    found = read_tensors(run / "model.safetensors")
    means = found.tensors["calibration.means"][part].clone()
    write_tensors(run / "model.safetensors", {**found.tensors, "calibration.means": means}, found.metadata, signed=True)
    assert main(["predict", str(run), str(video)]) == 1
    assert "make it anew with `avpea calibrate`" in capsys.readouterr().err
    assert main(["calibrate", str(run), "--quiet"]) == 0
    assert main(["predict", str(run), str(video)]) == 0


def test_where_nothing_can_be_fitted() -> None:
    from avpea.tasks import Chances

    sure = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    right = Chances(sure, torch.tensor([0, 0]), torch.tensor([0, 0]))
    assert right.temperature() == (1.0, "every answer of the split is right, so nothing tells how sure is too sure")
    # Mistakes as sure as what is right, and surer: the best temperature is infinite.
    few = Chances(torch.tensor([[0.9, 0.1], [0.99, 0.01]]), torch.tensor([0, 0]), torch.tensor([0, 1]))
    found, remark = few.temperature()
    assert (found, "so the split says too little" in remark) == (1.0, True)
    unanswerable = Chances(sure, torch.tensor([0, 0]), torch.tensor([-1, -1]))
    assert unanswerable.temperature()[0] == 1.0
    assert unanswerable.reliability().expected_calibration_error == pytest.approx(0.85)
    assert "every answer" in Calibration("val", 1, 2, 1.0, right.temperature()[1]).line()
