"""Checkpoints: what is in the file, what comes back out of it, and what is refused in one sentence."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from avpea import backbones
from avpea.backbones import Backbone
from avpea.checkpoint import load_model, read_info, save_model
from avpea.errors import AvpeaError, CheckpointError
from avpea.experiment import Experiment
from avpea.model import AVModel, build
from avpea.tensors import read_tensors, write_tensors
from tests.tiny import event_labels, tensors

Make = Callable[..., Experiment]
NAMES = ("green", "red")


def lived_in(experiment: Experiment, seed: int = 5) -> AVModel:
    """A model in which every trained weight and every BatchNorm statistic has moved."""
    torch.manual_seed(seed)
    model = build(experiment, event_labels(*NAMES))
    with torch.no_grad():
        for value in model.trained_state().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return model.eval()


def answer(model: AVModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        return model.task.head.probabilities(model(frames, torch.randn(2, 3, 98, 32, generator=generator)))


@pytest.fixture
def saved(tiny_experiment: Make, tmp_path: Path) -> Path:
    experiment = tiny_experiment()
    path = tmp_path / "run" / "model.safetensors"
    save_model(path, lived_in(experiment), experiment, event_labels(*NAMES), {"epoch": 4, "segment_accuracy": 0.5})
    return path


def test_the_file_holds_adapters_and_head_and_no_backbone(saved: Path, tiny_experiment: Make) -> None:
    keys = tensors(saved).keys()
    assert {key.partition(".")[0] for key in keys} == {"adapters", "head"}
    frozen = backbones.build(tiny_experiment().backbone).state_dict()
    assert not [key for key in keys if any(key.endswith(name) for name in frozen)]
    for part in ("running_mean", "running_var", "num_batches_tracked"):
        assert sum(key.endswith(part) for key in keys) == 8  # 2 blocks, 2 streams, 2 BatchNorms


@pytest.mark.parametrize("head", ["linear", "cmbs"])
def test_a_round_trip_gives_the_same_bits(head: str, tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(**{"head.name": head})
    model = lived_in(experiment)
    save_model(tmp_path / "model.safetensors", model, experiment, event_labels(*NAMES), {})
    torch.manual_seed(77)  # what the loaded model was initialised with must not matter
    loaded, _ = load_model(tmp_path)
    assert torch.equal(answer(loaded), answer(model))
    assert not loaded.training


def test_the_description_survives(saved: Path, tiny_experiment: Make) -> None:
    info = read_info(saved.parent)
    assert info.experiment == tiny_experiment()
    assert info.labels.names == NAMES
    assert info.results == {"epoch": 4, "segment_accuracy": 0.5}
    assert info.backbone == "test_vit"
    assert info.fingerprint == backbones.build(info.experiment.backbone).fingerprint()
    assert info.version == __import__("avpea").__version__


def test_a_shared_backbone_is_used_as_it_is(saved: Path, tiny_experiment: Make) -> None:
    frozen = backbones.build(tiny_experiment().backbone)
    one, other = (load_model(saved, backbone=frozen)[0] for _ in range(2))
    assert one.encoder.backbone is other.encoder.backbone is frozen


def test_another_backbone_is_refused_with_both_fingerprints(saved: Path, tiny_experiment: Make) -> None:
    other: Backbone = backbones.build(tiny_experiment(**{"backbone.name": "test_vit2"}).backbone)
    with pytest.raises(CheckpointError) as error:
        load_model(saved, backbone=other)
    message = one_sentence(error.value)
    assert read_info(saved).fingerprint[:16] in message
    assert other.fingerprint()[:16] in message
    assert "test_vit2" in message


def test_tensors_that_do_not_fit_are_named(saved: Path) -> None:
    metadata, values = read_tensors(saved).metadata, tensors(saved)
    write_tensors(saved, {**values, "head.head.classes.bias": torch.zeros(9)}, metadata)
    with pytest.raises(CheckpointError, match=r"head\.head\.classes\.bias has shape \(9,\), expected \(3,\)"):
        load_model(saved)
    values["head.extra"] = values.pop("head.head.classes.bias")
    write_tensors(saved, values, metadata)
    with pytest.raises(CheckpointError, match=r"by its tensors: 1 missing .*1 unknown \['head\.extra'\]"):
        load_model(saved)


def one_sentence(error: BaseException) -> str:
    assert isinstance(error, CheckpointError)
    message = str(error)
    assert "\n" not in message
    assert message.endswith(".")
    assert "Traceback" not in message
    return message


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


def text(path: Path) -> Path:
    path.write_text("epochs: 3\n")
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def missing(path: Path) -> Path:
    path.unlink()
    return path


def folder_without(path: Path) -> Path:
    path.unlink()
    return path.parent


def of_somebody_else(path: Path) -> Path:
    save_file({"weight": torch.zeros(2)}, path)
    return path


def of_training_state(path: Path) -> Path:
    write_tensors(path, {"random.cpu": torch.zeros(2)}, {"format": "avpea-1-state", "position": "{}"})
    return path


@pytest.mark.parametrize(
    "spoil", [truncated, text, empty, missing, folder_without, of_somebody_else, of_training_state]
)
def test_what_is_no_checkpoint_is_refused_in_a_sentence(saved: Path, spoil: Callable[[Path], Path]) -> None:
    path = spoil(saved)
    for use in (read_info, load_model):
        with pytest.raises(AvpeaError) as error:
            use(path)
        assert str(path) in one_sentence(error.value)


def test_an_interrupted_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(saved, {"other": torch.zeros(3)}, {})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    # What is left over is not another checkpoint, and the next write takes its place.
    write_tensors(saved, {"other": torch.zeros(3)}, {"note": json.dumps(1)})
    assert tensors(saved).keys() == {"other"}
    assert [path.name for path in saved.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_in_the_place_of_a_model_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a pipe, a device or a link that leads nowhere"):
        read_info(tmp_path)
