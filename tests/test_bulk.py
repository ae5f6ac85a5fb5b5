"""All answers in one file: each video once, in order, going on after whatever stopped it, by one process or by Ray."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from avpea import bulk
from avpea.batch import find_jobs
from avpea.bulk import BulkReport, Request, answer_all
from avpea.checkpoint import fingerprint_of
from avpea.cli import main
from avpea.errors import AvpeaError, CheckpointError, InUseError
from avpea.media.regular import require_file
from avpea.predict import Predictor, load
from avpea.tensors import read_tensors, write_tensors
from tests.tiny import elsewhere

Answer = Callable[..., BulkReport]
PLAIN = Path(__file__).parents[1]


@pytest.fixture
def videos(tiny_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "below").mkdir(parents=True)
    for name, source in (("a", "g0"), ("b", "r0"), ("below/c", "g1"), ("d", "r1")):
        shutil.copy(tiny_data / "AVE" / f"{source}.mp4", folder / f"{name}.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    return load(tiny_run)


@pytest.fixture
def answer(tiny_run: Path, predictor: Predictor, videos: Path, tmp_path: Path) -> Answer:
    def answered(out: str = "results.jsonl", **more: Any) -> BulkReport:
        options = more.pop("options", {})
        request = Request(str(tiny_run), "predict", options=options)
        return answer_all(request, find_jobs([videos]), tmp_path / out, predictor, progress=False, **more)

    return answered


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_video_has_one_line_in_the_order_of_names(
    answer: Answer, videos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    report = answer()
    assert (report.answered, report.before, list(report.failed)) == (4, 0, [str(videos / "broken.mp4")])
    found = lines(tmp_path / "results.jsonl")
    names = ["a.mp4", "b.mp4", "below/c.mp4", "broken.mp4", "d.mp4"]
    assert [one["video"] for one in found] == [str(videos / name) for name in names]
    for one in found:
        about = Path(one["video"]).stat()
        assert one.pop("file") == {"bytes": about.st_size, "modified_ns": about.st_mtime_ns}
        if "broken" in one["video"]:
            assert one.keys() == {"video", "error"}
        else:
            assert one == json.loads(json.dumps(predictor.predict(one["video"]).to_dict()))
    assert json.loads((tmp_path / "results.about.json").read_text())["verb"] == "predict"


def test_the_same_command_does_only_what_is_missing(
    answer: Answer, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer()
    whole, asked = (tmp_path / "results.jsonl").read_bytes(), []
    predict = Predictor.predict

    def counted(self: Predictor, video: Path, *given: Any, **options: Any) -> Any:
        asked.append(video.name)
        return predict(self, video, *given, **options)

    monkeypatch.setattr(Predictor, "predict", counted)
    report = answer()
    assert (report.answered, report.before, asked) == (0, 4, ["broken.mp4"])
    assert (tmp_path / "results.jsonl").read_bytes() == whole
    for size in (len(whole) - 1, len(whole) // 2, 10, 0):  # as a kill may leave the file
        (tmp_path / "results.jsonl").write_bytes(whole[:size])
        answer()
        assert (tmp_path / "results.jsonl").read_bytes() == whole
    asked.clear()
    os.utime(videos / "b.mp4", ns=(1, 1))
    shutil.copy(videos / "b.mp4", videos / "aa.mp4")
    (videos / "d.mp4").unlink()
    assert answer().before == 2
    assert asked == ["aa.mp4", "b.mp4", "broken.mp4"]
    names = ["a.mp4", "aa.mp4", "b.mp4", "below/c.mp4", "broken.mp4", "d.mp4"]
    assert [one["video"] for one in lines(tmp_path / "results.jsonl")] == [str(videos / name) for name in names]
    (videos / "broken.mp4").unlink()  # which is what one does about it
    assert answer().gone == 1
    names.remove("broken.mp4")
    assert [one["video"] for one in lines(tmp_path / "results.jsonl")] == [str(videos / name) for name in names]


def test_an_interruption_keeps_what_is_done(answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer("whole.jsonl")
    predict, asked = Predictor.predict, []

    def stopping(self: Predictor, video: Path, *given: Any, **options: Any) -> Any:
        asked.append(video)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return predict(self, video, *given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", stopping)
        with pytest.raises(KeyboardInterrupt, match=r"stopped: .* has answers about 2 of 5 videos; the same"):
            answer()
    assert len(lines(tmp_path / "results.jsonl")) == 2
    assert answer().before == 2
    assert (tmp_path / "results.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_results_of_something_else_are_refused(answer: Answer, tmp_path: Path) -> None:
    answer()
    out = tmp_path / "results.jsonl"
    with pytest.raises(AvpeaError, match=r"another command \(options: {} there, {'threshold': 0.9} now"):
        answer(options={"threshold": 0.9})
    assert answer(options={"threshold": 0.9}, overwrite=True).before == 0
    whole = out.read_bytes()
    out.write_bytes(b'{"video": 3}\n' + whole)
    with pytest.raises(AvpeaError, match=r"results.jsonl, line 1: no video with its file; remove that line"):
        answer(options={"threshold": 0.9})
    out.write_bytes(b"half\n" + whole)
    with pytest.raises(AvpeaError, match=r"line 1: not JSON .*; remove that line, and the same command"):
        answer(options={"threshold": 0.9})
    (tmp_path / "results.about.json").unlink()
    with pytest.raises(AvpeaError, match=r"results.jsonl exists, but results.about.json"):
        answer()


def test_results_are_of_the_model_that_answered(tiny_run: Path, videos: Path, tmp_path: Path) -> None:
    """And not of what a training has written since the command loaded it."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    predictor = load(run)
    file = run / "model.safetensors"
    found = read_tensors(file)
    write_tensors(file, {name: value + 1 for name, value in found.tensors.items()}, found.metadata, signed=True)
    given = Request(str(run), "predict"), find_jobs([videos / "a.mp4"]), tmp_path / "a.jsonl"
    with pytest.raises(CheckpointError, match="has been written anew since it was loaded"):
        answer_all(*given, predictor, progress=False)
    assert not (tmp_path / "a.jsonl").exists()
    answer_all(*given, load(run), progress=False)
    assert json.loads((tmp_path / "a.about.json").read_text())["model"] == fingerprint_of(run)


def test_two_commands_do_not_write_one_file(answer: Answer, tmp_path: Path) -> None:
    with elsewhere(tmp_path, "is busy", ".results.jsonl.lock"), pytest.raises(InUseError, match="is busy by process"):
        answer()


def test_the_command_line(tiny_run: Path, videos: Path, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "new" / "results.jsonl")
    assert main(["predict", str(tiny_run), str(videos), "--out", out, "--json", "--quiet"]) == 1
    found = capsys.readouterr()
    assert json.loads(found.out)["answered"] == 4
    assert "1 of 5 videos failed; the same command tries again." in found.err
    (videos / "broken.mp4").unlink()
    assert main(["predict", str(tiny_run), str(videos), "--out", out, "--quiet"]) == 0
    assert "0 answered, 4 before, 0 failed" in capsys.readouterr().out
    for words, sentence in (
        (["--ray", "2"], "--ray writes all answers into one file; name it with --out FILE.jsonl"),
        (["--ray", "-1"], "--ray is -1; expected 0"),
        (["--out", str(tmp_path / "x")], "is a folder for the files of --format, which is not given"),
        (["--out", out, "--csv", "x.csv"], "is one file of all answers, and --csv is not written with it"),
        (["--out", out, "--min-seconds", "2"], "holds answers of another command"),
    ):
        assert main(["predict", str(tiny_run), str(videos), "--quiet", *words]) == 1
        assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_questions_and_captions(
    tiny_asked_run: Path, tiny_written_run: Path, videos: Path, tmp_path: Path, capsys: Any
) -> None:
    for run, words, key in (
        (tiny_asked_run, ["ask", str(tiny_asked_run), str(videos / "a.mp4"), "Which colour sounds first?"], "answer"),
        (tiny_written_run, ["caption", str(tiny_written_run), str(videos / "a.mp4")], "captions"),
    ):
        out = tmp_path / f"{run.name}.jsonl"
        assert main([*words, "--out", str(out), "--quiet"]) == 0
        assert key in lines(out)[0]
    assert main(["ask", str(tiny_asked_run), str(videos / "a.mp4"), "Is the red heard?", "--out",
                 str(tmp_path / f"{tiny_asked_run.name}.jsonl"), "--quiet"]) == 1  # fmt: skip
    assert "holds answers of another command (asked: " in capsys.readouterr().err


class Local:
    """An actor of Ray in this process."""

    def __init__(self, actor: bulk._Attempts) -> None:
        self.begin, self.end = (type("Method", (), {"remote": staticmethod(one)}) for one in (actor.begin, actor.end))


def test_a_video_that_ends_its_process_twice_is_not_tried_again(
    tiny_run: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "get", lambda value: value)
    attempts = bulk._Attempts()
    worker_of: Any = bulk._Worker
    given: tuple[Any, ...] = Request(str(tiny_run), "predict"), {}, Local(attempts), None, str(PLAIN)
    with pytest.raises(AvpeaError, match="has been trained or calibrated since this command began"):
        worker_of(*given, "the model before")
    worker = worker_of(*given, fingerprint_of(tiny_run))
    video = os.fsencode(videos / "a.mp4")
    batch = {"number": [3], "video": [video]}
    for begun, tries in ((0, 1), (1, 2)):
        attempts.open = {video: begun}
        row = worker(batch)
        assert (row["number"], row["tries"], "events" in json.loads(row["values"][0])) == ([3], [tries], True)
    attempts.open = {video: 2}
    row = worker(batch)
    assert row["tries"] == [2]
    assert "a.mp4: the process that answers about it ended 2 times" in json.loads(row["values"][0])["error"]


def test_a_report_names_what_was_tried_again() -> None:
    report = BulkReport("r.jsonl", answered=1, failed={"b": "b: the process ended"}, retried=["a", "b"])
    first, second, third, last = report.lines()
    assert first == "Failed: b: the process ended"
    assert second == "Tried again: a; the process that answered about it ended, and another one has answered."
    assert third == "Tried again: b; the process that answered about it ended, and again on the second try."
    assert last.startswith("r.jsonl: 1 answered, 0 before, 1 failed")


# Ends a process that opens the video `once`, the first time, and one that opens `always`, each time.
CRASH = """
import os, sys
def hook(event, given):
    if event == "open" and isinstance(given[0], (str, bytes)):
        name = os.path.basename(os.fsdecode(given[0]))
        if name == "always.mp4" or (name == "once.mp4" and not os.path.exists({mark!r})):
            if name == "once.mp4":
                os.close(os.open({mark!r}, os.O_CREAT))
            os._exit(7)
sys.addaudithook(hook)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)], ids=["once", "twice", "term"]
)
def test_a_signal_ends_ray_and_keeps_what_is_done(
    number: signal.Signals, times: int, tiny_run: Path, videos: Path, answer: Answer, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    (videos / "broken.mp4").unlink()
    for copy in range(60):
        shutil.copy(videos / "a.mp4", videos / f"copy{copy}.mp4")
    out = tmp_path / "ray.jsonl"
    command = [sys.executable, "-m", "avpea", "predict", str(tiny_run), str(videos), "--ray", "2", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(PLAIN)}
    running = subprocess.Popen(
        [*command, "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while not (out.is_file() and out.stat().st_size):
        assert time.monotonic() < deadline
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    started = psutil.Process(running.pid).children(recursive=True)
    for _ in range(times):
        os.killpg(running.pid, number) if number == signal.SIGINT else running.send_signal(number)  # as a terminal does
        time.sleep(0.3)
    said = running.communicate(timeout=120)[1]
    assert running.returncode == 128 + number
    kept = lines(out)  # each is whole
    assert 0 < len(kept) < 64
    ours = [line for line in said.splitlines() if line.startswith("avpea: ")]  # Ray may have told of its workers
    assert "Traceback" not in said
    assert ours == [f"avpea: stopped: {out} has answers about {len(kept)} of 64 videos; the same command goes on."]
    assert psutil.wait_procs(started, timeout=30)[1] == []
    found = subprocess.run([*command, "--json", "--quiet"], capture_output=True, text=True, timeout=240,
                           env=environment, check=False)  # fmt: skip
    report = json.loads(found.stdout)
    assert (report["before"], report["answered"]) == (len(kept), 64 - len(kept))
    answer("here.jsonl")
    assert out.read_bytes() == (tmp_path / "here.jsonl").read_bytes()


@pytest.mark.slow
def test_ray_answers_as_one_process_does_and_crashes_cost_a_retry(
    tiny_run: Path, videos: Path, answer: Answer, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    for name in ("once", "always"):
        shutil.copy(videos / "a.mp4", videos / f"{name}.mp4")
    answer("here.jsonl")
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(CRASH.format(mark=str(tmp_path / "mark")))
    command = [sys.executable, "-m", "avpea", "predict", str(tiny_run), str(videos), "--ray", "2", "--in-process"]
    command += ["--out", str(tmp_path / "ray.jsonl"), "--json", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "hook"), str(PLAIN)])}
    found = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    report = json.loads(found.stdout)
    failed = [str(videos / f"{name}.mp4") for name in ("always", "broken")]
    assert (report["answered"], sorted(report["failed"])) == (5, failed)
    assert report["retried"] == [str(videos / f"{name}.mp4") for name in ("always", "once")]
    here, there = (lines(tmp_path / f"{name}.jsonl") for name in ("here", "ray"))
    assert [one["video"] for one in there] == [one["video"] for one in here]
    assert [one for one in there if one["video"] != failed[0]] == [one for one in here if one["video"] != failed[0]]
    command.remove("--in-process")  # in a box, the media worker has ended instead, which costs nothing
    environment["PYTHONPATH"] = str(PLAIN)
    found = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert json.loads(found.stdout)["before"] == 5
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_a_name_that_is_no_text_is_answered_about_once(answer: Answer, videos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"latin \xff.mp4")
    shutil.copy(videos / "a.mp4", videos / name)
    assert answer().answered == 5
    again = answer()
    assert (again.answered, again.before) == (0, 5)
    assert str(videos / name) in [line["video"] for line in lines(tmp_path / "results.jsonl")]


class Named:
    """A predictor that answers with the folder that a video is in."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def predict(self, video: Path, *_: Any, **__: Any) -> Any:
        require_file(video)
        self.asked.append(video.absolute().parents[1].name)
        return SimpleNamespace(to_dict=lambda: {"video": str(video), "label": self.asked[-1]})


def answered_from(
    folder: Path, given: Path | str, out: Path | str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], BulkReport]:
    """Who is asked, and the report of a command that is given in a folder."""
    predictor: Any = Named()
    with monkeypatch.context() as there:
        there.chdir(folder)
        there.setattr(Request, "about", lambda *_: {"format": "avpea-results-1", "model": "m"})
        report = answer_all(Request("run", "predict"), find_jobs([given]), Path(out), predictor, progress=False)
    return predictor.asked, report


@pytest.fixture
def cameras(tmp_path: Path) -> list[Path]:
    """Two folders with a video of the same name, as bytes that nothing decodes."""
    folders = [tmp_path / name for name in ("cam1", "cam2")]
    for folder in folders:
        (folder / "videos").mkdir(parents=True)
        (folder / "videos" / "a.mp4").write_bytes(folder.name.encode())
        os.utime(folder / "videos" / "a.mp4", ns=(5, 5))  # as rsync may leave them
    return folders


def test_one_file_takes_the_answers_about_several_folders(
    cameras: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the commands are given, and however they call the videos."""
    for folder in cameras:
        assert answered_from(folder, "videos", "../all.jsonl", monkeypatch)[0] == [folder.name]
    found = {one["video"]: one["label"] for one in lines(tmp_path / "all.jsonl")}
    assert found == {"cam1/videos/a.mp4": "cam1", "cam2/videos/a.mp4": "cam2"}
    whole = (tmp_path / "all.jsonl").read_bytes()
    for place, given in ((tmp_path, "cam1"), (cameras[0], "../cam2/videos"), (cameras[1], cameras[0])):
        asked, report = answered_from(place, given, tmp_path / "all.jsonl", monkeypatch)
        assert (asked, report.before, report.gone) == ([], 1, 0)
    assert (tmp_path / "all.jsonl").read_bytes() == whole


def test_results_of_an_earlier_version_are_gone_on_with(
    cameras: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their paths count from where the command was given."""
    out = tmp_path / "all.jsonl"
    answered_from(cameras[0], "videos", out, monkeypatch)
    out.write_text(out.read_text().replace("cam1/videos/a.mp4", "videos/a.mp4"))
    asked, report = answered_from(cameras[0], "videos", out, monkeypatch)
    assert (asked, report.before, report.gone) == ([], 1, 0)
    assert [one["video"] for one in lines(out)] == ["cam1/videos/a.mp4"]
    assert answered_from(cameras[1], "videos", out, monkeypatch)[0] == ["cam2"]
    assert [one["label"] for one in lines(out)] == ["cam1", "cam2"]


def test_an_answer_stays_while_its_video_is_not_there(
    cameras: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is not mounted: the failure is told, and nothing is lost by it."""
    video, out = cameras[0] / "videos" / "a.mp4", tmp_path / "all.jsonl"
    answered_from(tmp_path, video, out, monkeypatch)
    whole = out.read_bytes()
    video.rename(tmp_path / "elsewhere.mp4")
    _, report = answered_from(tmp_path, video, out, monkeypatch)
    assert report.failed[str(video)].endswith("there is no such file; check the path. The answer from before is kept.")
    assert out.read_bytes() == whole
    assert report.gone == 1
    assert f"{out} keeps answers about 1 video that is not there now." in report.lines()
    (tmp_path / "elsewhere.mp4").rename(video)
    asked, report = answered_from(tmp_path, video, out, monkeypatch)
    assert (asked, report.before, report.gone) == ([], 1, 0)
