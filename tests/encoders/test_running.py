"""Blocks that are computed again in the backward pass, or compiled: the same training, in other ways."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avpea import registry
from avpea.cli import main
from avpea.compare.cost import random_batch
from avpea.encoders import _running
from avpea.errors import CheckpointError, ExperimentError
from avpea.experiment import Experiment
from avpea.model import AVModel, build
from avpea.train import train
from tests.encoders.test_encoder_contract import NAMES, SMALL, SOUNDS
from tests.tiny import event_labels, tensors

Make = Callable[..., Experiment]
ROOT = Path(__file__).parents[2]


def variants() -> list[dict[str, Any]]:
    """Every adapter, and every encoder with adapters or with trained copies of weights."""
    adapters: list[dict[str, Any]] = [{"adapter.name": name} for name in registry.names("adapter")]
    tower: dict[str, Any] = {"encoder.name": "audio_tower", "encoder.audio_weights": "random"}
    tower |= {"audio.layout": "native", "audio.rows": 96}
    return [
        *adapters,
        {"encoder.name": "mbt", "encoder.fusion_from": 1},
        tower,
        {**tower, "adapter.name": "full"},
        {"audio.layout": "native", "audio.rows": 96},
    ]


def stepped(experiment: Experiment, checkpointing: bool) -> tuple[AVModel, dict[str, Tensor], int]:
    """A model after the backward pass of a batch in float64, its gradients, and the bytes that it kept for it."""
    torch.manual_seed(0)
    model = build(experiment, event_labels()).double()
    generator = torch.Generator().manual_seed(5)
    for parameter in (one for group in model.trained_parameters().values() for one in group):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    if checkpointing:
        model.encoder.checkpoint_blocks()
    batch = random_batch(experiment, model.train())
    targets = model.task.targets(batch.samples)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = model.task.loss(model(batch.frames, batch.log_mel.double(), targets), targets)
    loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return model, found, sum(kept.values())


def assert_same(one: AVModel, other: AVModel, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert len(ours) > 2
    for name, gradient in theirs.items():
        assert torch.equal(ours[name], gradient), name
    for (name, value), known in zip(one.trained_state().items(), other.trained_state().values(), strict=True):
        assert torch.equal(value, known), name  # statistics of BatchNorm, and how many batches it has seen


@pytest.mark.usefixtures("small_tower")
@pytest.mark.parametrize("changes", variants(), ids=lambda changes: "-".join(map(str, changes.values())))
def test_checkpointing_changes_no_gradient_and_no_statistic(changes: dict[str, Any], tiny_experiment: Make) -> None:
    experiment = tiny_experiment(**changes)
    plain, theirs, whole = stepped(experiment, False)
    again, ours, less = stepped(experiment, True)
    assert_same(again, plain, ours, theirs)
    # The blocks keep nothing for the backward pass of a side network, which does not go through them.
    assert less == whole if changes.get("adapter.name") == "ladder" else less < 0.8 * whole


@pytest.mark.parametrize("encoder", ["dual_stream", "audio_tower"])
@pytest.mark.usefixtures("small_tower")
def test_frames_of_other_videos_are_seen_by_the_frozen_weights(encoder: str, tiny_experiment: Make) -> None:
    (changes,) = (
        one
        for one in variants()
        if one.get("adapter.name") == "full" and ("encoder.name" in one) == (encoder != "dual_stream")
    )
    model = build(tiny_experiment(**changes), event_labels())
    frames = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        frozen = model.encoder.see(frames)
        for parameter in (one for group in model.trained_parameters().values() for one in group):
            parameter.add_(0.1)
        model.encoder.checkpoint_blocks()
        assert torch.equal(model.encoder.see(frames), frozen)


def test_checkpointing_with_dropout_in_an_adapter(tiny_experiment: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from avpea.adapters.av_pea import AVPEA

    finish = AVPEA.finish
    monkeypatch.setattr(AVPEA, "finish", lambda self, z, onto: finish(self, nn.functional.dropout(z, 0.5), onto))
    plain, theirs, _ = stepped(tiny_experiment(), False)
    again, ours, _ = stepped(tiny_experiment(), True)
    assert_same(again, plain, ours, theirs)


def test_without_care_statistics_would_move_twice(tiny_experiment: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above would see."""
    monkeypatch.setattr(_running, "_still", lambda _: contextlib.nullcontext())
    plain, again = stepped(tiny_experiment(), False)[0], stepped(tiny_experiment(), True)[0]
    counts = [
        [int(value) for name, value in model.trained_state().items() if name.endswith("num_batches_tracked")]
        for model in (plain, again)
    ]
    assert set(counts[0]) == {1}
    assert set(counts[1]) == {2}


def test_a_network_without_blocks_is_refused(tiny_experiment: Make, tmp_path: Path, small_vggish: None) -> None:
    experiment = tiny_experiment(
        **{"encoder.name": "separate", "encoder.audio_weights": "random", "audio.features": "vggish",
           "backbone.name": "resnet18", "train.checkpointing": True}
    )  # fmt: skip
    with pytest.raises(ExperimentError, match="no transformer whose blocks could be computed again; leave it out"):
        train(experiment, tmp_path / "run", progress=False)


def test_a_run_is_the_same_with_checkpointing_and_may_change_to_it(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    run, few = tmp_path / "run", {"train.epochs": 2}
    train(tiny_experiment(**few), run, progress=False)
    train(tiny_experiment(**few, **{"train.checkpointing": True}), run, extend=1, progress=False)
    assert all(torch.equal(a, b) for a, b in pairs(run, tiny_run))


def pairs(run: Path, other: Path) -> list[tuple[Tensor, Tensor]]:
    ours, theirs = tensors(run / "model.safetensors"), tensors(other / "model.safetensors")
    assert ours.keys() == theirs.keys()
    return [(ours[name], theirs[name]) for name in ours]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_compiled_run_has_the_same_checkpoint(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a compiler that only counts, so that the values are the same too."""
    calls: list[str] = []

    def compiler(function: Any) -> Any:
        def compiled(*given: Any) -> Any:
            calls.append(function.__name__)
            return function(*given)

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    done = train(tiny_experiment(**{"train.compile": True}), tmp_path / "run", progress=False)
    assert done.compiled
    assert calls.count("_attend") == calls.count("_feed") > 2 * 2 * 3 * 3  # blocks, streams, steps and epochs
    assert all(torch.equal(a, b) for a, b in pairs(done.run, tiny_run))
    assert all(line["compiled"] is True for line in metrics(done.run))
    assert train(tiny_experiment(**{"train.compile": True}), done.run, progress=False).compiled
    with pytest.raises(CheckpointError, match=r"train\.compile is True, not False"):
        train(tiny_experiment(), done.run, progress=False)


def failing(*_: Any) -> Any:
    raise RuntimeError("no compiler found\nand a page of advice")


def test_where_compiling_is_impossible_training_goes_on(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(torch, "compile", failing)
    done = train(tiny_experiment(**{"train.compile": True}), tmp_path / "run", progress=False)
    said = capsys.readouterr().err
    sentence = (
        "torch cannot compile the frozen blocks here (RuntimeError: no compiler found); training goes on uncompiled."
    )
    assert said.count(sentence) == 1
    assert not done.compiled
    assert all(line["compiled"] is False for line in metrics(done.run))
    assert all(torch.equal(a, b) for a, b in pairs(done.run, tiny_run))


def test_where_it_turns_out_later_training_goes_on(
    tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    calls: list[str] = []

    def compiler(function: Any) -> Any:
        def compiled(*given: Any) -> Any:
            calls.append(function.__name__)
            if len(calls) > 20:
                raise TorchDynamoException("a shape that cannot be compiled")
            return function(*given)

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    done = train(tiny_experiment(**{"train.compile": True}), tmp_path / "run", progress=False)
    assert len(calls) == 21
    assert capsys.readouterr().err.count("a shape that cannot be compiled); training goes on uncompiled.") == 1
    assert [line["compiled"] for line in metrics(done.run)] == [False, False, False]
    assert all(torch.equal(a, b) for a, b in pairs(done.run, tiny_run))


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["av_pea", "lora", "full"])
def test_compiled_by_torch_itself(adapter: str, tiny_experiment: Make, tmp_path: Path) -> None:
    """In a process of its own, since pytest has put its checks of shapes into all functions of this one."""
    lines, states = [], []
    for name in ("plain", "compiled"):
        experiment = tiny_experiment(**{"adapter.name": adapter, "train.compile": name == "compiled"})
        (tmp_path / f"{name}.yaml").write_text(experiment.to_yaml(), encoding="utf-8")
        words = ["train", str(tmp_path / f"{name}.yaml"), "--run", str(tmp_path / name), "--quiet"]
        done = subprocess.run(
            [sys.executable, "-m", "avpea", *words], capture_output=True, text=True, cwd=ROOT, check=False, timeout=280
        )
        assert done.returncode == 0, done.stderr
        assert "uncompiled" not in done.stderr
        lines.append(metrics(tmp_path / name))
        states.append(tensors(tmp_path / name / "model.safetensors"))
    assert all(line["compiled"] for line in lines[1])
    assert states[0].keys() == states[1].keys()
    for plain, compiled in zip(*lines, strict=True):
        assert compiled["train/loss"] == pytest.approx(plain["train/loss"], rel=1e-4)
        assert compiled["val/loss"] == pytest.approx(plain["val/loss"], rel=1e-3)
    assert main(["evaluate", str(tmp_path / "compiled"), "--quiet"]) == 0


@pytest.mark.slow
def test_a_machine_without_a_compiler(tiny_experiment: Make, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(tiny_experiment(**{"train.compile": True}).to_yaml(), encoding="utf-8")
    there = os.environ | {"CXX": "/nowhere/c++", "PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    words = ["train", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run"), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "avpea", *words], capture_output=True, text=True, cwd=ROOT, env=there, check=False,
        timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("training goes on uncompiled.") == 1
    assert "Traceback" not in done.stderr
    assert [line["compiled"] for line in metrics(tmp_path / "run")] == [False, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_every_encoder_says_whether_it_compiles(
    name: str, tiny_experiment: Make, monkeypatch: pytest.MonkeyPatch, small_vggish: None, small_tower: None
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)
    changes: dict[str, Any] = {"encoder.name": name}
    kind = registry.load("encoder", name)
    changes |= {f"encoder.{k}": v for k, v in SMALL.items() if k in kind.Options.__dataclass_fields__}
    for sounds in SOUNDS[kind.features]:
        try:
            model = build(tiny_experiment(**changes, **sounds), event_labels())
        except ExperimentError:
            continue
        assert model.encoder.compile_blocks() == ""
        return
    raise AssertionError("no sound fits")
