"""Evaluations lie with the data that they were measured on, and a card shows what belongs to the run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avpea.checkpoint import read_info
from avpea.cli import main
from avpea.data import read
from avpea.data.identity import identify
from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.records import read_records
from avpea.report import report
from avpea.sharing import save_pretrained
from avpea.train import train
from tests.tiny import ROWS, coloured_video, section, write_captions, write_questions, write_rows

Make = Callable[..., Experiment]
TEST = ROWS["test"]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def other(tiny_data: Path, tmp_path: Path) -> Path:
    """Two of the test videos, with other labels."""
    return write_rows(tmp_path / "other", tiny_data, test=["red&g4&good&0&3", TEST[1]])


def stored(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def measured(run: Path, root: Path | None = None, split: str = "test") -> Any:
    return evaluate(run, split, root=None if root is None else str(root), progress=False)


def test_a_record_says_what_it_was_measured_on(run: Path, tiny_data: Path) -> None:
    result = measured(run)
    record = stored(run / "evaluation-test.json")
    assert record == result.metrics
    options = section("data", "ave", root=str(tiny_data), segments=3)
    assert record["data"] == {
        "reader": "ave", "root": "data", "fingerprint": identify(options, read(options)).fingerprint,
        "rows": {"train": 5, "val": 3, "test": 3}, "classes": ["green", "red"], "videos": 3, "own": True, "changes": [],
        "trained_on": 0,
    }  # fmt: skip
    assert read_info(run).data["fingerprint"] == record["data"]["fingerprint"]
    assert result.folder == run


def test_other_data_has_a_place_of_its_own(run: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = measured(run).metrics
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert main(["evaluate", str(run), "--data.root", str(other), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{run} on test of other: segment accuracy ")
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    (folder,) = (run / "evaluations").iterdir()
    record = stored(folder / "evaluation-test.json")
    assert folder.name == f"other-{record['data']['fingerprint'][:12]}"
    assert record["videos"] == 2
    assert record["data"]["own"] is False
    assert len((folder / "predictions-test.jsonl").read_text().splitlines()) == 2
    changed = ["1 sample gone from test (r5)", "1 sample of test with other labels (g4: green 0-3 became red 0-3)"]
    assert record["data"]["changes"] == changed
    assert f"other is other data than this run was trained with: {'; '.join(changed)}. Written to {folder}." in printed
    # Two in turn: each in its place, the second time in the same.
    assert measured(run).metrics == own
    measured(run, other)
    assert [path.name for path in (run / "evaluations").iterdir()] == [folder.name]


def test_renamed_training_videos_are_recognised(
    run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "copies"
    root.mkdir()
    trained = ROWS["train"][0].split("&")[1]
    shutil.copyfile(tiny_data / "AVE" / f"{trained}.mp4", root / "new name.mp4")
    table = root / "copies.csv"
    table.write_text("video,start_seconds,end_seconds,label,split\nnew name.mp4,0,3,green,test\n", encoding="utf-8")
    assert main(["evaluate", str(run), "--data.name", "manifest", "--data.root", str(table), "--quiet"]) == 0
    assert "Of its 1 sample, 1 is of a video that the run was trained on." in capsys.readouterr().out
    save_pretrained(run, tmp_path / "shared")
    assert "1 of 1 sample trained on" in (tmp_path / "shared" / "README.md").read_text()


def test_labels_edited_after_training_are_other_data(
    tiny_experiment: Make, tiny_data: Path, run: Path, tmp_path: Path
) -> None:
    root = write_rows(tmp_path / "data", tiny_data)
    experiment = tiny_experiment(**{"data.root": str(root), "train.epochs": 1})
    mine = train(experiment, tmp_path / "mine", progress=False).run
    assert measured(mine).folder == mine
    path = root / "testSet.txt"
    path.write_text(path.read_text().replace("green&g4&good&0&3", "green&g4&good&0&2"))
    result = measured(mine)
    assert result.folder != mine
    assert result.metrics["data"]["changes"] == ["1 sample of test with other labels (g4: green 0-3 became green 0-2)"]
    path.write_text(path.read_text().replace("green&g4&good&0&2", "green&g4&good&0&3"))
    (root / "AVE" / "g4.mp4").unlink()
    coloured_video(root / "AVE" / "g4.mp4", "red", 0, 3)
    assert measured(mine).metrics["data"]["changes"] == ["1 sample of test with another video file than before (g4)"]


def test_the_card_shows_what_belongs_to_the_run(run: Path, other: Path, tmp_path: Path) -> None:
    own, val, theirs = measured(run).metrics, measured(run, split="val").metrics, measured(run, other).metrics
    card = (save_pretrained(run, tmp_path / "shared") / "README.md").read_text()
    results, elsewhere = card.split("## Results")[1].split("On other data than it was trained with")
    assert f"| test | {100 * own['segment_accuracy']:.2f} % | 3 |" in results
    assert f"| val | {100 * val['segment_accuracy']:.2f} % | 3 |" in results
    name = f"`other` ({theirs['data']['fingerprint'][:12]})"
    assert f"| {name} | test | {100 * theirs['segment_accuracy']:.2f} % | 2 |" in elsewhere
    assert "dataset_name: other" not in card
    # The shared folder knows its data too, and so does a card of it.
    shared = tmp_path / "shared"
    assert measured(shared).folder == shared
    assert measured(shared, other).folder == shared / "evaluations" / f"other-{theirs['data']['fingerprint'][:12]}"
    assert set(read_records(shared).own) == {"test"}


def test_figures_of_other_data_alone_are_not_the_runs(run: Path, other: Path) -> None:
    measured(run, other)
    records = read_records(run)
    assert records.own == {}
    assert [record["data"]["root"] for record in records.others] == ["other"]


def test_a_record_of_earlier_weights_is_left_out(run: Path, tiny_experiment: Make) -> None:
    measured(run)
    train(tiny_experiment(**{"train.epochs": 1, "train.seed": 1}), run.parent / "one", progress=False)
    shutil.copy(run.parent / "one" / "model.safetensors", run)
    records = read_records(run)
    assert (records.own, records.others, records.outdated) == ({}, (), ("evaluation-test.json",))


def test_a_report_is_of_the_data_that_is_named(run: Path, other: Path, tiny_experiment: Make) -> None:
    note = "is not of the model in this folder"
    own, theirs = report(run, progress=False), report(run, root=str(other), progress=False)
    assert own.parent == run
    assert theirs.parent.parent == run / "evaluations"
    assert "(3 videos)" in own.read_text()
    assert "(2 videos)" in theirs.read_text()
    assert note not in own.read_text()
    train(tiny_experiment(**{"train.epochs": 1, "train.seed": 1}), run.parent / "one", progress=False)
    shutil.copy(run.parent / "one" / "model.safetensors", run)
    assert note in report(run, progress=False).read_text()


def test_a_record_of_an_earlier_version_is_not_known_to_be_the_runs(tmp_path: Path) -> None:
    run = shutil.copytree(Path(__file__).parent / "written_before" / "avel-linear-finished", tmp_path / "run")
    (tmp_path / "run" / "evaluation-test.json").write_text('{"split": "test", "segment_accuracy": 0.5, "videos": 3}')
    card = (save_pretrained(run, tmp_path / "shared") / "README.md").read_text()
    assert "| not recorded | test | 50.00 % | 3 |" in card
    assert "| val (selection) | " in card


def test_a_checkpoint_file_has_its_records_below_its_own_name(run: Path, other: Path) -> None:
    copy = shutil.copy(run / "model.safetensors", run / "best.safetensors")
    assert measured(run / "model.safetensors").folder == run
    assert measured(Path(copy)).folder == run / "evaluations" / "best"
    assert set(read_records(run).own) == set(read_records(copy).own) == {"test"}


# Only a test split, with some of the classes in another order.


def by_video(folder: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / "predictions-test.jsonl").read_text().splitlines()]
    return {row["video"]: {key: value for key, value in row.items() if key != "key"} for row in rows}


def test_another_reader(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    own = measured(run).metrics
    table = tmp_path / "test.csv"
    rows = [row.split("&") for row in TEST]
    lines = [f"{tiny_data / 'AVE' / name}.mp4,{start},{end},{label},test" for label, name, _, start, end in rows]
    table.write_text("\n".join(["video,start_seconds,end_seconds,label,split", *lines]) + "\n")
    result: Any = evaluate(run, root=str(table), reader="manifest", progress=False)
    assert result.metrics["confusion_matrix"] == own["confusion_matrix"]
    assert result.metrics["data"]["reader"] == "manifest"
    assert result.folder.parent == run / "evaluations"


@pytest.mark.parametrize("reader", ["ave", "manifest"])
@pytest.mark.parametrize("rows", [[TEST[1], TEST[0]], TEST[1:]], ids=["another order", "one class"])
def test_events_of_a_test_set_are_numbered_as_in_training(
    reader: str, rows: list[str], tiny_experiment: Make, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(tiny_run, tmp_path / "run")
    measured(own)
    root = tmp_path / "only-test"
    (root / "AVE").mkdir(parents=True)
    lines = [row.split("&") for row in rows]
    for _, name, *_ in lines:
        (root / "AVE" / f"{name}.mp4").symlink_to(tiny_data / "AVE" / f"{name}.mp4")
    run = own
    if reader == "ave":
        (root / "testSet.txt").write_text("\n".join(rows) + "\n")
        names = {name: name for _, name, *_ in lines}
    else:
        # The same model, as if it had been trained on a manifest.
        table = ["video,start_seconds,end_seconds,label,split"]
        table += [f"AVE/{name}.mp4,{start},{end},{label},test" for label, name, _, start, end in lines]
        (root / "only.csv").write_text("\n".join(table) + "\n")
        run = as_if_of_a_manifest(tiny_run, tmp_path / "manifest", root / "only.csv")
        names = {f"AVE/{name}.mp4": name for _, name, *_ in lines}
        root = root / "only.csv"
    result = measured(run, root)
    expected, found = by_video(own), by_video(result.folder)
    assert {names[video]: {**row, "video": names[video]} for video, row in found.items()} == {
        name: expected[name] for name in names.values()
    }
    metrics = result.metrics
    pairs = [pair for row in found.values() for pair in zip(row["target"], row["prediction"], strict=True)]
    assert metrics["segment_accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    background = [target == "background" for target, _ in pairs]
    assert metrics["references"]["always background"] == pytest.approx(sum(background) / len(background))
    assert list(metrics["per_class_accuracy"]) == ["green", "red", "background"]
    if len({label for label, *_ in lines}) == 1:
        assert metrics["per_class_accuracy"]["green"] is None
        assert metrics["confusion_matrix"][0] == [0, 0, 0]


def as_if_of_a_manifest(tiny_run: Path, folder: Path, manifest: Path) -> Path:
    from avpea.checkpoint import load_model, save_model

    model, info = load_model(tiny_run)
    experiment = info.experiment.override({"data.name": "manifest", "data.root": str(manifest)})
    folder.mkdir()
    save_model(folder / "model.safetensors", model, experiment, info.labels, info.results)
    return folder


def test_constants_of_other_data_know_their_train_split(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    own = measured(run).metrics["references"]
    assert any(name.endswith("the most frequent class in training") for name in own)
    root = shutil.copytree(tiny_data, tmp_path / "other")
    lines = (root / "trainSet.txt").read_text().splitlines()
    (root / "trainSet.txt").write_text("\n".join(lines[:-1]) + "\n")
    test = (root / "testSet.txt").read_text().splitlines()
    (root / "testSet.txt").write_text("\n".join(test[:-1]) + "\n")
    result = measured(run, root)
    assert result.metrics["data"]["own"] is False
    background, constant = result.metrics["references"]
    assert background == "always background"
    assert constant.endswith("the most frequent class in the train split of these data")


def test_questions_of_a_test_split_alone(tiny_asked_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_asked_run, tmp_path / "run")
    own = measured(run).metrics
    root = write_questions(tmp_path / "only", tiny_data, {"test": list(reversed(TEST))})
    result = measured(run, root)
    assert result.folder == run / "evaluations" / f"only-{result.metrics['data']['fingerprint'][:12]}"
    assert result.metrics["overall_accuracy"] == pytest.approx(own["overall_accuracy"])
    assert result.metrics["per_type_accuracy"] == pytest.approx(own["per_type_accuracy"])
    assert result.metrics["unanswerable"] == 0
    assert own["references"] != {} == result.metrics["references"]  # they need the training questions
    path = root / "avqa" / "avqa-test.json"
    path.write_text(path.read_text().replace('"anser": "red"', '"anser": "purple"'))
    assert measured(run, root).metrics["unanswerable"] == 2


def test_captions_of_a_test_split_alone(tiny_matched_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_matched_run, tmp_path / "run")
    own = measured(run).metrics
    result = measured(run, write_captions(tmp_path / "only", tiny_data, {"test": TEST}))
    assert result.metrics["mean_recall"] == pytest.approx(own["mean_recall"])
    assert result.metrics["data"]["own"] is False
