"""Kept tokens: the same numbers as without, computed once, and never those of another network, setting or clip."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea import data
from avpea.checkpoint import load_model
from avpea.data.cache import SampleCache
from avpea.encoders import Streams
from avpea.errors import ExperimentError
from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.frozen import FrozenTokens
from avpea.model import build
from avpea.train import train
from tests.adapters.test_av_pea import randomised
from tests.tiny import assert_same_run, exit_code, metric_lines, start_training

Make = Callable[..., Experiment]
KEPT = {"encoder.keep_frozen": True}
LAST = {"adapter.blocks": [1]}  # of the two blocks


def make(experiment: Experiment) -> tuple[Any, SampleCache, Any]:
    """A model with adapters that do something, the cache, and the training samples."""
    annotations = data.read(experiment.data)
    torch.manual_seed(0)
    model = build(experiment, annotations.labels)
    for _, module in model.trained_modules():
        randomised(module)
    cache = SampleCache(experiment.data, experiment.audio, experiment.backbone.image_size)
    return model.eval(), cache, annotations.splits["train"]


@pytest.fixture
def own_cache(tiny_data: Path, tmp_path: Path) -> dict[str, Any]:
    return {"data.cache": str(tmp_path / "cache")}


ADAPTERS: dict[str, tuple[dict[str, Any], int]] = {
    "none": ({"adapter.streams": "none"}, 2),
    "in the last block": (LAST, 1),
    "in all blocks": ({}, 0),
    "inside the last block": ({"adapter.name": "lora", **LAST}, 1),
    "beside both branches, in one stream": ({"adapter.name": "lavish", "adapter.streams": "audio", **LAST}, 1),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_output_is_that_of_the_whole_network(
    adapter: str, tiny_experiment: Make, own_cache: dict[str, Any]
) -> None:
    changes, first = ADAPTERS[adapter]
    model, cache, samples = make(tiny_experiment(**changes, **KEPT, **own_cache))
    assert model.encoder.first_trained == first
    some = samples[:3]
    batch = cache.batch(some)
    with torch.no_grad():
        whole = model(batch.frames, batch.log_mel)
        for _ in range(2):  # computed, then read
            torch.testing.assert_close(model.task(FrozenTokens(model, cache).encoded(some)), whole)


def test_a_clip_is_computed_once_and_alone(
    tiny_experiment: Make, own_cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model, cache, samples = make(tiny_experiment(**LAST, **KEPT, **own_cache))
    real, images = model.encoder.enter, []

    def enter(frames: Any, sounds: Any) -> Streams:
        images.append(len(frames))
        entered: Streams = real(frames, sounds)
        assert not entered.visual.requires_grad
        return entered

    monkeypatch.setattr(model.encoder, "enter", enter)
    tokens = FrozenTokens(model, cache)
    tokens.fill(samples, progress=False)
    tokens.encoded(samples[:2])
    FrozenTokens(model, cache).fill(samples, progress=False)
    assert images == [3] * len(samples)  # the seconds of one clip each time
    tokens.path(samples[0]).write_bytes(b"cut off")
    tokens.read(samples[0])
    assert len(images) == len(samples) + 1
    path, before = tokens.path(samples[0]), tokens.read(samples[0]).visual.clone()
    path.write_bytes(path.read_bytes()[:-50] + bytes(50))
    capsys.readouterr()
    assert torch.equal(tokens.read(samples[0]).visual, before)
    assert len(images) == len(samples) + 2
    assert f"the cache entry {path} is damaged" in capsys.readouterr().err


def test_another_network_sound_or_clip_has_other_tokens(
    tiny_experiment: Make, own_cache: dict[str, Any], tmp_path: Path
) -> None:
    def folder(**changes: Any) -> Path:
        model, cache, _ = make(tiny_experiment(**{**LAST, **KEPT, **own_cache, **changes}))
        return FrozenTokens(model, cache).folder

    first = folder()
    assert folder() == first
    assert folder(**{"train.learning_rate": 1e-5, "adapter.name": "lora"}) == first
    others: list[dict[str, Any]] = [
        {"adapter.blocks": [0]},
        {"audio.mean": -5.0},
        {"audio.mel_bins": 16},
        {"encoder.positions": "sequence"},
        {"backbone.image_size": 48},
    ]
    for changes in others:
        assert folder(**changes) != first, changes
    model, cache, samples = make(tiny_experiment(**LAST, **KEPT, **own_cache))
    tokens = FrozenTokens(model, cache)
    before = tokens.path(samples[0])
    copy = tmp_path / "copy.mp4"
    shutil.copy(samples[0].video, copy)
    os.utime(copy, (1, 1))
    from dataclasses import replace

    assert tokens.path(replace(samples[0], video=copy)) != before


def test_training_with_kept_tokens_is_training(
    tiny_experiment: Make, own_cache: dict[str, Any], tmp_path: Path
) -> None:
    plain = train(tiny_experiment(**LAST, **own_cache), tmp_path / "plain", progress=False).run
    kept = train(tiny_experiment(**LAST, **own_cache, **KEPT), tmp_path / "kept", progress=False).run
    for one, other in zip(metric_lines(plain), metric_lines(kept), strict=True):
        assert other["train/loss"] == pytest.approx(one["train/loss"], rel=1e-3)
        assert other["val/loss"] == pytest.approx(one["val/loss"], rel=1e-3)
    result = evaluate(kept, "val", progress=False)
    best = max(line["val/segment_accuracy"] for line in metric_lines(kept))
    assert result.metrics["segment_accuracy"] == best
    model, _ = load_model(kept)
    assert model.encoder.keeps_frozen


def test_an_interrupted_training_goes_on_to_the_same_bits(
    tiny_experiment: Make, own_cache: dict[str, Any], tmp_path: Path
) -> None:
    experiment = tiny_experiment(**LAST, **own_cache, **KEPT)
    whole = train(experiment, tmp_path / "whole", progress=False).run
    shutil.rmtree(tmp_path / "cache")
    process, _ = start_training(experiment.to_dict(), tmp_path / "run", "avpea.frozen:FrozenTokens.encoded", 4)
    assert exit_code(process) != 0
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", whole)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "augmentation": ({"train.augment.flip": 0.5}, "train.augment.flip changes it in each epoch"),
    "trained weights of all layers": ({"adapter.name": "bitfit"}, "adapter.name 'bitfit' trains weights of all"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_make_kept_tokens_wrong_is_refused(what: str, tiny_experiment: Make) -> None:
    changes, message = REFUSED[what]
    with pytest.raises(ExperimentError, match=message):
        tiny_experiment(**KEPT, **changes)


def test_other_encoders_do_not_keep(tiny_experiment: Make) -> None:
    with pytest.raises(ExperimentError, match=r"encoder.keep_frozen is an option of the encoder 'dual_stream', but"):
        tiny_experiment(**{"encoder.name": "mbt", "encoder.fusion_from": 1}, **KEPT)
