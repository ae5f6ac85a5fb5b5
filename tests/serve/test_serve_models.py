"""Several runs over one copy of the backbone answer as each alone, and the engine encodes batches as one by one."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from avpea.checkpoint import save_model
from avpea.experiment import Experiment
from avpea.model import build
from avpea.predict import load
from avpea.serve.engine import Engine
from avpea.serve.models import Models
from avpea.serve.problems import Problem
from avpea.tasks import Window
from tests.tiny import event_labels

ADAPTERS = ("av_pea", "lavish", "lora", "full", "bitfit", "layer_norm", "bottleneck")


@pytest.fixture(scope="module")
def runs(tiny_experiment: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with each adapter, whose weights are far from their start."""
    folder, made = tmp_path_factory.mktemp("adapters"), {}
    for seed, name in enumerate(ADAPTERS):
        torch.manual_seed(seed)
        experiment = tiny_experiment(**{"adapter.name": name})
        model = build(experiment, event_labels()).eval()
        with torch.no_grad():
            for weight in model.trained_state().values():
                if weight.is_floating_point():
                    weight.add_(0.05 * torch.randn_like(weight).abs())
        made[name] = folder / name / "model.safetensors"
        save_model(made[name], model, experiment, event_labels(), {"epoch": 1, "selected_on": "val"})
    return made


def windows(count: int, segments: int = 3) -> list[Window]:
    make = torch.Generator().manual_seed(count)
    return [
        Window(
            0, segments, 0,
            torch.randint(0, 256, (1, segments, 32, 32, 3), dtype=torch.uint8, generator=make),
            torch.randn(1, segments, 98, 32, generator=make),
        )
        for _ in range(count)
    ]  # fmt: skip


def test_runs_that_share_answer_as_each_alone(runs: dict[str, Path]) -> None:
    models = Models("cpu")
    shared = {name: models.load(str(path)) for name, path in runs.items()}
    assert models.backbones == 1
    assert len({id(run.predictor.model.encoder.backbone) for run in shared.values()}) == 1
    (window,) = windows(1)
    with torch.inference_mode():
        for _ in range(2):  # one run after another leaves nothing behind
            for name, run in shared.items():
                alone = load(runs[name], device="cpu").model
                expected, found = (m.encode(window.frames, window.log_mel) for m in (alone, run.predictor.model))
                assert found.visual is not None
                assert expected.visual is not None
                assert torch.equal(found.visual, expected.visual), name
                assert torch.equal(found.audio, expected.audio), name  # type: ignore[arg-type]


def test_a_run_is_loaded_again_over_the_same_backbone(runs: dict[str, Path], tmp_path: Path) -> None:
    models = Models("cpu")
    path = tmp_path / "mine" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(runs["av_pea"].read_bytes())
    before = models.load(str(path.parent))
    assert before.name == "mine"
    path.write_bytes(runs["lora"].read_bytes())
    after = models.reload("mine")
    assert after.predictor.model.encoder.backbone is before.predictor.model.encoder.backbone
    assert models.get("mine", "localize") is after
    assert after.predictor.info.experiment.adapter.name == "lora"  # type: ignore[union-attr]
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="copy it anew"):
        models.reload("mine")
    assert models.get("mine") is after
    with pytest.raises(Problem, match="There is no run 'other'"):
        models.get("other")


def test_names_of_runs_differ(runs: dict[str, Path]) -> None:
    models = Models("cpu")
    assert [models.load(str(runs["av_pea"])).name for _ in range(2)] == ["av_pea", "av_pea-2"]


@pytest.mark.parametrize("name", ["av_pea", "lavish"])
def test_batches_are_encoded_as_one_by_one(runs: dict[str, Path], name: str) -> None:
    model, sizes = load(runs[name], device="cpu").model, list[int]()
    engine = Engine(most=4, told=sizes.append)
    asked, free = [*windows(6), *windows(2, segments=2)], threading.Event()
    blocked = threading.Thread(target=engine.call, args=(lambda: free.wait(60),))
    blocked.start()
    futures = [engine.encode(model, window, lambda: True) for window in asked]
    unwanted = engine.encode(model, asked[0], lambda: False)
    free.set()
    with torch.inference_mode():
        for window, future in zip(asked, futures, strict=True):
            expected, found = model.encode(window.frames, window.log_mel), future.result(60)
            torch.testing.assert_close(found.visual, expected.visual)
            torch.testing.assert_close(found.audio, expected.audio)
    assert unwanted.cancelled()
    assert sorted(sizes) == [2, 2, 4]
    engine.close()
    blocked.join()
    assert not engine.alive


def test_a_failure_is_that_of_its_window(runs: dict[str, Path]) -> None:
    model, free = load(runs["av_pea"], device="cpu").model, threading.Event()
    engine = Engine()
    whole = model.encode

    def failing(frames: Any, log_mel: Any) -> Any:
        if frames.amax() == 7:
            raise ValueError("no")
        if len(frames) > 1:
            raise RuntimeError("too many together")
        return whole(frames, log_mel)

    model.encode = failing  # type: ignore[method-assign, assignment]
    good, bad = windows(2)
    bad.frames.fill_(7)
    blocked = threading.Thread(target=engine.call, args=(lambda: free.wait(60),))
    blocked.start()
    futures = [engine.encode(model, one, lambda: True) for one in (good, bad)]
    free.set()
    assert futures[0].result(60).segments == 3
    with pytest.raises(ValueError, match="no"):
        futures[1].result(60)
    engine.close()
    blocked.join()
