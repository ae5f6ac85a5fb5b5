"""The benchmarks run, and say what they ran on; their figures are nobody's business here."""

import json
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quick_benchmarks_run(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="bench export needs it")
    pytest.importorskip("openvino", reason="bench export needs it")
    subprocess.run([sys.executable, "-m", "bench", "--quick", "--out", tmp_path], cwd=ROOT, check=True)
    reports = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    every = {"adapters", "boxed", "cache", "checksums", "indexing", "processes", "processor", "search", "startup"}
    every |= {"decoding", "export", "serve", "threads", "long_video", "prefix", "time_to_accuracy"}
    assert set(reports) == every
    for report in reports.values():
        assert {"what", "command", "machine"} <= report.keys()
        assert {"torch", "cores", "commit"} <= report["machine"].keys()
    assert all(row["step"]["median"] > 0 for row in reports["adapters"]["rows"])


def ended(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """How `python -m bench` ends, in this process."""
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    with pytest.raises(SystemExit) as found:
        runpy.run_module("bench", run_name="__main__")
    return found.value.code


def test_what_is_missing_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg, and OpenVINO, as a test sees it that finds none."""
    without = tmp_path / "without"
    without.mkdir()
    (without / "openvino.py").write_text("raise ImportError(name='openvino')")
    monkeypatch.setenv("PATH", str(without))
    monkeypatch.syspath_prepend(str(without))
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    exports = [("export", "OpenVINO")] if find_spec("onnx") else []  # else that is what it lacks
    for name, missing in [("long_video", "ffmpeg"), *exports]:
        said = ended([name, "--quick", "--out", str(tmp_path / "out")], monkeypatch)
        assert (said.startswith(f"python -m bench {name}: "), missing in said, "\n" in said) == (True, True, False)
    assert not (tmp_path / "out").exists()


def test_an_unknown_benchmark_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["cash"], monkeypatch) == 2
    known = "cache, adapters, search, export, indexing, startup, long_video, decoding, checksums, boxed, processes"
    rest = "threads, processor, prefix, time_to_accuracy, serve"
    assert f"no benchmark is called cash; known: {known}, {rest}" in capsys.readouterr().err
