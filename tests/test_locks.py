"""Who may write in a run folder: one process at a time, whatever became of those before."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avpea import locks
from avpea.calibrate import calibrate
from avpea.cli import main
from avpea.errors import CheckpointError, InUseError
from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.locks import locked
from avpea.train import train
from tests.tiny import assert_same_run, elsewhere, exit_code, start_training

Make = Callable[..., Experiment]
OTHER = """
    import sys, time
    from pathlib import Path
    from avpea.locks import locked

    with locked(Path(sys.argv[1]), "is being trained"):
        print("held", flush=True)
        time.sleep(120)
"""


def test_the_lock_of_another_process_says_who_and_ends_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(OTHER), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said = rf"run is being trained by process {other.pid} on \S+ since 20\d\d-.*; wait until that is done, or end"
        with pytest.raises(InUseError, match=said), locked(tmp_path / "run", "is being trained"):
            pytest.fail("two hold it")
        other.kill()
    assert (tmp_path / "run" / ".lock").exists()  # which is no obstacle
    os.utime(tmp_path / "run" / ".lock", (4e9, 4e9))
    with locked(tmp_path / "run", "is being trained"), locked(tmp_path / "run", "again"):
        pass
    assert [*tmp_path.rglob("*")] == [tmp_path / "run"]


def test_a_folder_that_was_made_for_a_lock_goes_with_it(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b", "is used"):
        assert (tmp_path / "a" / "b" / ".lock").exists()
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a" / "b", "is used"):
        (tmp_path / "a" / "b" / "file").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def _count(folder: Path, turns: int) -> None:
    done = 0
    while done < turns:
        try:
            with locked(folder / "run", "is counted in"):
                number = folder / "number"
                number.write_text(str(int(number.read_text()) + 1))
            done += 1
        except InUseError:
            pass


def test_of_many_at_once_one_holds_it(tmp_path: Path) -> None:
    """The file of the lock, and its folder, come and go all the time."""
    (tmp_path / "number").write_text("0")
    threads = [threading.Thread(target=_count, args=(tmp_path, 50)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "number").read_text() == "150"


def test_where_there_are_no_locks_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "try_lock", lambda _: "unknown")
    for _ in range(2):
        with locked(tmp_path / "run", "is used"):
            pass
    assert capsys.readouterr().err.count("has no locks") == 1


def test_a_folder_that_is_trained_in_is_refused_at_once(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "tiny.yaml").write_text(tiny_experiment().to_yaml())
    with elsewhere(run):
        for further in ([], ["--extend", "1"]):
            assert main(["train", str(tmp_path / "tiny.yaml"), "--run", str(run), *further]) == 1
            assert f"run is being trained by process {os.getpid()} on " in capsys.readouterr().err
        with pytest.raises(InUseError, match="is being trained by process"):
            calibrate(run, progress=False)
        assert evaluate(run, progress=False).metrics["videos"] == 3  # of the best model so far
    with elsewhere(run, "is being evaluated on test", ".evaluation-test.lock"):
        with pytest.raises(CheckpointError, match="is being evaluated on test by process"):
            evaluate(run, progress=False)
        assert evaluate(run, "val", progress=False).metrics["videos"] == 3
    assert_same_run(run, tiny_run)
    assert not list(run.glob(".*"))


def test_a_killed_training_is_no_obstacle(tiny_experiment: Make, tiny_run: Path, tmp_path: Path) -> None:
    moment = ("avpea.model:AVModel.forward", 7)
    process, _ = start_training(tiny_experiment().to_dict(), tmp_path / "run", *moment)
    assert exit_code(process) == -signal.SIGKILL
    assert (tmp_path / "run" / ".lock").exists()
    train(tiny_experiment(), tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", tiny_run)
    assert not list((tmp_path / "run").glob(".*"))


SLOWLY = [pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGHUP, signal.SIGINT)]


@pytest.mark.parametrize("number", [signal.SIGTERM, *SLOWLY])
def test_every_signal_that_asks_to_end_saves_the_state_first(
    number: signal.Signals, tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("the tests were started with nohup, so that their processes ignore this signal")
    moment = ("avpea.model:AVModel.forward", 2)
    process, _ = start_training(tiny_experiment().to_dict(), tmp_path / "run", *moment, number=number)
    assert exit_code(process) == 128 + number
    assert (tmp_path / "run" / "state.safetensors").is_file()
    train(tiny_experiment(), tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", tiny_run)


OTHERS: dict[str, Callable[[Path, Path], Any]] = {
    "a link": lambda path, other: path.symlink_to(other),
    "a link to nothing": lambda path, other: path.symlink_to(other.with_name("nothing")),
    "another name of a file": lambda path, other: os.link(other, path),
    "a folder": lambda path, other: path.mkdir(),
    "a pipe": lambda path, other: os.mkfifo(path),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_has_the_name_of_a_lock_is_not_written_to(
    what: str, tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    """A stranger's run may have a link there to a file of the user's."""
    run, other = shutil.copytree(tiny_run, tmp_path / "run"), tmp_path / "mine.txt"
    other.write_text("mine")
    OTHERS[what](run / ".lock", other)
    with pytest.raises(InUseError, match=r"\.lock is no file of avpea's, but a link or no regular file; remove it\.$"):
        train(tiny_experiment(), run, extend=1, progress=False)
    assert other.read_text() == "mine"
    assert os.path.lexists(run / ".lock")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "run"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_folder_in_which_no_file_can_be_made_is_no_endless_wait() -> None:
    with locked(Path("/proc/self"), "is being tried"):  # as in a folder that is read only
        assert not Path("/proc/self/.lock").exists()
