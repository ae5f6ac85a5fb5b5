"""Evaluation: the report and the predictions tell the same story."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avpea.checkpoint import load_model
from avpea.cli import main
from avpea.data import read
from avpea.errors import CheckpointError, DataError
from avpea.evaluate import SplitResult, evaluate, infer, prepare
from avpea.experiment import Experiment
from tests.tiny import write_rows

Make = Callable[..., Experiment]


@pytest.fixture(scope="module")
def evaluated(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SplitResult]:
    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(tiny_run, run)
    return run, evaluate(run, "test", batch_size=2, progress=False)


def probabilities(result: SplitResult) -> Tensor:
    return torch.stack([answer.probabilities for answer in result.answers])


def test_report_and_predictions_agree(evaluated: tuple[Path, SplitResult]) -> None:
    run, result = evaluated
    report = json.loads((run / "evaluation-test.json").read_text())
    assert report == result.metrics
    rows = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
    assert len(rows) == report["videos"] == 3
    pairs = [pair for row in rows for pair in zip(row["target"], row["prediction"], strict=True)]
    assert len(pairs) == 9
    right = sum(target == answer for target, answer in pairs)
    assert report["segment_accuracy"] == pytest.approx(right / 9)
    names = list(report["per_class_accuracy"])
    assert names == ["green", "red", "background"]
    counted = [[sum(pair == (row, column) for pair in pairs) for column in names] for row in names]
    assert report["confusion_matrix"] == counted


def test_the_report_says_where_it_comes_from(evaluated: tuple[Path, SplitResult]) -> None:
    report = evaluated[1].metrics
    best = load_model(evaluated[0])[1].results
    assert (report["split"], report["skipped"]) == ("test", {})
    assert (report["epoch"], report["selected_on"]) == (best["epoch"], "val")


def test_targets_are_the_annotations(evaluated: tuple[Path, SplitResult]) -> None:
    rows = [json.loads(line) for line in (evaluated[0] / "predictions-test.jsonl").read_text().splitlines()]
    assert [(row["video"], row["target"]) for row in rows] == [
        ("g4", ["green"] * 3),
        ("r4", ["background", "red", "background"]),
        ("r5", ["red", "background", "background"]),
    ]
    assert all(len(row["confidence"]) == 3 and 0 <= min(row["confidence"]) <= 1 for row in rows)


def test_probabilities_are_complete(evaluated: tuple[Path, SplitResult]) -> None:
    chances = probabilities(evaluated[1])
    assert chances.shape == (3, 3, 3)
    torch.testing.assert_close(chances.sum(-1), torch.ones(3, 3))


def test_the_chosen_epoch_reaches_what_training_reported(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    reached = evaluate(run, "val", batch_size=2, progress=False).metrics["segment_accuracy"]
    assert reached == load_model(run)[1].results["segment_accuracy"]


def test_the_cache_may_be_elsewhere(tiny_run: Path, tmp_path: Path) -> None:
    run, words = shutil.copytree(tiny_run, tmp_path / "run"), ["--split", "val", "--quiet", "--data.cache"]
    assert main(["evaluate", str(run), "--split", "val", "--quiet"]) == 0
    before = json.loads((run / "evaluation-val.json").read_text())
    for command in ("evaluate", "report"):
        (run / "evaluation-val.json").unlink()
        assert main([command, str(run), *words, str(tmp_path / command)]) == 0
        assert json.loads((run / "evaluation-val.json").read_text()) == before
        assert len(list((tmp_path / command).rglob("*.safetensors"))) == 3
    assert main(["calibrate", str(run), "--quiet", "--data.cache", str(tmp_path / "calibrate")]) == 0
    assert len(list((tmp_path / "calibrate").rglob("*.safetensors"))) == 8  # of training and selection


def test_batches_do_not_matter(tiny_run: Path, tiny_experiment: Make) -> None:
    model, _ = load_model(tiny_run)
    experiment = tiny_experiment()
    cache, usable, _ = prepare(experiment, read(experiment.data), ["test"], progress=False)
    one, three = (infer(model, cache, usable["test"], size) for size in (1, 3))
    torch.testing.assert_close(probabilities(one), probabilities(three), rtol=1e-4, atol=1e-5)


def test_inference_gives_the_model_back_as_it_was(tiny_run: Path, tiny_experiment: Make) -> None:
    model, _ = load_model(tiny_run)
    experiment = tiny_experiment()
    cache, usable, _ = prepare(experiment, read(experiment.data), ["test"], progress=False)
    model.train()
    before = {key: value.clone() for key, value in model.trained_state().items()}
    infer(model, cache, usable["test"])
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.trained_state().items())


def test_further_classes_are_refused_by_name(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    rows = ["blue&g0&good&0&2", "red&r0&good&0&3"]
    root = write_rows(tmp_path / "data", tiny_data, train=rows, val=rows[1:], test=rows[:1])
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(
        DataError, match=r"test split of .* has classes that .* does not know \(blue\); it knows green, "
    ):
        evaluate(run, "test", root=str(root), progress=False)
    assert not list(run.glob("**/evaluation-test.json"))
    assert evaluate(run, "val", root=str(root), progress=False).metrics["videos"] == 1  # where there is no blue


def test_a_data_set_that_has_moved_and_a_broken_video(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    root = write_rows(tmp_path / "data", tiny_data, test=["green&g4&good&0&3", "red&nowhere&good&0&1"])
    run = shutil.copytree(tiny_run, tmp_path / "run")
    report = evaluate(run, "test", root=str(root), cache=str(tmp_path / "cache"), progress=False).metrics
    assert report["videos"] == 1
    assert list(report["skipped"]) == ["test-0001-nowhere"]


def test_how_other_data_were_divided_is_said(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else nobody notices that a table without splits is tested on a fifth of its videos."""
    rows = [f"{name}.mp4,0,2,green" for name in ("g0", "g1", "g3", "g4")]
    shutil.copytree(tiny_data / "AVE", folder := tmp_path / "more")
    (folder / "more.csv").write_text("\n".join(["video,start_seconds,end_seconds,label", *rows]))
    run = shutil.copytree(tiny_run, tmp_path / "run")
    evaluate(run, reader="manifest", root=str(folder / "more.csv"), cache=str(tmp_path / "cache"))
    assert "No column 'split'" in capsys.readouterr().err


def test_a_run_of_captions_is_not_evaluated_on_events(tiny_matched_run: Path, tiny_data: Path) -> None:
    with pytest.raises(DataError, match="There are no captions"):
        evaluate(tiny_matched_run, root=str(tiny_data), progress=False)


def test_a_strangers_run_reads_no_data_that_only_it_names(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avpea.calibrate import calibrate
    from avpea.report import report

    run = shutil.copytree(tiny_run, tmp_path / "run")
    own = evaluate(run, progress=False).metrics
    (run / "evaluation-test.json").unlink()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "of-another-user"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for use in (evaluate, report, calibrate):
        with pytest.raises(CheckpointError, match=r"names '.*' as its data set, but it is not a run of yours; give"):
            use(run, progress=False)
    named = evaluate(run, root=str(tiny_data), progress=False).metrics
    assert named == own
    assert (tmp_path / "cache" / "avpea" / "samples").is_dir()  # and not the folder that the run names
    assert evaluate(run, trust=True, progress=False).metrics == own
