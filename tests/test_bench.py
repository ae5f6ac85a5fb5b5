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


def test_time_to_accuracy_counts_frozen_layers_and_only_what_every_seed_reaches(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs it")
    from bench.time_to_accuracy import draw, table

    def run(row: str, seed: int, once: float, values: list[float]) -> dict[str, Any]:
        epochs = [[10.0 * (i + 1), value] for i, value in enumerate(values)]
        shown = {"clips": ["a", "b"], "categories": [0, 1], "scores": [values[-1], 1.0]}
        return {"row": row, "seed": seed, "once": once, "epochs": epochs, "test": values[-1], **shown}

    runs = [run("AV-PEA", seed, 0.0, [0.6, 0.8 + seed / 10]) for seed in (0, 1)]
    runs += [run("LAVISH", seed, 0.0, [0.5, 0.6, 0.7, 0.86]) for seed in (0, 1)]
    runs += [run("fast", seed, 5.0, [0.72, 0.86 + seed / 100]) for seed in (0, 1)]
    answer = table(runs, {"a": "x", "b": "y"})
    rows = {row["row"]: row for row in answer["rows"]}
    assert answer["target"] == 0.85  # the mean of 0.8 and 0.9
    assert rows["LAVISH"]["seconds"] == [40.0, 40.0]
    assert rows["fast"]["seconds"] == [25.0, 25.0]
    assert rows["fast"]["seconds_again"] == [20.0, 20.0]
    assert rows["fast"]["of_lavish"] == 0.625
    assert rows["AV-PEA"]["reached"] == "1 of 2"
    assert rows["AV-PEA"]["to"] == {"0.700": 20.0, "0.750": 20.0, "0.800": 20.0}
    assert rows["fast"]["to"]["0.700"] == 15.0
    assert rows["fast"]["to_of_lavish"] == {
        "0.700": 0.5,
        "0.750": 0.625,
        "0.800": 0.625,
        "0.825": 0.625,
        "0.850": 0.625,
    }
    assert rows["AV-PEA"]["to_of_lavish"] == {"0.700": 0.667, "0.750": 0.5, "0.800": 0.5}
    draw(answer, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_wider_intervals_are_of_stored_results(tmp_path: Path) -> None:
    from avpea.compare import load_sweep
    from bench.wider import groups_in, measured

    results = ROOT / "results" / "mini"
    sweep = load_sweep("mini/avel-blocks")
    stored = json.loads((results / "mini-avel-fast-seed0.json").read_text())["test_videos"]
    lines = [
        {"video_id": key.split("-", 2)[-1], "category": str(i % 7), "audio_sources": {"a": str(i % 30)}}
        for i, key in enumerate(stored)
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = {row["row"]: row for row in measured(sweep, results, groups_in(tmp_path / "clips.jsonl"))}
    assert (rows["last 4"]["test"], rows["last 4"]["test_std"], rows["last 4"]["seeds"]) == (84.62, 1.19, 5)
    assert rows["last 2"]["over_clips"] == [-6.05, 2.04]  # as in the report
    low, high = rows["last 2"]["over_classes_and_sources"]
    assert high - low > 2.04 + 6.05
    assert "difference" not in rows["last 6"]
