"""A process that falls silent, as on a machine without power or network, ends the training of the others."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from avpea.distributed import World
from avpea.experiment import Experiment
from avpea.silence import Watch
from tests.test_launch import children_of, ended, recipe, started, wait_for

Make = Callable[..., Experiment]
LONG = {"train.batch_size": 3, "train.epochs": 2000, "train.silence_seconds": 5.0}


@pytest.mark.parametrize("leaves", [False, True])
def test_who_gives_no_sign_is_named_by_the_others_unless_it_has_left(leaves: bool) -> None:
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    keeper = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    third = PrefixStore("avpea-signs-0", keeper)
    third.set("name-2", "far-away")
    third.add("life-2", 1)
    said: list[list[str]] = [[], []]
    watches = [Watch(World(rank, 3), 1.0, said[rank].append, ("127.0.0.1", keeper.port)) for rank in range(2)]
    for watch in watches:
        watch.start()
    if leaves:
        third.add("life-2", 2**40)
    deadline = time.monotonic() + (3 if leaves else 60)
    while not all(said) and time.monotonic() < deadline:
        time.sleep(0.05)
    for watch in watches:
        watch.stop()
    sentence = (
        "Process 2 of 3 on far-away has given no sign of life for 1 seconds, so its machine, the network or the "
        "process has stopped; the same command goes on from the last saved state."
    )
    assert said == ([[], []] if leaves else [[sentence], [sentence]])


def test_a_store_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    said: list[str] = []
    watch = Watch(World(1, 2), 1.0, said.append, ("10.0.0.1", 1))
    watch._rounds = 1  # it has answered before
    watch._look()
    assert said[0].startswith("Process 0 of 2 at 10.0.0.1 has given no sign of life for 1 seconds")


@pytest.mark.slow
def test_a_stopped_process_ends_the_others_and_then_itself(tiny_experiment: Make, tmp_path: Path) -> None:
    """Without a launcher, as under `srun`, where nobody else would end them."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    path = recipe(tiny_experiment(**LONG), tmp_path)
    shared = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1"}
    words = ["avpea", "train", str(path), "--run", str(tmp_path / "run"), "--quiet"]
    every = [started(words, **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(3)]
    try:
        wait_for(tmp_path / "run" / "metrics.jsonl")
        every[1].send_signal(signal.SIGSTOP)
        for process in (every[0], every[2]):
            code, _, said = ended(process)
            assert code == 1
            assert said.count("avpea: ") == 1
            assert "avpea: Process 1 of 3 on " in said
            assert "has given no sign of life for 5 seconds" in said
        every[1].send_signal(signal.SIGCONT)
        code, _, said = ended(every[1])
        assert code == 1
        assert "Traceback" not in said
    finally:
        for process in every:
            process.kill()
    assert not list((tmp_path / "run").glob(".*.tmp"))


@pytest.mark.slow
def test_a_launcher_ends_the_stopped_process_too(tiny_experiment: Make, tmp_path: Path) -> None:
    path = recipe(tiny_experiment(**LONG), tmp_path)
    words = ["avpea", "train", str(path), "--run", str(tmp_path / "run"), "--quiet", "--train.devices", "2"]
    launcher = started(words)
    workers = children_of(launcher, 2)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    os.kill(workers[0].pid, signal.SIGSTOP)
    code, _, said = ended(launcher)
    assert code == 1
    assert said.count("avpea: ") == 1
    assert "Process 0 of 2 on " in said
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
