"""Trackers of training: what they are told can be read back by their own readers, and none can end a training."""

import json
import os
import shutil
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avpea.cli import main
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.stopping import Stopped
from avpea.train import train
from tests import tiny
from tests.several import together, trained
from tests.tiny import assert_same_tensors, exit_code, metric_lines

Make = Callable[..., Experiment]
HOSTILE = "$(touch pwned) <b>\n../x'; DROP TABLE runs;--"
# A tracker's package as small as it can be: each call is a line of a file, and a file says what fails.
FAKE_WANDB = """
import json, os
HERE = os.environ["FAKE_WANDB"]
def told(what, **about):
    if os.path.exists(f"{HERE}/{what} fails"):
        raise ConnectionError("no route\\nto host")
    with open(f"{HERE}/calls.jsonl", "a") as file:
        print(json.dumps([what, about]), file=file)
class Settings:
    def __init__(self, **values):
        vars(self).update(values)
        self.mode = "offline"
        self.sync_dir = HERE
class Run:
    settings, url = Settings(), ""
    class config:
        update = staticmethod(lambda values, **_: told("config", values=values))
    class summary:
        update = staticmethod(lambda values: told("summary", values=values))
    def log(self, values, step):
        told("log", step=step, values=values)
    def finish(self, exit_code):
        told("finish", exit_code=exit_code)
def setup(settings):
    class Setup: pass
    Setup.settings = Settings()
    return Setup
def init(id, resume, project, name, dir, settings):
    told("init", id=id, name=name)
    return Run()
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of calls of a fake `wandb`, which child processes import too."""
    folder = tmp_path / "fake"
    (folder / "site").mkdir(parents=True)
    (folder / "site" / "wandb.py").write_text(FAKE_WANDB)
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder / "site")
    monkeypatch.setenv("FAKE_WANDB", str(folder))
    return folder


def use(fake: str) -> None:
    """In another process: import the fake."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        del sys.modules[name]
    sys.path.insert(0, f"{fake}/site")
    os.environ["FAKE_WANDB"] = fake


def killed(fake: str, values: dict[str, Any], run: str, moment: str, count: int) -> None:
    use(fake)
    tiny._train(values, run, moment, count, signal.SIGKILL, threading.Event())


def trained_beside_others(fake: str, values: dict[str, Any], run: str) -> None:
    use(fake)
    trained(values, run)


def calls(fake: Path, what: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (fake / "calls.jsonl").read_text().splitlines())
    return [about for name, about in lines if name == what]


def numbers(run: Path) -> list[dict[str, Any]]:
    """The numbers of each epoch, as trackers should have them."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if type(value) in (int, float)} for line in lines]


def test_tensorboard_reads_what_was_logged(tiny_run: Path) -> None:
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = module.EventAccumulator(str(tiny_run / "tensorboard")).Reload()
    expected = numbers(tiny_run)
    assert set(read.Tags()["scalars"]) == expected[0].keys() - {"epoch"}
    for name in expected[0].keys() - {"epoch"}:
        found = [(event.step, event.value) for event in read.Scalars(name)]
        assert found == [(line["epoch"], pytest.approx(line[name])) for line in expected]


def test_without_trackers_nothing_is_written_sent_or_imported(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    for name in [name for name in sys.modules if name.partition(".")[0] in ("wandb", "mlflow", "tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(socket, "socket", lambda *of, **_: opened.append(of))
    monkeypatch.setattr(socket, "create_connection", lambda *of, **_: opened.append(of))
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train(tiny_experiment(**{"train.epochs": 1}), tmp_path / "default", progress=False)
    assert not {name.partition(".")[0] for name in sys.modules} & {"wandb", "mlflow"}
    train(tiny_experiment(**{"train.epochs": 1, "train.trackers": []}), tmp_path / "none", progress=False)
    assert opened == []
    assert (tmp_path / "default" / "tensorboard").is_dir()
    assert not (tmp_path / "none" / "tensorboard").exists()
    assert not (tmp_path / "none" / "trackers.json").exists()


def records_of(path: Path) -> Iterator[bytes]:
    """The records of a W&B file, which is a LevelDB log with a header of 7 bytes."""
    content, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        size, kind = struct.unpack("<xxxxHB", content[place : place + 7])
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # it is whole, or this is its last part
            yield whole
            whole = b""


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_can_be_read_back_and_is_resumed(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / HOSTILE.replace("/", "_")
    experiment = tiny_experiment(**{"train.trackers": ["wandb"], "title": HOSTILE})
    stop_after(1, monkeypatch)
    with pytest.raises(Stopped):
        train(experiment, run, progress=False)
    monkeypatch.undo()
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(experiment, run, progress=False)

    names, rows = set(), []
    config: dict[str, Any] = {}
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    for path in files:
        for record in map(Record.FromString, records_of(path)):
            if record.run.run_id:
                names.add((record.run.run_id, record.run.display_name, record.run.project))
            config |= {one.key: json.loads(one.value_json) for one in record.config.update}
            if record.history.item:
                rows.append({one.key or one.nested_key[0]: json.loads(one.value_json) for one in record.history.item})
            assert not record.HasField("output_raw")
            assert record.run.host in ("", "-")
            assert not record.run.git.remote_url
    assert len(files) == 2
    known = json.loads((run / "trackers.json").read_text())["wandb"]
    assert names == {(known["run"], run.name, "avpea")}
    assert known == {"run": known["run"], "epochs": 3, "failed": ""}
    assert config["title"] == HOSTILE
    assert config["train"]["learning_rate"] == experiment.train.learning_rate
    logged = [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]
    assert logged == numbers(run)
    assert [row["_step"] for row in rows] == [1, 2, 3]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.slow  # imports and a new data base take 5 s
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("store", ["sqlite:///{}/mlflow.db", "file://{}/mlruns"])
def test_mlflow_can_be_read_back_and_is_resumed(
    store: str, tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow import MlflowClient

    def settle() -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.format(tmp_path))
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.chdir(tmp_path)

    settle()
    run = tmp_path / HOSTILE.replace("/", "_")
    experiment = tiny_experiment(**{"train.trackers": ["mlflow"], "title": HOSTILE})
    stop_after(1, monkeypatch)
    with pytest.raises(Stopped):
        train(experiment, run, progress=False)
    client = MlflowClient()
    (place,) = [one for one in client.search_experiments() if one.name == "avpea"]
    (found,) = client.search_runs([place.experiment_id])
    assert found.info.status == "KILLED"
    monkeypatch.undo()
    settle()
    train(experiment, run, progress=False)
    (found,) = client.search_runs([place.experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", run.name)
    assert found.data.params["title"] == HOSTILE
    assert found.data.params["train.learning_rate"] == str(experiment.train.learning_rate)
    for name in numbers(run)[0].keys() - {"epoch"}:
        history = [(one.step, one.value) for one in client.get_metric_history(found.info.run_id, name)]
        assert history == [(line["epoch"], line[name]) for line in numbers(run)]
    assert found.data.metrics["best/segment_accuracy"] == max(line["val/segment_accuracy"] for line in numbers(run))
    assert not list(tmp_path.rglob("pwned"))

    client.delete_run(found.info.run_id)  # a run that is not there any more is begun anew, with all epochs
    train(tiny_experiment(**{"train.trackers": ["mlflow"], "title": HOSTILE}), run, extend=1, progress=False)
    (found,) = client.search_runs([place.experiment_id])
    assert len(client.get_metric_history(found.info.run_id, "train/loss")) == 4


def stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process SIGTERM after so many epochs."""
    from avpea.train import _Training

    original, done = _Training.save_state, []

    def saved(self: Any) -> None:
        original(self)
        done.append(self)
        if len(done) == epochs:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(_Training, "save_state", saved)


@pytest.mark.parametrize(
    ("moment", "count", "steps"),
    [
        ("avpea.trackers._trackers:Trackers._write", 3, [1, 2, 2, 3]),
        pytest.param("avpea.checkpoint:save_state", 2, [1, 2, 3], marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_with_the_same_tracker_run(
    moment: str, count: int, steps: list[int], fake: Path, tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    """No epoch is missing; one that was told, but not noted yet, is told again."""
    experiment = tiny_experiment(**{"train.trackers": ["tensorboard", "wandb"]})
    given = (str(fake), experiment.to_dict(), str(tmp_path / "run"), moment, count)
    process = tiny.processes().Process(target=killed, args=given)
    process.start()
    assert exit_code(process) == -signal.SIGKILL
    train(experiment, tmp_path / "run", progress=False)
    assert len({about["id"] for about in calls(fake, "init")}) == 1
    assert [about["step"] for about in calls(fake, "log")] == steps
    assert calls(fake, "finish") == [{"exit_code": 0}]
    assert_same_tensors(tmp_path / "run" / "model.safetensors", tiny_run / "model.safetensors")


def test_a_tracker_that_is_not_installed_or_cannot_start_costs_a_sentence(
    fake: Path, tiny_experiment: Make, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny_experiment(**{"train.trackers": ["wandb"]})
    (fake / "init fails").touch()
    train(experiment, tmp_path / "run", progress=False)
    (line,) = capsys.readouterr().err.splitlines()
    said = f"Weights & Biases cannot follow {tmp_path / 'run'}, which is trained without it: no route to host."
    assert line == f"avpea: {said}"
    assert metric_lines(tmp_path / "run") == metric_lines(tiny_run)
    assert_same_tensors(tmp_path / "run" / "model.safetensors", tiny_run / "model.safetensors")
    # The same command tells it all, once it can.
    (fake / "init fails").unlink()
    train(experiment, tmp_path / "run", progress=False)
    assert [about["step"] for about in calls(fake, "log")] == [1, 2, 3]
    assert calls(fake, "summary")[0]["values"]["best/epoch"] >= 1
    train(experiment, tmp_path / "run", progress=False)
    assert len(calls(fake, "init")) == 1


def test_a_package_that_is_missing(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("avpea.trackers._trackers.find_spec", lambda name: None)
    changes = {"train.trackers": ["tensorboard", "mlflow"], "train.epochs": 1}
    train(tiny_experiment(**changes), tmp_path / "run", progress=False)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("gets no TensorBoard, since the package tensorboard is missing (pip install 'avpea[train]').")
    assert second.endswith("gets no MLflow, since the package mlflow is missing (pip install 'avpea[mlflow]').")


def test_a_tracker_that_fails_on_the_way_is_told_later(
    fake: Path,
    tiny_experiment: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from avpea.train import _Training

    original = _Training.save_state

    def saved(self: Any) -> None:
        original(self)
        broken = fake / "log fails"
        broken.touch() if self.position.epoch < 3 else broken.unlink(missing_ok=True)

    monkeypatch.setattr(_Training, "save_state", saved)
    train(tiny_experiment(**{"train.trackers": ["wandb"]}), tmp_path / "run", progress=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("training goes on, and it is told the others later: no route to host.")
    assert [about["step"] for about in calls(fake, "log")] == [1, 2, 3]


def test_the_report_says_what_a_tracker_lacks(
    fake: Path, tiny_experiment: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avpea.report import report

    (fake / "log fails").touch()
    (fake / "finish fails").touch()
    train(tiny_experiment(**{"train.trackers": ["wandb"], "train.epochs": 1}), tmp_path / "run", progress=False)
    page = report(tmp_path / "run", progress=False).read_text()
    assert ">wandb</td>" in page
    assert "no route to host." in page


def test_event_files_that_cannot_be_written_are_written_later(
    tiny_experiment: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".no").touch()
    (run / "tensorboard").symlink_to(run / ".no")  # in the place of the folder
    # A folder with anything but a hidden file in it is no run folder: training has begun in this one.
    (run / "experiment.yaml").write_text(tiny_experiment().to_yaml())
    train(tiny_experiment(), run, progress=False)
    assert "TensorBoard has 0 epochs" in capsys.readouterr().err
    (run / "tensorboard").unlink()
    train(tiny_experiment(), run, progress=False)
    assert len(list((run / "tensorboard").iterdir())) == 3
    assert not (run / "trackers.json").exists()


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"wandb": 3}', '{"wandb": {"run": "../../x", "epochs": 1}}', '{"wandb": {"epochs": -1}}']
)
def test_a_damaged_record_of_trackers_begins_anew(
    content: str, fake: Path, tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / "trackers.json").write_text(content)
    train(tiny_experiment(**{"train.trackers": ["wandb"]}), tmp_path / "run", progress=False)
    (begun,) = calls(fake, "init")
    assert begun["id"].isalnum()
    assert [about["step"] for about in calls(fake, "log")] == [1, 2, 3]


@pytest.mark.slow
def test_one_of_severalprocesses_tells_the_trackers(fake: Path, tiny_experiment: Make, tmp_path: Path) -> None:
    values = tiny_experiment(**{"train.trackers": ["wandb"], "train.epochs": 1}).to_dict()
    together(2, trained_beside_others, str(fake), values, str(tmp_path / "run"))
    assert len(calls(fake, "init")) == len(calls(fake, "log")) == len(calls(fake, "finish")) == 1


def test_names_of_trackers(capsys: pytest.CaptureFixture[str], tiny_experiment: Make) -> None:
    from avpea.experiment import parse_overrides

    for words, expected in (("wandb", ("wandb",)), ("tensorboard, mlflow", ("tensorboard", "mlflow")), ("[]", ())):
        made = tiny_experiment().override(parse_overrides(["--train.trackers", words]))
        assert made.train.trackers == expected
    with pytest.raises(ExperimentError, match=r"train.trackers.0 is 'neptune'; expected one of 'tensorboard'"):
        tiny_experiment(**{"train.trackers": ["neptune"]})
    assert main(["train", "mini/avel", "--train.trackers", "wandb,aim", "--data.root", "x"]) == 1
    assert "train.trackers.1 is 'aim'; expected one of" in capsys.readouterr().err
