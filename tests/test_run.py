"""A run knows its settings and its data: what may change between sessions, what is refused, and with what words."""

import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from avpea.backbones import VGGish
from avpea.cli import main
from avpea.errors import CheckpointError, DataError, ExperimentError
from avpea.experiment import Experiment
from avpea.model import AVModel
from avpea.optimizer import rate_factor
from avpea.sharing import save_pretrained
from avpea.tensors import read_tensors, write_tensors
from avpea.train import train
from tests.tiny import ROWS, assert_same_run, metric_lines, section, write_questions, write_rows, write_weights

Make = Callable[..., Experiment]
BEFORE = Path(__file__).parent / "written_before"
TRAIN, VAL, TEST = ROWS["train"], ROWS["val"], ROWS["test"]

# Changed rows by split, and what the refusal says of them.
CHANGES: dict[str, tuple[dict[str, list[str]], str]] = {
    "another label": (
        {"train": ["red&g0&good&0&2", *TRAIN[1:]]},
        r"1 sample of train with other labels \(g0: green 0-2 became red 0-2\)",
    ),
    "other times": (
        {"val": ["red&r2&good&1&2", *VAL[1:]]},
        r"1 sample of val with other labels \(r2: red 0-2 became red 1-2\)",
    ),
    "a further row": ({"train": [*TRAIN, "red&r4&good&0&1"]}, r"1 sample added to train \(r4\)"),
    "a row less": ({"train": TRAIN[1:]}, r"1 sample gone from train \(g0\)"),
    "another split": (
        {"train": [TRAIN[0], *TRAIN[2:]], "val": [*VAL, TRAIN[1]]},
        r"1 sample moved from train to val \(r0\)\. Put the data back",
    ),
    "another test set": ({"test": TEST[:2]}, r"1 sample gone from test \(r5\)"),
    "a class renamed": (
        {split: [row.replace("green", "blue") for row in rows] for split, rows in ROWS.items()},
        r"the classes were green, red and are blue, red \(new: blue; gone: green\); 3 samples of train with other",
    ),
    "a class less": (
        {split: [row for row in rows if "green" not in row] for split, rows in ROWS.items()},
        r"the classes were green, red and are red \(gone: green\); 3 samples gone from train \(g0, g1, g2\)",
    ),
}


@pytest.mark.parametrize("further", [0, 1], ids=["finished", "to be trained further"])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_labels_are_refused_with_what_changed(
    change: str, further: int, tiny_experiment: Make, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    rows, said = CHANGES[change]
    root = write_rows(tmp_path / "data", tiny_data, **rows)
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(CheckpointError, match=rf"trained on other data than data holds now: .*{said}") as refusal:
        train(tiny_experiment(**{"data.root": str(root)}), run, extend=further, progress=False)
    assert str(refusal.value).endswith("choose another folder with --run, or remove this one to train anew.")
    assert_same_run(run, tiny_run)


def test_data_that_has_moved_is_the_same(
    tiny_experiment: Make, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    root = write_rows(tmp_path / "elsewhere", tiny_data)
    run = shutil.copytree(tiny_run, tmp_path / "run")
    assert train(tiny_experiment(**{"data.root": str(root)}), run, progress=False).finished_before


def test_another_order_of_the_samples_matters_only_to_further_training(
    tiny_experiment: Make, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    # Annotations.txt, which has the order of the classes, is as it was.
    root = write_rows(tmp_path / "data", tiny_data)
    (root / "trainSet.txt").write_text("\n".join(reversed(TRAIN)) + "\n")
    run = shutil.copytree(tiny_run, tmp_path / "run")
    experiment = tiny_experiment(**{"data.root": str(root)})
    assert train(experiment, run, progress=False).finished_before
    with pytest.raises(CheckpointError, match="the samples of train are in another order"):
        train(experiment, run, extend=1, progress=False)


def test_another_file_under_the_name_of_a_video_is_refused(
    tiny_experiment: Make, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    root = write_rows(tmp_path / "data", tiny_data)
    (root / "AVE" / "g2.mp4").unlink()
    shutil.copy(tiny_data / "AVE" / "g1.mp4", root / "AVE" / "g2.mp4")
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"1 sample of train with another video file than before \(g2\)"):
        train(tiny_experiment(**{"data.root": str(root)}), run, progress=False)
    (root / "AVE" / "g2.mp4").unlink()
    experiment = tiny_experiment(**{"data.root": str(root)})
    assert train(experiment, run, progress=False).finished_before  # nothing is to be read any more
    with pytest.raises(CheckpointError, match=r"1 sample of train whose video is missing now \(g2\)"):
        train(experiment, run, extend=1, progress=False)


def test_a_video_that_was_missing_and_is_there_now(tiny_experiment: Make, tiny_data: Path, tmp_path: Path) -> None:
    root = write_rows(tmp_path / "data", tiny_data)
    (root / "AVE" / "g2.mp4").unlink()
    experiment = tiny_experiment(**{"data.root": str(root), "train.epochs": 1})
    train(experiment, tmp_path / "run", progress=False)
    (root / "AVE" / "g2.mp4").write_bytes((tiny_data / "AVE" / "g2.mp4").read_bytes())
    with pytest.raises(CheckpointError, match=r"1 sample of train whose video was missing before \(g2\)"):
        train(experiment, tmp_path / "run", progress=False)


def test_a_video_that_could_be_read_when_the_run_began(
    tiny_experiment: Make, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """As if a decoder could not read it any more: the file itself is the same."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "skipped.json").write_text('{"train-0004-g2": "broken"}')
    with pytest.raises(CheckpointError, match=r"other videos than can be used now \(train-0004-g2 can be used now\)"):
        train(tiny_experiment(), run, extend=1, progress=False)
    assert_same_run(run, tiny_run)


def test_without_the_list_of_samples_the_model_knows_its_data(
    tiny_experiment: Make, tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    root = write_rows(tmp_path / "data", tiny_data, train=TRAIN[1:])
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "data.json").unlink()
    assert train(tiny_experiment(), run, progress=False).finished_before
    with pytest.raises(CheckpointError, match=r"samples or labels, but .*data\.json is gone, which knows them"):
        train(tiny_experiment(**{"data.root": str(root)}), run, progress=False)


def test_changed_answers_are_refused(
    tiny_asking: Make, tiny_asked_run: Path, tiny_data: Path, tiny_questions: Path, tmp_path: Path
) -> None:
    root = write_questions(tmp_path / "data", tiny_data)
    path = root / "avqa" / "avqa-train.json"
    rows = json.loads(path.read_text())
    rows[1]["anser"] = "yes"
    path.write_text(json.dumps(rows))
    run = shutil.copytree(tiny_asked_run, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"1 sample of train with other labels \(g0: other words\)"):
        train(tiny_asking(**{"data.root": str(root)}), run, progress=False)


# Runs of version 0.1.0, which do not know their data.


def of_an_earlier_version(tmp_path: Path, name: str, **data: Any) -> tuple[Experiment, Path]:
    from avpea.history import read_experiment
    from avpea.parsing import read_yaml

    run = shutil.copytree(BEFORE / name, tmp_path / "run")
    here = {f"data.{key}": str(value) for key, value in data.items()}
    return read_experiment(read_yaml(run / "experiment.yaml")).override(here), run


def test_a_run_of_an_earlier_version_says_that_it_does_not_know_its_data(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, run = of_an_earlier_version(tmp_path, "avel-linear-finished", root=tiny_data)
    before = metric_lines(run)
    assert train(experiment, run, progress=False).finished_before
    said = capsys.readouterr().err
    assert said.startswith(f"avpea: {run} was started by an earlier version and does not know its data;")
    assert said.count("\n") == 1
    assert metric_lines(run) == before
    assert not (run / "data.json").exists()  # what it was trained on is not known any better now


@pytest.mark.parametrize("name", ["avel-linear", "avel-linear-finished"])
@pytest.mark.parametrize("old", [("green", "red"), ("red", "green")])
def test_its_classes_are_compared_in_their_order(
    name: str, old: tuple[str, str], tiny_data: Path, tmp_path: Path
) -> None:
    # In the order of appearance the classes are red and green, or yellow and red.
    new = {"green": "red", "red": "green"} if old[0] == "red" else {"green": "yellow"}
    rows = {split: ["&".join([new.get(row.split("&")[0], "red"), *row.split("&")[1:]]) for row in some]
            for split, some in ROWS.items()}  # fmt: skip
    root = write_rows(tmp_path / "data", tiny_data, **rows)
    experiment, run = of_an_earlier_version(tmp_path, name, root=root)
    said = "the same in another order" if old[0] == "red" else "new: yellow; gone: green"
    with pytest.raises(CheckpointError, match=rf"the classes were green, red and are \w+, \w+ \({said}\)"):
        train(experiment, run, progress=False)


# Trained further.


def test_trained_further_a_run_is_one_of_all_epochs(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    short = tiny_experiment(**{"train.epochs": 1})
    train(short, tmp_path, progress=False)
    with pytest.raises(
        CheckpointError, match=r"train\.epochs is 1, not 3\); --extend 2 beside --train\.epochs 1 trains"
    ):
        train(tiny_experiment(), tmp_path, progress=False)
    result = train(short, tmp_path, extend=2, progress=False)
    assert [line["epoch"] for line in result.epochs] == [1, 2, 3]
    assert not result.finished_before
    assert_same_run(tmp_path, tiny_run)
    assert train(short, tmp_path, extend=2, progress=False).finished_before
    assert train(tiny_experiment(), tmp_path, progress=False).finished_before
    with pytest.raises(CheckpointError, match=r"is 3, not 1\); --extend 2 beside --train\.epochs 1 goes on with it"):
        train(short, tmp_path, progress=False)


@pytest.mark.slow
def test_an_interrupted_extension_goes_on(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    short, module = tiny_experiment(**{"train.epochs": 1}), importlib.import_module("avpea.train")
    train(short, tmp_path, progress=False)

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    for name in ("make_optimizer", "infer"):  # before anything is saved, and after
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(short, tmp_path, extend=2, progress=False)
    with pytest.raises(CheckpointError, match="has not finished its 3 epochs yet, so it cannot be extended"):
        train(short, tmp_path, extend=5, progress=False)
    assert not train(short, tmp_path, extend=2, progress=False).finished_before
    assert_same_run(tmp_path, tiny_run)


def test_what_cannot_be_extended(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no run .* to extend; train it first, without --extend"):
        train(tiny_experiment(), tmp_path / "none", extend=1, progress=False)
    with pytest.raises(ExperimentError, match="--extend is -1; expected the number of further epochs"):
        train(tiny_experiment(), tiny_run, extend=-1, progress=False)
    with pytest.raises(CheckpointError, match=r"train\.seed is 0, not 7"):
        train(tiny_experiment(**{"train.seed": 7}), tiny_run, extend=1, progress=False)
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "state.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has not finished its 3 epochs yet"):
        train(tiny_experiment(), run, extend=1, progress=False)


def test_a_model_that_was_not_trained_there_is_not_replaced(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    """As an import leaves it."""
    run = tmp_path / "imported"
    run.mkdir()
    for name in ("experiment.yaml", "model.safetensors"):
        shutil.copy(tiny_run / name, run)
    with pytest.raises(CheckpointError, match=r"not trained there.*--train\.start_from .*imported\.$"):
        train(tiny_experiment(), run, progress=False)


def without_origin(run: Path) -> None:
    """Let a state be as version 0.1.0 wrote it, without the weights that the training began with."""
    state = run / "state.safetensors"
    found = read_tensors(state)
    about = {key: value for key, value in found.metadata.items() if key in ("format", "position")}
    write_tensors(state, {key: value.clone() for key, value in found.tensors.items()}, about)


def contents(run: Path) -> dict[str, bytes]:
    """What a run's files hold."""
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("before", [False, True], ids=["this version", "0.1.0"])
def test_a_run_goes_on_with_its_own_frozen_weights_only(before: bool, tiny_experiment: Make, tmp_path: Path) -> None:
    run, mine, other = tmp_path / "run", *(write_weights(tmp_path / f"{n}.safetensors", n) for n in (1, 2))
    experiment = tiny_experiment(**{"train.epochs": 1, "train.keep": "last", "backbone.weights": str(mine)})
    train(experiment, run, progress=False)
    if before:
        without_origin(run)
    held = contents(run)
    said = r"trained on other frozen weights \(backbone\.weights is of fingerprint \w{16}, not of fingerprint \w{16}\)"
    for weights in (str(other), "random"):
        for extend in (0, 1):
            with pytest.raises(CheckpointError, match=rf"{said}; .* with --backbone\.weights FILE, or choose another"):
                train(experiment.override({"backbone.weights": weights}), run, extend=extend, progress=False)
    assert contents(run) == held
    moved = experiment.override({"backbone.weights": str(mine.rename(tmp_path / "moved.safetensors"))})
    assert train(moved, run, progress=False).finished_before
    assert len(train(moved, run, extend=1, progress=False).epochs) == 2


def test_a_run_goes_on_with_the_audio_weights_that_it_began_with(
    small_vggish: None, tiny_experiment: Make, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    save_file(VGGish().state_dict(), tmp_path / "vggish.safetensors")
    network = {"backbone.name": "test_resnet", "backbone.image_size": 64, "train.epochs": 1}
    sound = {"encoder.name": "separate", "encoder.audio_weights": "random", "audio.features": "vggish"}
    experiment = tiny_experiment(**network, **sound)
    run = train(experiment, tmp_path / "run", progress=False).run
    other = experiment.override({"encoder.audio_weights": str(tmp_path / "vggish.safetensors")})
    with pytest.raises(CheckpointError, match=r"encoder\.audio_weights is .*--encoder\.audio_weights FILE"):
        train(other, run, extend=1, progress=False)


@pytest.mark.parametrize("before", [False, True], ids=["this version", "0.1.0"])
def test_a_run_goes_on_with_what_it_started_from_only(
    before: bool, tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    run, stage = tmp_path / "run", shutil.copytree(tiny_run, tmp_path / "stage")
    other = train(tiny_experiment(**{"train.seed": 5, "train.epochs": 1}), tmp_path / "other", progress=False).run
    experiment = tiny_experiment(**{"train.epochs": 1, "train.start_from": str(stage)})
    train(experiment, run, progress=False)
    if before:
        without_origin(run)
    held = contents(run)
    for start in (str(other), ""):
        for extend in (0, 1):
            with pytest.raises(CheckpointError, match=r"from other weights \(train\.start_from is .*, not .*\); give"):
                train(experiment.override({"train.start_from": start}), run, extend=extend, progress=False)
    assert contents(run) == held
    (tmp_path / "elsewhere").mkdir()
    moved = stage.rename(tmp_path / "elsewhere" / stage.name)
    assert train(experiment.override({"train.start_from": str(moved)}), run, progress=False).finished_before
    if not before:
        there = experiment.override({"train.start_from": str(moved)})
        assert train(there, run, progress=False).finished_before
        shutil.copy(other / "model.safetensors", stage)
        with pytest.raises(CheckpointError, match="train\\.start_from is of fingerprint"):
            train(experiment, run, progress=False)  # the path is the same, and other weights are there
        stage.unlink()
    assert len(train(experiment, run, extend=1, progress=False).epochs) == 2  # nothing needs it any more


def test_a_run_from_the_start_is_none_from_another_one(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"train\.start_from is empty, not of fingerprint \w{16}\)"):
        train(tiny_experiment(**{"train.start_from": str(tiny_run)}), run, extend=1, progress=False)


def test_the_rate_of_further_epochs_is_that_of_a_run_of_all() -> None:
    short, long = (section("train", epochs=epochs, schedule="cosine") for epochs in (2, 3))
    assert rate_factor(short, 8, 4) == pytest.approx(0.0)
    assert [rate_factor(long, step, 4) for step in (8, 10, 12)] == pytest.approx([0.25, 0.0669873, 0.0])


# On the command line.


def test_a_finished_run_says_so(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_experiment().to_yaml())
    run = shutil.copytree(tiny_run, tmp_path / "run")
    assert main(["train", str(recipe), "--run", str(run), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{run} is finished already, and nothing was trained; --extend N trains it for N more")
    assert "best epoch" in printed
    assert "on val" in printed
    assert_same_run(run, tiny_run)
    recipe.write_text(tiny_experiment(**{"train.epochs": 2}).to_yaml())
    assert main(["train", str(recipe), "--run", str(run), "--extend", "1", "--quiet"]) == 0
    assert "nothing was trained; more than --extend 1 trains it further." in capsys.readouterr().out


def test_settings_that_stand_twice_are_told(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with (run / "experiment.yaml").open("a") as file:
        file.write("task: {name: avel}\n")
    with pytest.raises(CheckpointError, match=r"'task' stands twice .* Mend it or copy the run anew, or choose"):
        train(tiny_experiment(), run, progress=False)


@pytest.mark.parametrize("gone", [*(pytest.param(one, marks=pytest.mark.slow) for one in ("cache", "videos")), "both"])
def test_what_vanishes_in_the_middle_of_training(
    gone: str, tiny_experiment: Make, tiny_run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache is made anew while there are videos; without videos training stops with a sentence, and goes on later."""
    root = write_rows(tmp_path / "data", tiny_data)
    changes = {"data.root": str(root), "data.cache": str(tmp_path / "cache"), "train.checkpoint_minutes": 1e-6}
    experiment, original, calls = tiny_experiment(**changes), AVModel.forward, iter(range(100))

    def vanish(self: AVModel, *arguments: Any) -> Any:
        if next(calls) == 4:
            if gone != "videos":
                shutil.rmtree(tmp_path / "cache")
            if gone != "cache":
                (root / "AVE").rename(root / "elsewhere")
        return original(self, *arguments)

    monkeypatch.setattr(AVModel, "forward", vanish)
    if gone != "cache":
        with pytest.raises(DataError, match=r"there is no such file.* the same command goes on from the last state in"):
            train(experiment, tmp_path / "run", progress=False)
        (root / "elsewhere").rename(root / "AVE")
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", tiny_run)


@pytest.mark.parametrize("now", [0.0, 4e9])
def test_a_clock_that_jumps_changes_nothing(
    now: float, tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_experiment(**{"train.epochs": 2})
    train(experiment, tmp_path / "run", progress=False)
    monkeypatch.setattr(time, "time", lambda: now)
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, (now, now))
    train(experiment, tmp_path / "run", extend=1, progress=False)
    assert_same_run(tmp_path / "run", tiny_run)


def test_files_of_a_run_have_the_permissions_of_the_umask(tiny_experiment: Make, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        experiment = tiny_experiment(**{"data.cache": str(tmp_path / "cache"), "train.epochs": 1})
        train(experiment, tmp_path / "run", progress=False)
        assert main(["evaluate", str(tmp_path / "run"), "--quiet"]) == 0
        assert main(["report", str(tmp_path / "run"), "--quiet"]) == 0
        save_pretrained(tmp_path / "run", tmp_path / "shared")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".json", ".jsonl", ".yaml", ".html", ".md", ".avpea"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}
