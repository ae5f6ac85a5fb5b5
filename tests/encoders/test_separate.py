"""Separate frozen encoders: what they answer, what trains, and that other audio weights are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from avpea import backbones
from avpea.backbones import VGGish
from avpea.checkpoint import load_model, save_model
from avpea.encoders import build_encoder
from avpea.encoders.separate import SeparateEncoders
from avpea.errors import AvpeaError, CheckpointError, ExperimentError, WeightsError
from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.model import build
from avpea.predict import Predictor, load
from avpea.train import train
from tests.tiny import event_labels

pytestmark = pytest.mark.usefixtures("small_vggish")
Make = Callable[..., Experiment]
SEPARATE = {
    "encoder.name": "separate", "encoder.audio_weights": "random", "audio.features": "vggish",
    "backbone.name": "test_resnet", "backbone.image_size": 64,
}  # fmt: skip
BACKBONES = {"test_resnet": {}, "test_vit": {"backbone.name": "test_vit", "backbone.depth": 0}}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (2, 3, 64, 64, 3), generator=generator, dtype=torch.uint8)
    return frames, torch.randn(2, 3, 96, 64, generator=generator)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_stream_is_its_own_network(backbone: str, tiny_experiment: Make) -> None:
    model = build(tiny_experiment(**SEPARATE | BACKBONES[backbone]), event_labels())
    encoder = model.encoder
    assert isinstance(encoder, SeparateEncoders)
    network: Any = encoder.backbone
    frames, log_mel = batch()
    pixels, sounds = model.pixels(frames, log_mel)
    assert torch.equal(sounds[:, 0], log_mel.flatten(0, 1))
    tokens = model.encode(frames, log_mel)
    assert tokens.visual is not None
    assert tokens.audio is not None
    assert tokens.audio.shape == (6, 1, 128)
    assert torch.equal(tokens.audio[:, 0], encoder.vggish(log_mel.flatten(0, 1)[:, None]))
    if backbone == "test_resnet":
        assert tokens.visual.shape == (6, 2 * 2, 96)
        assert torch.equal(tokens.visual, network(pixels))
    else:
        x = network.embed(pixels)
        for block in network.blocks_for(64, 64):
            x = x + block.attend(x)
            x = x + block.feed(x)
        assert torch.equal(tokens.visual, network.norm(x))


@pytest.mark.parametrize("head", ["cmbs", "linear"])
def test_only_the_head_trains_and_it_sees_both_widths(head: str, tiny_experiment: Make) -> None:
    model = build(tiny_experiment(**SEPARATE | {"head.name": head}), event_labels()).train()
    assert [name for name, _ in model.trained_modules()] == ["head"]
    assert model.encoder.parameter_counts()[1] == 0
    assert not any(p.requires_grad for p in model.encoder.parameters())
    output = model(*batch())
    loss, _ = model.task.loss(output, torch.tensor([[0, 0, 2], [1, 2, 1]]))
    loss.backward()
    assert all(p.grad is not None for p in model.task.parameters())
    assert model.task.head.probabilities(output).shape == (2, 3, 3)


def test_shapes_only_beside_a_backbone_without_weights(tiny_experiment: Make) -> None:
    experiment = tiny_experiment(**SEPARATE | {"encoder.audio_weights": "pretrained"})
    encoder = build_encoder(backbones.shape_only(experiment.backbone), experiment)
    assert all(p.is_meta for p in encoder.parameters())
    with pytest.raises(WeightsError, match="no hub name is built in"):
        build(experiment, event_labels())


def save_vggish(file: Path, seed: int) -> str:
    torch.manual_seed(seed)
    save_file(VGGish().state_dict(), file)
    return str(file)


def test_other_audio_weights_are_refused_and_moved_ones_found(tiny_experiment: Make, tmp_path: Path) -> None:
    there, moved = save_vggish(tmp_path / "a.safetensors", 1), save_vggish(tmp_path / "moved.safetensors", 1)
    other = save_vggish(tmp_path / "b.safetensors", 2)
    experiment = tiny_experiment(**SEPARATE | {"encoder.audio_weights": there})
    model = build(experiment, event_labels()).eval()
    save_model(tmp_path / "model.safetensors", model, experiment, event_labels(), {})
    again, info = load_model(tmp_path, audio_weights=moved)
    assert torch.equal(again(*batch()), model(*batch()))
    assert info.other_fingerprints == model.encoder.other_fingerprints()
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path, audio_weights=other)
    message = str(caught.value)
    assert info.other_fingerprints["encoder.audio_weights"][:16] in message
    assert message.endswith("give the weights it was trained with as --encoder.audio_weights FILE.")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio.features": "kaldi"}, r"'separate' reads the features 'vggish'; set audio.features to vggish\.$"),
        ({"adapter.streams": "none"}, r"adapter.name is 'av_pea', but the encoder 'separate' has no place for it"),
        ({"encoder.fusion_from": 2}, r"fusion_from is an option of the encoder 'mbt', but .* is 'separate'; leave it"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str, tiny_experiment: Make) -> None:
    with pytest.raises(ExperimentError, match=message):
        build(tiny_experiment(**SEPARATE | changes), event_labels())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trains_evaluates_and_predicts(precision: str, tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(**SEPARATE | {"train.precision": precision, "train.epochs": 2})
    run = train(experiment, tmp_path / "run", progress=False).run
    result = evaluate(run, "test", progress=False)
    assert len(result.samples) == 3
    predictor: Predictor = load(run)
    video = Path(experiment.data.root) / "AVE" / "g4.mp4"
    prediction = predictor.predict(video)
    row = [sample.video_id for sample in result.samples].index("g4")
    torch.testing.assert_close(prediction.probabilities, result.answers[row].probabilities, rtol=0, atol=1e-3)
    with pytest.raises(AvpeaError, match=r"encoder 'separate' has no adapters, so there are no attention maps"):
        predictor.attention(prediction.clip, 0)
