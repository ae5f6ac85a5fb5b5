"""Kept tokens: the same numbers as without, computed once, and never those of another network, setting or clip."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea import data
from avpea.activations import Activations
from avpea.checkpoint import load_model
from avpea.data.cache import SampleCache
from avpea.encoders import Streams
from avpea.errors import ExperimentError, WriteError
from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.model import build
from avpea.tensors import read_tensors
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
    "a side network": ({"adapter.name": "ladder"}, 2),
    "a side network of one stream": ({"adapter.name": "ladder", "adapter.streams": "visual", **LAST}, 2),
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
            torch.testing.assert_close(model.task(Activations(model, cache).encoded(some)), whole)


def test_a_clip_is_computed_once_and_alone(
    tiny_experiment: Make, own_cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model, cache, samples = make(tiny_experiment(**LAST, **KEPT, **own_cache))
    real, images = model.encoder.enter, []

    def enter(frames: Any, sounds: Any) -> tuple[Streams, ...]:
        images.append(len(frames))
        entered: tuple[Streams, ...] = real(frames, sounds)
        assert not entered[0].visual.requires_grad
        return entered

    monkeypatch.setattr(model.encoder, "enter", enter)
    tokens = Activations(model, cache)
    tokens.fill(samples, progress=False)
    tokens.encoded(samples[:2])
    Activations(model, cache).fill(samples, progress=False)
    assert images == [3] * len(samples)  # the seconds of one clip each time
    tokens.path(samples[0]).write_bytes(b"cut off")
    tokens.read(samples[0])
    assert len(images) == len(samples) + 1
    path, before = tokens.path(samples[0]), tokens.read(samples[0])[0].visual.clone()
    path.write_bytes(path.read_bytes()[:-50] + bytes(50))
    capsys.readouterr()
    assert torch.equal(tokens.read(samples[0])[0].visual, before)
    assert len(images) == len(samples) + 2
    assert f"the cache entry {path} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_kept_is_what_is_computed(precision: str, tiny_experiment: Make, own_cache: dict[str, Any]) -> None:
    """Clip by clip to the same bits, in the type that it is computed in; rounded once where half of it is kept."""
    experiment = tiny_experiment(**LAST, **KEPT, **own_cache, **{"train.precision": precision})
    model, cache, samples = make(experiment)
    model, _ = model.to_train(experiment.train, torch.device("cpu"))
    model.eval()
    tokens = Activations(model, cache)
    for _ in range(2):  # computed, then read
        for sample in samples[:3]:
            batch = cache.batch([sample])
            with torch.no_grad():
                entered = model.encoder.enter(*model.pixels(batch.frames, batch.log_mel))
                whole = model(batch.frames, batch.log_mel)
                kept = model.task(tokens.encoded([sample]))
            assert all(map(torch.equal, tokens.read(sample)[0], entered[0]))
            assert {one.dtype for one in entered[0]} == {torch.bfloat16 if precision == "bf16" else torch.float32}
            torch.testing.assert_close(kept, whole, rtol=0, atol=0)
    if precision == "bf16":
        return
    half = experiment.override({"encoder.keep_precision": "bf16"})
    rounded = Activations(make(half)[0], cache)
    assert rounded.folder != tokens.folder
    for exact, stored in zip(tokens.read(samples[0])[0], rounded.read(samples[0])[0], strict=True):
        assert torch.equal(stored, exact.bfloat16())
    assert rounded.path(samples[0]).stat().st_size < 0.6 * tokens.path(samples[0]).stat().st_size


def test_several_layers_of_a_clip(tiny_experiment: Make, own_cache: dict[str, Any]) -> None:
    """What a side network reads: each layer's output, in order, of both streams, under the layer's name."""
    model, cache, samples = make(tiny_experiment(**{"adapter.streams": "none"}, **KEPT, **own_cache))
    encoder = model.encoder
    assert encoder.kept.layers == (2,)
    encoder.kept = encoder.kept._replace(layers=(0, 1, 2))

    def enter(frames: Any, sounds: Any) -> tuple[Streams, ...]:
        x, sizes = encoder.embed(frames, sounds), ((frames.shape[-2:]), (sounds.shape[-2:]))
        return tuple(encoder._through(x, sizes, 0, layer)[0] for layer in encoder.kept.layers)

    encoder.enter = enter
    every = Activations(model, cache)
    every.fill(samples[:2], progress=False)
    batch = cache.batch(samples[:2])
    with torch.no_grad():
        wanted = enter(*model.pixels(batch.frames, batch.log_mel))
    for layer, (found, expected) in enumerate(zip(every.entered(samples[:2]), wanted, strict=True)):
        for stream, one, other in zip(Streams._fields, found, expected, strict=True):
            torch.testing.assert_close(one, other, msg=f"{stream} of layer {layer}")
    assert set(read_tensors(every.path(samples[0])).shapes) == {f"{s}.{i}" for s in Streams._fields for i in range(3)}


def counted(tokens: Activations, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The samples that are computed from now on."""
    calls: list[Any] = []
    compute = tokens._compute

    def compute_and_note(sample: Any) -> Any:
        calls.append(sample)
        return compute(sample)

    monkeypatch.setattr(tokens, "_compute", compute_and_note)
    return calls


def test_no_more_is_kept_than_there_is_room_for(
    tiny_experiment: Make,
    own_cache: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, cache, samples = make(tiny_experiment(**LAST, **KEPT, **own_cache))
    everything = Activations(model, cache)
    before = [everything.read(sample)[0] for sample in samples]
    one = sum(tokens.nbytes for tokens in before[0])
    shutil.rmtree(everything.folder)
    # An entry has a header too, of which a thousand bytes are allowed for here.
    changes = {"encoder.keep_gb": (2.5 * one + 1000) / 1e9}
    model, cache, _ = make(tiny_experiment(**LAST, **KEPT, **own_cache, **changes))
    bounded = Activations(model, cache)
    assert bounded.folder == everything.folder
    bounded.fill(samples, progress=False)
    assert [bounded.path(sample).is_file() for sample in samples] == [True, True] + [False] * (len(samples) - 2)
    assert "take all that encoder.keep_gb" in capsys.readouterr().err
    for sample, tokens in zip(samples, before, strict=True):
        assert all(map(torch.equal, bounded.read(sample)[0], tokens))
    another = Activations(model, cache)  # what is there counts, and nothing is computed that cannot be kept
    calls = counted(another, monkeypatch)
    another.fill(samples, progress=False)
    assert sum(bounded.path(sample).is_file() for sample in samples) == 2
    assert len(calls) == 1
    other, _, _ = make(tiny_experiment(**{"adapter.streams": "none"}, **KEPT, **own_cache, **changes))
    layers = Activations(other, cache)  # other layers of the same network share its room
    layers.fill(samples, progress=False)
    assert layers.folder != bounded.folder
    assert not any(layers.path(sample).is_file() for sample in samples)
    for settings in bounded.folder.parent.glob("*/settings.json"):  # what an earlier version has left counts no more
        settings.write_text(settings.read_text().replace('"format": 3', '"format": 2'))
    Activations(other, cache).fill(samples, progress=False)
    assert any(layers.path(sample).is_file() for sample in samples)


def test_samples_of_one_clip_share_an_entry(
    tiny_experiment: Make, own_cache: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a clip of two categories, or a video with questions in two splits."""
    model, cache, samples = make(tiny_experiment(**LAST, **KEPT, **own_cache))
    same = [replace(samples[0], key=f"another-{number}") for number in range(3)]
    tokens = Activations(model, cache)
    calls = counted(tokens, monkeypatch)
    tokens.fill([*same, samples[1]], progress=False)
    assert len({tokens.path(sample) for sample in same}) == 1
    assert len(calls) == 2


def test_a_folder_that_cannot_be_written_costs_time_only(
    tiny_experiment: Make,
    own_cache: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, cache, samples = make(tiny_experiment(**LAST, **KEPT, **own_cache))
    expected = Activations(model, cache).read(samples[0])
    shutil.rmtree(cache.folder.parent / "activations")

    def full(path: Path, *_: Any, **__: Any) -> None:
        raise WriteError(28, str(path))

    monkeypatch.setattr("avpea.activations.write_tensors", full)
    tokens = Activations(model, cache)
    tokens.fill(samples, progress=False)
    assert not list(tokens.folder.glob("*/*"))
    said = capsys.readouterr().err
    assert said.count("are computed each time, which takes longer") == 1
    assert all(map(torch.equal, tokens.read(samples[0])[0], expected[0]))


def test_another_network_sound_or_clip_has_other_tokens(
    tiny_experiment: Make, own_cache: dict[str, Any], tmp_path: Path
) -> None:
    def folder(**changes: Any) -> Path:
        model, cache, _ = make(tiny_experiment(**{**LAST, **KEPT, **own_cache, **changes}))
        return Activations(model, cache).folder

    first = folder()
    assert folder() == first
    assert folder(**{"train.learning_rate": 1e-5, "adapter.name": "lora"}) == first
    others: list[dict[str, Any]] = [
        {"adapter.blocks": [0]},
        {"adapter.name": "ladder"},
        {"adapter.name": "ladder", "adapter.blocks": []},
        {"audio.mean": -5.0},
        {"audio.mel_bins": 16},
        {"encoder.positions": "sequence"},
        {"backbone.image_size": 48},
        {"backbone.mean": [0.1, 0.1, 0.1]},
        {"backbone.std": [0.9, 0.9, 0.9]},
    ]
    for changes in others:
        assert folder(**changes) != first, changes
    model, cache, samples = make(tiny_experiment(**LAST, **KEPT, **own_cache))
    tokens = Activations(model, cache)
    before = tokens.path(samples[0])
    copy = tmp_path / "copy.mp4"
    shutil.copy(samples[0].video, copy)
    os.utime(copy, (1, 1))
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
    assert model.encoder.kept is not None


def test_an_epoch_of_a_side_network_needs_neither_pass_of_the_backbone(
    tiny_experiment: Make, own_cache: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_experiment(**{"adapter.name": "ladder"}, **own_cache, **KEPT)
    first = train(experiment, tmp_path / "first", progress=False).run

    def ran(*_: Any) -> Any:
        raise AssertionError("a block of the backbone ran")

    monkeypatch.setattr("avpea.backbones.families.PlainBranches.attend", ran)
    monkeypatch.setattr("avpea.backbones.families.PlainBranches.feed", ran)
    assert_same_run(train(experiment, tmp_path / "again", progress=False).run, first)


@pytest.mark.parametrize(
    "adapter",
    [LAST, pytest.param({"adapter.name": "ladder"}, marks=pytest.mark.slow)],
    ids=["in the last block", "a side network"],
)
def test_an_interrupted_training_goes_on_to_the_same_bits(
    adapter: dict[str, Any], tiny_experiment: Make, own_cache: dict[str, Any], tmp_path: Path
) -> None:
    experiment = tiny_experiment(**adapter, **own_cache, **KEPT)
    whole = train(experiment, tmp_path / "whole", progress=False).run
    shutil.rmtree(tmp_path / "cache")
    process, _ = start_training(experiment.to_dict(), tmp_path / "run", "avpea.activations:Activations.encoded", 4)
    assert exit_code(process) != 0
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", whole)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no room": ({"encoder.keep_gb": -1}, "encoder.keep_gb is -1.0; expected 0"),
    "a limit for nothing": (
        {"encoder.keep_frozen": False, "encoder.keep_gb": 1},
        "encoder.keep_gb is 1.0, but encoder.keep_frozen is false",
    ),
    "augmentation": ({"train.augment.flip": 0.5}, "train.augment.flip changes it in each epoch"),
    "trained weights of all layers": ({"adapter.name": "bitfit"}, "adapter.name 'bitfit' trains weights of all"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_make_kept_tokens_wrong_is_refused(what: str, tiny_experiment: Make) -> None:
    changes, message = REFUSED[what]
    with pytest.raises(ExperimentError, match=message):
        tiny_experiment(**{**KEPT, **changes})


def test_other_encoders_do_not_keep(tiny_experiment: Make) -> None:
    with pytest.raises(ExperimentError, match=r"encoder.keep_frozen is an option of the encoder 'dual_stream', but"):
        tiny_experiment(**{"encoder.name": "mbt", "encoder.fusion_from": 1}, **KEPT)
