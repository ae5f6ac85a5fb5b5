"""Training on two machines, which are two calls of torchrun here: as one process trains, and ended together."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from avpea.experiment import Experiment
from avpea.files import write_text
from tests.data.data_factory import write_ave
from tests.several import refused, together, trained
from tests.tiny import ROWS, assert_same_run, tensors, write_rows

Make = Callable[..., Experiment]
Nodes = list["subprocess.Popen[str]"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def environment() -> dict[str, str]:
    given = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return given | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def nodes(*words: list[str], program: str = "avpea") -> Nodes:
    """Start torchrun for each node, with the words of its command."""
    port, started = str(free_port()), []
    for rank, own in enumerate(words):
        launcher = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes",
            str(len(words)),
            "--node_rank",
            str(rank),
        ]
        launcher += ["--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", port, "-m", "--"]
        started.append(
            subprocess.Popen(
                [*launcher, program, *own], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    return started


def ended(started: Nodes) -> list[tuple[int, str, str]]:
    found = []
    for node in started:
        out, said = node.communicate(timeout=200)
        assert "Traceback" not in "".join(line for line in said.splitlines() if "avpea/" in line)
        found.append((node.returncode, out, said))
    return found


def recipe(experiment: Experiment, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "tiny.yaml", experiment.to_yaml())
    return str(folder / "tiny.yaml")


def workers_of(node: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(node.pid).children()


STEPS = {"train.epochs": 3, "train.batch_size": 3, "train.learning_rate": 1e-2}


@pytest.mark.slow
def test_two_machines_train_as_one_process(tiny_experiment: Make, tmp_path: Path) -> None:
    """In float64, and as two processes of one machine do."""
    experiment = tiny_experiment(**STEPS)
    words = ["train", recipe(experiment, tmp_path), "--run", str(tmp_path / "machines"), "--quiet"]
    for code, _, said in ended(nodes(words, words, program="tests.in_float64")):
        assert code == 0, said
    found = tensors(tmp_path / "machines" / "state.safetensors")
    for processes in (1, 2):
        one = together(processes, trained, experiment.to_dict(), str(tmp_path / str(processes)))[0]
        assert one["steps"] == 6
        for name, weights in one["weights"].items():
            ours = found[f"model.{name}"].numpy()
            assert ours.dtype == weights.dtype
            np.testing.assert_allclose(ours, weights, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["its process", "its launcher", "all of it"])
@pytest.mark.parametrize("dies", [0, 1])
def test_a_machine_that_dies_ends_the_other_and_both_go_on(
    dies: int, whom: str, tiny_experiment: Make, tmp_path: Path
) -> None:
    """Within 30 seconds, and later to the bits of `--train.devices 2`."""
    changes = {"train.epochs": 20, "train.checkpoint_minutes": 1e-4}
    words = ["train", recipe(tiny_experiment(**STEPS | changes), tmp_path), "--quiet", "--run"]
    run, whole = str(tmp_path / "run"), str(tmp_path / "whole")
    both = nodes([*words, run], [*words, run])
    deadline = time.monotonic() + 120
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.is_file() and metrics.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [worker for node in both for worker in workers_of(node)]
    assert len(workers) == 2
    victims = {"its process": [workers[dies].pid], "its launcher": [both[dies].pid]}
    for victim in victims.get(whom, [both[dies].pid, workers[dies].pid]):
        os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    survivor = ended(both)[1 - dies]
    assert time.monotonic() - began < 30
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    assert survivor[0] != 0
    if whom != "its launcher":
        assert "Another process of this training has ended; its own message says why." in survivor[2]
    assert not list((tmp_path / "run").glob(".*.tmp"))
    assert 0 < len(metrics.read_text().splitlines()) < 20
    for code, _, said in ended(nodes([*words, run], [*words, run])):
        assert code == 0, said
    command = [sys.executable, "-m", "avpea", *words, whole, "--train.devices", "2"]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.fixture
def apart(tmp_path: Path) -> list[str]:
    """Two working directories, whose files two machines see under one path: `/proc/self/cwd`."""
    if not Path("/proc/self/cwd").exists():
        pytest.skip("two folders under one path need Linux's /proc")
    for name in "01":
        (tmp_path / name).mkdir()
    return [str(tmp_path / name) for name in "01"]


def test_a_run_folder_that_only_one_machine_sees_is_refused(tiny_experiment: Make, apart: list[str]) -> None:
    values = tiny_experiment(**STEPS).to_dict()
    said = together(2, refused, [values, values], "/proc/self/cwd/runs/new", apart)
    name = socket.gethostname()
    assert said[0] == (
        f"Process 1 on {name} does not see /proc/self/cwd/runs/new of process 0 on {name}; give --run a folder that "
        "all machines share, such as one on NFS."
    )
    assert said[1] == said[0]
    assert [list(Path(folder).iterdir()) for folder in apart] == [[], []]


def no_video(data: Path) -> None:
    (data / "AVE" / "g0.mp4").unlink()


def other_labels(data: Path) -> None:
    write_ave(data, ROWS | {"train": ["red&g0&good&0&2", *ROWS["train"][1:]]})


def another_order(data: Path) -> None:
    write_ave(data, ROWS | {"train": ROWS["train"][::-1]})


def no_root(data: Path) -> None:
    shutil.rmtree(data)


DIFFER: dict[str, tuple[Callable[[Path], None], str]] = {
    "a video is missing": (no_video, r"Process 1 reads other data than process 0 \(1 sample of train whose video is"),
    "other labels": (other_labels, r"Process 1 reads other data .* \(.*1 sample of train with other labels"),
    "another order": (another_order, r"Process 1 reads other data .* \(the samples of train are in another order"),
    "no data set": (no_root, r"Process 1 of 2 has ended: There is no folder /proc/self/cwd/data"),
}  # fmt: skip


@pytest.mark.parametrize(
    "what", [pytest.param(name, marks=() if name == "no data set" else pytest.mark.slow) for name in DIFFER]
)
def test_machines_with_other_data_are_refused(
    what: str, tiny_data: Path, tiny_experiment: Make, apart: list[str], tmp_path: Path
) -> None:
    """Each machine has a copy; the training ends on both, whichever of them cannot begin."""
    change, sentence = DIFFER[what]
    for folder in apart:
        write_rows(Path(folder) / "data", tiny_data)
    change(Path(apart[1]) / "data")
    values = tiny_experiment(**STEPS, **{"data.root": "/proc/self/cwd/data"}).to_dict()
    said = together(2, refused, [values, values], str(tmp_path / "run"), apart)
    assert re.match(sentence, said[0])
    assert said[1] in said[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_machines_with_other_recipes_are_refused(tiny_experiment: Make, tmp_path: Path) -> None:
    words = ["train", recipe(tiny_experiment(**STEPS), tmp_path), "--run", str(tmp_path / "run"), "--quiet"]
    for code, _, said in ended(nodes(words, [*words, "--train.learning_rate", "0.5"])):
        assert code == 1
        assert "avpea: Process 1 has another recipe than process 0 (train.learning_rate is 0.01, not 0.5)" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_script_for_slurm(tiny_experiment: Make, tmp_path: Path) -> None:
    """The command that docs/scale.md gives to `srun`, with the variables that SLURM sets."""
    page = (Path(__file__).parents[1] / "docs" / "scale.md").read_text("utf-8")
    command = re.search(r"srun .*?bash -c '(.*?)'", page, re.DOTALL)
    assert command is not None
    own = {
        "DIR": tiny_experiment().data.root,
        "paper/avel-vit-b16": recipe(tiny_experiment(**STEPS), tmp_path),
        "runs/big": str(tmp_path / "run"),
        "avpea train": f"{sys.executable} -m avpea train --quiet",
    }
    text = command[1]
    for name, value in own.items():
        assert name in text
        text = text.replace(name, value)
    shared = environment() | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "SLURM_NTASKS": "2"}
    both = [
        subprocess.Popen(
            ["bash", "-c", text], env=shared | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": "0"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for code, _, said in ended(both):
        assert (code, said) == (0, "")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
