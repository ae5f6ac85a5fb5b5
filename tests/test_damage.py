"""A run folder whose files are damaged, gone, or something else: a right result or a sentence, never "epoch 1 of 0"."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avpea.cli import main
from avpea.errors import AvpeaError, CheckpointError
from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.train import train
from tests.tiny import assert_same_run

Make = Callable[..., Experiment]
FILES = [
    *("experiment.yaml", "data.json", "metrics.jsonl", "skipped.json", "environment.json", "model.safetensors"),
    *("state.safetensors", "evaluation-test.json", "predictions-test.jsonl"),
]


def cut(share: float) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def holding(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text)


HARMS: dict[str, Callable[[Path], Any]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    **{f"cut at {share}": cut(share) for share in (0.01, 0.3, 0.7, 0.99)},
    "random bytes": lambda path: path.write_bytes(random.Random(0).randbytes(1000)),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a folder": folder_instead,
    "a broken link": link_to_nowhere,
    **{text: holding(text) for text in ("[]", "{}", "null", "3", '"text"', '[{"a": 1}]')},
}


@pytest.fixture(scope="module")
def whole(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("damage") / "run")
    evaluate(run, progress=False)
    return run


QUICK = ("gone", "cut at 0.3", "a folder", "[]")


@pytest.mark.parametrize("name", FILES)
def test_training_mends_a_damaged_file_or_names_it(
    name: str, whole: Path, tiny_experiment: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for harm in QUICK:
        harmed(name, harm, whole, tiny_experiment, tmp_path, capsys)


@pytest.mark.parametrize("name", FILES[:7])
def test_something_else_in_the_place_of_a_file_is_named_and_kept(
    name: str, whole: Path, tiny_experiment: Make, tmp_path: Path
) -> None:
    for harm, said in ((folder_instead, "is a folder"), (link_to_nowhere, "is no regular file")):
        run = shutil.copytree(whole, tmp_path / harm.__name__)
        harm(run / name)
        before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
        for extend in (0, 1):
            with pytest.raises(CheckpointError, match=rf"{name} {said}.* move it away, or choose another --run"):
                train(tiny_experiment(), run, extend=extend, progress=False)
        assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


DAMAGED = {
    "experiment.yaml": (
        "",
        r"experiment\.yaml is empty; expected the options .* Mend it or copy the run anew, or choose",
    ),
    "data.json": ("3", r"data\.json is damaged: .*; copy the run anew, or remove this file"),
    "skipped.json": ("{", r"skipped\.json, line 1, column 2: not JSON .*; copy the run anew"),
    "environment.json": ("\xff", r"environment\.json: not UTF-8 text .*; remove it, and nothing else is lost"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_told_with_what_to_do(name: str, whole: Path, tiny_experiment: Make, tmp_path: Path) -> None:
    text, said = DAMAGED[name]
    run = shutil.copytree(whole, tmp_path / "run")
    (run / name).write_text(text, encoding="latin-1")
    with pytest.raises(AvpeaError, match=said):
        train(tiny_experiment(), run, extend=1, progress=False)
    if "remove" in said:
        (run / name).unlink()
        train(tiny_experiment(), run, extend=1, progress=False)
        assert (run / name).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_command_does_so_with_any_damage(
    name: str, whole: Path, tiny_experiment: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = (["calibrate"], ["report"], ["evaluate", "--split", "val"])
    for harm in HARMS:
        harmed(name, harm, whole, tiny_experiment, tmp_path, capsys, *commands)


def harmed(
    name: str, harm: str, whole: Path, make: Make, place: Path, capsys: pytest.CaptureFixture[str], *commands: list[str]
) -> None:
    recipe, run = place / "tiny.yaml", shutil.copytree(whole, place / "run")
    recipe.write_text(make().to_yaml())
    HARMS[harm](run / name)
    code = main(["train", str(recipe), "--run", str(run), "--quiet"])
    said = capsys.readouterr()
    assert code in (0, 1), harm
    if code == 0:
        assert "best epoch " in said.out, harm
        assert " of 3, " in said.out, harm
        assert_same_run(run, whole)
    else:
        assert said.err.startswith("avpea: "), harm
        assert str(run) in said.err, (harm, said.err)
    for command in commands:
        code = main([*command, str(run), "--quiet"])
        said = capsys.readouterr()
        assert code in (0, 1), (harm, command)
        assert code == 0 or said.err.startswith("avpea: "), (harm, command, said.err)
    shutil.rmtree(run)
