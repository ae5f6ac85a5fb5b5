"""The benchmarks run, and say what they ran on; their figures are nobody's business here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quick_benchmarks_run(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "bench", "--quick", "--out", tmp_path], cwd=ROOT, check=True)
    reports = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    every = {"adapters", "boxed", "cache", "checksums", "indexing", "processes", "processor", "search", "startup"}
    every |= {"decoding", "export", "serve", "threads", "long_video", "prefix", "time_to_accuracy"}
    assert set(reports) == every
    for report in reports.values():
        assert {"what", "command", "machine"} <= report.keys()
        assert {"torch", "cores", "commit"} <= report["machine"].keys()
    assert all(row["step"]["median"] > 0 for row in reports["adapters"]["rows"])


def test_what_is_missing_is_told_in_a_sentence(tmp_path: Path) -> None:
    """FFmpeg, and OpenVINO, as a test sees it that finds none."""
    without = tmp_path / "without"
    without.mkdir()
    (without / "openvino.py").write_text("raise ImportError(name='openvino')")
    paths = {"PATH": str(without), "PYTHONPATH": f"{without}:{ROOT}"}
    for name, missing in (("long_video", "ffmpeg"), ("export", "OpenVINO")):
        done = subprocess.run(
            [sys.executable, "-m", "bench", name, "--quick", "--out", tmp_path / "out"],
            cwd=ROOT, capture_output=True, text=True, env={**os.environ, **paths},
        )  # fmt: skip
        (line,) = done.stderr.splitlines()
        assert (done.returncode, line.startswith(f"python -m bench {name}: "), missing in line) == (1, True, True)
    assert not (tmp_path / "out").exists()


def test_an_unknown_benchmark_is_refused() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "cash"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    known = "cache, adapters, search, export, indexing, startup, long_video, decoding, checksums, boxed, processes"
    rest = "threads, processor, prefix, time_to_accuracy, serve"
    assert f"no benchmark is called cash; known: {known}, {rest}" in done.stderr
