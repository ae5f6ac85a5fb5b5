"""Several processes from the command line: the same files as from one, ended together, and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from avpea import launch
from avpea.cli import main
from avpea.experiment import Experiment
from avpea.train import train
from tests.tiny import assert_same_run, metric_lines

Make = Callable[..., Experiment]


def recipe(experiment: Experiment, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(experiment.to_yaml(), encoding="utf-8")
    return path


def started(words: list[str], **environment: str) -> "subprocess.Popen[str]":
    shared = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    command = [sys.executable, "-m", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=shared | environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, said = process.communicate(timeout=200)
    return process.returncode, out, said


@pytest.mark.slow
def test_two_processes_from_the_command_line(tiny_experiment: Make, tmp_path: Path) -> None:
    """One run folder, written by one of them; what it holds is as from a single process, up to rounding."""
    experiment = tiny_experiment(**{"train.batch_size": 3})
    words = ["avpea", "train", str(recipe(experiment, tmp_path)), "--run", str(tmp_path / "run"), "--quiet"]
    code, out, said = ended(started([*words, "--train.devices", "2"]))
    assert (code, said) == (0, "")
    assert out.count("best epoch") == 1
    alone = train(experiment, tmp_path / "alone", progress=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in alone.run.iterdir()}
    for ours, theirs in zip(metric_lines(tmp_path / "run"), metric_lines(alone.run), strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-3)
        assert ours["val/loss"] == pytest.approx(theirs["val/loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("variables", "options", "said"),
    [
        ({"RANK": "0", "WORLD_SIZE": "3"}, {}, "3 processes cannot share batches of 2 videos"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, {"train.devices": 3}, "train.devices is 3, but 2 processes were started"),
        ({}, {"train.devices": 0}, "train.devices is 0; expected 1 or more"),
        ({}, {"train.devices": 900}, "900 processes cannot share batches of 2 videos"),
        ({}, {"train.devices": 900, "train.batch_size": 1000}, "train.devices is 900, but there are"),
    ],
)
def test_numbers_that_do_not_fit(
    variables: dict[str, str],
    options: dict[str, Any],
    said: str,
    tiny_experiment: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)  # it is said before there are any processes
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = recipe(tiny_experiment(), tmp_path)
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["train", str(path), "--run", str(tmp_path / "run"), *given]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_other_commands_want_a_single_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", str(tmp_path)]) == 1
    assert (
        "2 processes were started (WORLD_SIZE), which only `avpea train` shares work among" in capsys.readouterr().err
    )


def test_one_process_alone_is_told_how_to_start(tiny_experiment: Make, tmp_path: Path) -> None:
    from avpea.errors import ExperimentError

    with pytest.raises(ExperimentError, match=r"train.devices is 2, but this is a single process"):
        train(tiny_experiment(**{"train.devices": 2}), tmp_path / "run", progress=False)


def test_the_process_that_died_is_named_and_not_the_one_that_was_ended_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("avpea.launch._GRACE_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    both = [subprocess.Popen([sys.executable, "-c", code]) for code in (deaf, dies)]
    first = launch._ended(both)
    assert first == 1
    assert launch._told([process.wait() for process in both], first, tmp_path) == 128 + signal.SIGKILL
    assert "process 1 of 2 was ended by SIGKILL" in capsys.readouterr().err


def children_of(process: "subprocess.Popen[str]", count: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = psutil.Process(process.pid).children()
        if len(found) == count:
            return found
        time.sleep(0.05)
    raise AssertionError("the processes do not start")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not (path.is_file() and path.stat().st_size):
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.05)


LONG = {"train.batch_size": 3, "train.epochs": 60, "train.checkpoint_minutes": 0.0001}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("whom", ["first", "second", "launcher"])
def test_the_end_of_one_is_the_end_of_all_and_the_run_goes_on_to_the_same_bits(
    whom: str, number: signal.Signals, tiny_experiment: Make, tmp_path: Path
) -> None:
    path = recipe(tiny_experiment(**LONG), tmp_path)

    def words(run: str) -> list[str]:
        return ["avpea", "train", str(path), "--run", str(tmp_path / run), "--quiet", "--train.devices", "2"]

    process = started(words("run"))
    workers = children_of(process, 2)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    victim = process.pid if whom == "launcher" else workers[whom == "second"].pid
    os.kill(victim, number)
    began = time.monotonic()
    code, _, said = ended(process)
    _, alive = psutil.wait_procs(workers, timeout=max(0.0, 30 - (time.monotonic() - began)))
    assert alive == []
    assert code != 0
    if number == signal.SIGKILL and whom != "launcher":
        assert f"process {int(whom == 'second')} of 2 was ended by SIGKILL" in said
        assert "Traceback" not in said
    assert not list((tmp_path / "run").glob(".*.tmp"))
    before = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert 0 < before < 60
    assert ended(started(words("run")))[0] == 0
    assert ended(started(words("whole")))[0] == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_the_form_for_torchrun(tiny_experiment: Make, tmp_path: Path) -> None:
    """Its parser takes `--run` for an option of its own unless `--` stands before the program."""
    path = recipe(tiny_experiment(**{"train.batch_size": 3}), tmp_path)
    words = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "--"]
    code, out, said = ended(started([*words, "avpea", "train", str(path), "--run", str(tmp_path / "run"), "--quiet"]))
    assert code == 0, said
    assert out.count("best epoch") == 1
    assert json.loads((tmp_path / "run" / "environment.json").read_text())
    code, out, said = ended(started([*words, "avpea", "evaluate", str(tmp_path / "run")]))
    assert code != 0
    assert "which only `avpea train` shares work among" in said


@pytest.mark.slow
def test_a_process_with_another_recipe(tiny_experiment: Make, tmp_path: Path) -> None:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    both = []
    for rank, rate in enumerate(("0.001", "0.002")):
        path = recipe(tiny_experiment(**{"train.batch_size": 3}), tmp_path / str(rank))
        words = ["avpea", "train", str(path), "--run", str(tmp_path / "run"), "--train.learning_rate", rate]
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        both.append(started(words, **shared, **own))
    for process in both:
        code, _, said = ended(process)
        assert code == 1
        assert "Process 1 has another recipe than process 0 (train.learning_rate is 0.001, not 0.002)" in said
    assert not (tmp_path / "run").exists()
