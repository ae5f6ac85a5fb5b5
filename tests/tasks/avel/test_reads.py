"""A head on the visual stream alone: what it knows of the sound came through the adapters' exchange, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.accounting import count
from avpea.adapters import Adapter
from avpea.data import read
from avpea.evaluate import prepare
from avpea.model import AVModel, build
from avpea.predict import load
from avpea.train import train
from bench.heard import heard, others, sight_alone
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


def test_what_answers_owe_to_the_sound_is_measured_with_the_sound_of_another_clip(
    tiny_experiment: Make, tmp_path: Path
) -> None:
    """A head that hears nothing answers alike; one that sees nothing is right as often as the other clip's sound is."""
    blind = {"head.reads": "visual", "adapter.cross_modal": False, "train.epochs": 1}
    measured = heard(load(train(tiny_experiment(**blind), tmp_path / "blind", progress=False).run))
    assert "sight_alone" not in measured
    colours = [["green"] * 3, ["background", "red", "red"], ["red", "black", "red"]]
    clips = [
        {"video_id": name, "visual_per_second": row} for name, row in zip(("g4", "r4", "r5"), colours, strict=True)
    ]
    (tmp_path / "timelines.jsonl").write_text("\n".join(map(json.dumps, clips)))
    samples: Any = read(tiny_experiment().data).splits["test"]  # ggg, .r. and r..
    assert sight_alone(tmp_path, samples, event_labels().names) == round((3 + 2 + 2) / 9, 4)
    assert measured["changed"] == 0
    assert measured["own_sound_accuracy"] == measured["other_sound_accuracy"]
    run = train(tiny_experiment(**{"train.epochs": 1}), tmp_path / "both", progress=False).run
    predictor = load(run)
    weight: torch.Tensor = predictor.model.task.head.hidden.weight
    with torch.no_grad():
        weight[:, weight.shape[1] // 2 :] = 0  # nothing of the picture is left
    samples = read(predictor.info.experiment.data).splits["test"]
    assert [one.labels for one in others(samples)] != [one.labels for one in samples]
    measured = heard(predictor)
    assert measured["seconds"] == 9
    with torch.no_grad():
        cache, _, _ = prepare(predictor.info.experiment, read(predictor.info.experiment.data), ["test"])
        swapped = cache.batch(others(samples))
        frames = cache.batch(samples).frames
        answers = predictor.model.task.answers(predictor.model(frames, swapped.log_mel), None)
    right = sum(
        int(d) == l for a, s in zip(answers, samples, strict=True) for d, l in zip(a.decisions, s.labels, strict=True)
    )
    assert measured["other_sound_accuracy"] == pytest.approx(right / 9, abs=1e-4)


def tone(hertz: float) -> Any:
    return lambda t: 0.5 * torch.sin(2 * torch.pi * hertz * torch.as_tensor(t)).numpy()
