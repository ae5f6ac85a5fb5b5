"""A head on the visual stream alone: what it knows of the sound came through the adapters' exchange, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.accounting import count
from avpea.adapters import Adapter
from avpea.model import AVModel, build
from avpea.predict import load
from avpea.train import train
from tests.media_factory import make_video
from tests.tiny import event_labels

Make = Callable[..., Any]


def model_of(experiment: Any) -> AVModel:
    """With every gate open."""
    torch.manual_seed(0)
    model = build(experiment, event_labels()).eval()
    with torch.no_grad():
        for module in model.modules():
            for gate in module.parameters(recurse=False) if isinstance(module, Adapter) else ():
                if gate.dim() == 0:
                    gate.fill_(0.7)
    return model


@pytest.mark.parametrize("head", ["linear", "pooled"])
@pytest.mark.parametrize(
    ("adapter", "hears"),
    [
        ({}, True),
        ({"adapter.queries": "all"}, True),
        ({"adapter.exchange_blocks": (0,)}, True),
        ({"adapter.name": "lavish"}, True),
        ({"adapter.streams": "visual"}, True),
        ({"adapter.streams": "audio"}, False),
        ({"adapter.cross_modal": False}, False),
        ({"adapter.name": "lora"}, False),
        ({"adapter.streams": "none"}, False),
    ],
)
@torch.no_grad()
def test_sound_comes_through_the_exchange_alone(
    head: str, adapter: dict[str, Any], hears: bool, tiny_experiment: Make
) -> None:
    model = model_of(tiny_experiment(**{"head.name": head, "head.reads": "visual", **adapter}))
    frames, other_frames = (torch.randint(0, 255, (2, 3, 32, 32, 3), dtype=torch.uint8) for _ in range(2))
    sounds, other_sounds = (torch.randn(2, 3, 98, 32) for _ in range(2))
    before = model(frames, sounds)
    assert torch.equal(model(frames, other_sounds), before) is not hears
    assert not torch.equal(model(other_frames, sounds), before)


def test_it_is_counted_and_what_is_unlike_training_is_known_by_the_picture(
    tiny_experiment: Make, tmp_path: Path
) -> None:
    experiment = tiny_experiment(**{"head.reads": "visual", "adapter.cross_modal": False, "train.epochs": 1})
    both = tiny_experiment(**{"adapter.cross_modal": False})
    dim = build(experiment, event_labels()).encoder.audio_dim
    assert count(both).head - count(experiment).head == 512 * dim
    run = train(experiment, tmp_path / "run", progress=False).run
    predictor = load(run)
    clips = [make_video(tmp_path / f"{hz}.mp4", seconds=3, size=(48, 48), sound=tone(hz)) for hz in (300, 2000)]
    one, other = (predictor.predict(clip).to_dict() for clip in clips)
    assert {**one, "video": ""} == {**other, "video": ""}


def tone(hertz: float) -> Any:
    return lambda t: 0.5 * torch.sin(2 * torch.pi * hertz * torch.as_tensor(t)).numpy()
