"""What holds for every encoder, asked of each file in `avpea/encoders/` without naming any."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avpea import registry
from avpea.accounting import count
from avpea.adapters import Trained
from avpea.checkpoint import load_model, save_model
from avpea.encoders import Encoder, Streams
from avpea.errors import ExperimentError
from avpea.evaluate import evaluate
from avpea.experiment import Experiment, class_of
from avpea.model import AVModel, build
from avpea.options import option_names
from avpea.train import train
from tests.tiny import event_labels

# What reads precomputed features cannot read the videos here: `tests/data/test_features.py` trains it.
NAMES = [name for name in registry.names("encoder") if registry.load("encoder", name).features != "precomputed"]
# For a backbone of two blocks; an encoder takes the options that it knows.
SMALL = {"fusion_from": 0, "audio_weights": "random"}
# Sounds by the features that an encoder reads; each gets the first ones that it does not refuse.
SOUNDS: dict[str, list[dict[str, Any]]] = {
    "kaldi": [{}, {"audio.layout": "native", "audio.rows": 96}],
    "vggish": [{"audio.features": "vggish"}],
}

pytestmark = [pytest.mark.usefixtures("small_vggish", "small_tower"), pytest.mark.parametrize("name", NAMES)]
Make = Callable[..., Experiment]


def changes(name: str) -> dict[str, Any]:
    known = option_names(class_of("encoder", {"name": name}))
    return {"encoder.name": name} | {f"encoder.{key}": value for key, value in SMALL.items() if key in known}


@pytest.fixture
def experiment(name: str, tiny_experiment: Make) -> Experiment:
    kind: type[Encoder] = registry.load("encoder", name)
    *others, last = SOUNDS[kind.features]
    for sounds in others:
        with contextlib.suppress(ExperimentError):
            made = tiny_experiment(**changes(name) | sounds)
            count(made, event_labels())
            return made
    return tiny_experiment(**changes(name) | last)


def make(experiment: Experiment, seed: int = 0) -> AVModel:
    """A model in which every trained weight has moved."""
    torch.manual_seed(seed)
    model = build(experiment, event_labels())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for group in model.trained_parameters().values():
            for parameter in group:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
                if parameter.dim() == 0:
                    parameter.fill_(0.7)
    return model


def inputs(model: AVModel, videos: int = 2, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (videos, 3, 32, 32, 3), generator=generator, dtype=torch.uint8)
    audio: Any = model.audio
    rows = 96 if audio.features == "vggish" else 98
    return frames, torch.randn(videos, 3, rows, audio.mel_bins, generator=generator) * 3 - 4


def encode(model: AVModel, frames: Tensor, log_mel: Tensor) -> Streams:
    encoded = model.encode(frames, log_mel)
    assert encoded.visual is not None
    assert encoded.audio is not None
    return Streams(encoded.visual, encoded.audio)


def assert_equal(one: Streams, other: Streams) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def frozen_parameters(encoder: Encoder) -> dict[str, nn.Parameter]:
    trained = {id(p) for _, part in encoder.trained_parts() for p in part.parameters()}
    return {key: p for key, p in encoder.named_parameters() if id(p) not in trained}


def test_widths_and_a_batch_of_one(experiment: Experiment) -> None:
    model = make(experiment).eval()
    encoder = model.encoder
    together, alone = encode(model, *inputs(model)), encode(model, *(part[:1] for part in inputs(model)))
    assert together.visual.shape[::2] == (6, encoder.visual_dim)
    assert together.audio.shape[::2] == (6, encoder.audio_dim)
    assert together.visual.shape[1] > encoder.backbone.num_prefix_tokens
    for one, all_of_them in zip(alone, together, strict=True):
        torch.testing.assert_close(one, all_of_them[:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_no_state_is_kept_between_calls(experiment: Experiment, training: bool) -> None:
    model = make(experiment).train(training)
    first = encode(model, *inputs(model))
    model.encode(*inputs(model, 1, seed=9))
    with torch.inference_mode():
        model.encode(*inputs(model, 1, seed=8))
    assert_equal(encode(model, *inputs(model)), first)


def test_what_is_frozen_stays_frozen_and_all_else_learns(experiment: Experiment) -> None:
    model = make(experiment).train()
    encoder = model.encoder
    frozen = {key: p.detach().clone() for key, p in frozen_parameters(encoder).items()}
    assert frozen
    assert not any(p.requires_grad for p in frozen_parameters(encoder).values())
    optimizer = torch.optim.Adam([p for group in model.trained_parameters().values() for p in group], 1e-2)
    loss, _ = model.task.loss(model(*inputs(model)), torch.tensor([[0, 0, 2], [1, 2, 1]]))
    loss.backward()
    learns = {key: p.grad is not None for key, p in model.named_parameters() if p.requires_grad}
    assert all(learns.values()), [key for key, value in learns.items() if not value]
    optimizer.step()
    assert all(torch.equal(p, frozen[key]) for key, p in frozen_parameters(encoder).items())
    assert {p.grad for p in frozen_parameters(encoder).values()} == {None}


def test_training_mode_reaches_what_trains_and_nothing_else(experiment: Experiment) -> None:
    encoder = make(experiment).encoder.train()
    trained = {id(m) for part in encoder.modules() if isinstance(part, Trained) for m in part.modules()}
    wrong = [key for key, m in encoder.named_modules() if key and m.training != (id(m) in trained)]
    assert wrong == []
    assert not any(m.training for m in encoder.eval().modules())


def test_frozen_weights_in_bfloat16_stay_near(experiment: Experiment) -> None:
    exact = make(experiment).eval()
    rough = make(experiment).half_precision().eval()
    encoder = rough.encoder
    assert {p.dtype for p in frozen_parameters(encoder).values()} == {torch.bfloat16}
    assert {p.dtype for group in rough.trained_parameters().values() for p in group} == {torch.float32}
    for a, b in zip(encode(rough, *inputs(rough)), encode(exact, *inputs(exact)), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.1 * b.norm()


def test_checkpoint_round_trip(experiment: Experiment, tmp_path: Path) -> None:
    model = make(experiment).train()
    model(*inputs(model))  # moves BatchNorm statistics
    save_model(tmp_path / "model.safetensors", model, experiment, event_labels(), {})
    torch.manual_seed(77)
    again, info = load_model(tmp_path)
    assert info.experiment == experiment
    assert torch.equal(again(*inputs(again)), model.eval()(*inputs(model)))
    assert again.trained_state().keys() == model.trained_state().keys()
    parts = {key for prefix, m in model.trained_modules() for key in (f"{prefix}.{k}" for k in m.state_dict())}
    assert set(model.trained_state()) == parts


def test_counts_on_the_meta_device_are_those_of_the_model(experiment: Experiment) -> None:
    model = build(experiment, event_labels())
    counts = count(experiment, event_labels())
    assert model.encoder.parameter_counts() == (counts.frozen, counts.adapters)
    assert counts.head == sum(p.numel() for p in model.task.parameters())
    groups = model.trained_parameters()
    assert counts.adapters == sum(p.numel() for part in ("adapters", "backbone") for p in groups[part])


def test_trains_and_evaluates(experiment: Experiment, tmp_path: Path) -> None:
    run = train(experiment.override({"train.epochs": 1}), tmp_path / "run", progress=False).run
    result = evaluate(run, "test", progress=False)
    chances = torch.stack([answer.probabilities for answer in result.answers])
    assert chances.shape == (3, 3, 3)
    assert torch.isfinite(chances).all()
