"""The check of a device, run on the CPU: on a machine that has no more than a lent one has."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import bench.gpu
from bench.gpu import PARTS, Part, check, run_part
from bench.gpu.batch import largest
from bench.gpu.same import FULL, compared, distance
from bench.gpu.training import made

ROOT = Path(__file__).parents[1]
# What a lent machine has, beside what these need themselves; and what `make gpu-bundle` brings.
THERE = ["torch", "timm", "tokenizers", "safetensors", "huggingface_hub", "jaxtyping", "yaml", "rich", "filelock"]
THERE += ["PIL", "numpy"]
BUNDLED = ["pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions", "platformdirs"]
# Put in front of everything by `sitecustomize`: imports from avpea and bench of anything else are refused, and PyAV is
# not installed.
BARE = f"""
import builtins, importlib.metadata, sys
allowed = {{*sys.stdlib_module_names, *{THERE + BUNDLED}, "avpea", "bench"}}
real, version = builtins.__import__, importlib.metadata.version
def bare(name, globals=None, locals=None, fromlist=(), level=0):
    top = name.partition(".")[0]
    who = str((globals or {{}}).get("__name__", "")).partition(".")[0]
    if top == "av" or (level == 0 and who in ("avpea", "bench") and top not in allowed):
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    return real(name, globals, locals, fromlist, level)
def missing(name):
    if name == "av":
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
builtins.__import__, importlib.metadata.version = bare, missing
"""


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which processes have only what a lent machine has."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(BARE, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "bare"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_every_part_can_be_imported_on_a_bare_machine(bare: dict[str, str]) -> None:
    modules = sorted({f"bench.gpu.{part.name.partition('-')[0]}" for part in PARTS})
    code = f"import {', '.join(modules)}, avpea.train, sys; assert 'av' not in sys.modules; print('there')"
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, timeout=120)
    assert done.stdout == "there\n", done.stderr
    code = "import avpea.media.container"
    refused = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, timeout=120)
    assert "No module named 'av'" in refused.stderr  # the machine is bare


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_whole_check_on_a_bare_machine(bare: dict[str, str], tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bench", "gpu", "--device", "cpu", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(words, env=bare, cwd=ROOT, capture_output=True, text=True, timeout=1400, check=False)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["ok"]
    assert list(found["parts"]) == [part.name for part in PARTS]
    assert {"torch", "python", "processor", "timm", "device"} <= found["machine"].keys()
    assert {row["ok"] for row in found["parts"]["same"]["rows"]} == {True}
    every = {row["what"] for row in found["parts"]["same"]["rows"]}
    assert {"adapter av_pea", "task avqa with head avst", "task avr with head matcher", "encoder mbt"} <= every
    assert all(row["images_per_second"] > 0 for row in found["parts"]["speed-base"]["rows"])
    assert "== same: ok" in done.stdout


def test_a_part_that_fails_or_hangs_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    written = []
    whole = bench.gpu.run_part

    def quickly(name: str, device: str, quick: bool, seconds: float) -> dict[str, Any]:
        written.append((tmp_path / "gpu.json").is_file())
        if name == "about":
            return {"ok": True, "ended": "", "seconds": 1.0, "rows": [{"what": "machine", "device": device}]}
        return whole(name, device, quick, 1.0 if name == "training" else 120)

    monkeypatch.setattr(bench.gpu, "run_part", quickly)
    found = check("cpu", True, tmp_path, [Part("training", 1), Part("no such part", 1), Part("about", 1)])
    assert written == [False, True, True]  # after each part
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    assert not found["ok"]
    assert found["parts"]["training"]["ended"] == "stopped after its 1 s"
    assert found["parts"]["no such part"]["ended"].startswith("exit code 2: ")
    assert found["parts"]["about"]["ok"]
    assert found["machine"]["device"] == "cpu"
    assert "== about: ok" in capsys.readouterr().out


def test_no_part_is_begun_when_the_time_is_up() -> None:
    assert run_part("about", "cpu", True, 0.5)["ended"] == "not begun: the time for all parts was up"
    assert bench.gpu.WHOLE_SECONDS < 360


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench.gpu, "_is_there", lambda name: name != "pydantic")
    with pytest.raises(SystemExit, match="pydantic cannot be imported here; run `make gpu-bundle`"):
        check("cpu", True, tmp_path)


def test_a_line_that_was_cut_short_is_no_row() -> None:
    assert bench.gpu._row('{"what": "a", "ok": tr') is None
    assert bench.gpu._row("[1]") is None
    assert bench.gpu._row('{"what": "a"}') == {"what": "a"}


@pytest.mark.parametrize(("limit", "guess", "found"), [(37, 37, 37), (37, 36, 37), (37, 39, 37), (0, 3, 0), (1, 0, 1)])
def test_the_largest_batch(limit: int, guess: int, found: int) -> None:
    assert largest(lambda videos: videos <= limit, guess) == found


def test_every_task_head_adapter_and_encoder_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    from avpea import registry
    from avpea.encoders import audio_tower
    from bench.gpu.models import every

    pytest.importorskip("tokenizers")
    for name in ("DIM", "BLOCKS"):  # which `every` makes small, in a process of its own
        monkeypatch.setattr(audio_tower, name, getattr(audio_tower, name))
    found = {name for name, _ in every()}
    for task in registry.names("task"):
        kind = registry.load("task", task).heads
        heads = [head for head in registry.names("head") if issubclass(registry.load("head", head), kind)]
        assert heads
        assert {f"task {task} with head {head}" for head in heads} <= found
    assert {f"adapter {name}" for name in registry.names("adapter")} <= found
    for encoder in registry.names("encoder"):
        assert any(name.startswith(f"encoder {encoder}") for name in found)


def test_nothing_that_is_compared_is_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices draw other numbers from the same seed."""
    from avpea.encoders import audio_tower
    from bench.gpu import same
    from bench.gpu.models import every

    pytest.importorskip("tokenizers")
    for name in ("DIM", "BLOCKS"):
        monkeypatch.setattr(audio_tower, name, getattr(audio_tower, name))
    experiment, cpu, plain = dict(every())["task avvp with head mgn"], torch.device("cpu"), torch.manual_seed
    first = same.exercised(same.made(experiment), experiment, cpu)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: plain(seed + 70 * (seed == 1)))  # 0 is for the weights
    second = same.exercised(same.made(experiment), experiment, cpu)
    assert distance(first, second, "outputs") == distance(first, second, "gradients") == 0.0


def test_parts_without_a_time_run_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Part("about", 1), Part("same", 1), Part("training", 1, beside=True), Part("batch", 1)]
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert bench.gpu._rounds(parts) == [[parts[0]], [parts[1], parts[2]], [parts[3]]]
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert bench.gpu._rounds(parts) == [[one] for one in parts]


def test_what_is_wrong_on_a_device_is_seen(tiny_experiment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel would be that adds up wrongly, or gives NaN."""
    ones = {"outputs": [torch.ones(3)], "gradients": {"a": torch.ones(3), "b": 1e-9 * torch.ones(1)}}
    nan = {"outputs": [torch.tensor([1.0, float("nan"), 1.0])], "gradients": {"a": torch.ones(3)}}
    assert distance(ones, ones, "outputs") == distance(ones, ones, "gradients") == 0.0
    assert distance(ones, nan, "outputs") == distance(ones, nan, "gradients") == float("inf")
    rounded = {"gradients": {"a": torch.ones(3), "b": 2e-9 * torch.ones(1)}}
    assert distance(ones, rounded, "gradients") < FULL
    experiment = tiny_experiment()
    assert compared(experiment, torch.device("cpu"))["ok"]
    from bench.gpu import same

    whole = same.exercised
    seen = [0]

    def second_is_wrong(pair: Any, *given: Any) -> dict[str, Any]:
        seen[0] += 1
        if seen[0] == 4:  # the truth, two on the CPU, and then the device
            with torch.no_grad():
                pair[0].encoder.backbone.layers[1].mlp.fc1.weight[0] *= 1.02
        return whole(pair, *given)

    monkeypatch.setattr(same, "exercised", second_is_wrong)
    assert not compared(experiment, torch.device("cpu"))["ok"]
    monkeypatch.setattr(same, "distance", lambda *_: float("inf"))
    found = compared(experiment, torch.device("cpu"))
    assert not found["ok"]
    json.dumps(found, allow_nan=False)  # a file with Infinity is refused by `avpea plan --figures`


@pytest.mark.slow
def test_a_plan_is_made_from_what_a_card_has_shown(capsys: Any) -> None:
    from avpea.cli import main

    path = ROOT / "bench/results/gpu.json"
    words = ["plan", "paper/avel-vit-b16", "--samples", "3339,402,402", "--device", "cuda", "--no-measure"]
    assert main([*words, "--figures", str(path)]) == 0
    assert "NVIDIA H200 reached" in capsys.readouterr().out


def test_a_plan_is_made_from_its_figures(tiny_experiment: Any, tmp_path: Path) -> None:
    from avpea.plan._assumed import ASSUMED
    from avpea.plan._figures import learned
    from bench.gpu.speed import row

    found = row("tiny", tiny_experiment(), 1)
    assert found["images_per_second"] == pytest.approx(2 * 2 * 3 / found["step_seconds"], rel=0.1)
    path = tmp_path / "gpu.json"
    whole = {"machine": {"card": "Made up"}, "parts": {"about": {"rows": []}, "speed-base": {"rows": [found]}}}
    path.write_text(json.dumps(whole), encoding="utf-8")
    source, _, said = learned(path, tiny_experiment(), torch.device("cuda"), 2, ASSUMED)
    assert source == "figures"
    assert "Made up reached" in said[0]
    assert "experiment" not in bench.gpu.table("speed-base", {"ok": True, "ended": "", "seconds": 1.0, "rows": [found]})


def test_its_data_set_needs_no_decoder(tmp_path: Path) -> None:
    from avpea import data
    from avpea.evaluate import prepare

    experiment = made(tmp_path)
    _, usable, report = prepare(experiment, data.read(experiment.data), ["train", "val"], progress=False)
    assert report.decoded == 0
    assert {split: len(samples) for split, samples in usable.items()} == {"train": 10, "val": 4}
