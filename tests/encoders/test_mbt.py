"""MBT against its equations written out, and where its streams meet."""

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from avpea.backbones import Backbone
from avpea.encoders.mbt import MBT
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.model import build
from tests.encoders.test_dual_stream import images, layer_norm, plain_ffn, plain_msa, small_backbone
from tests.tiny import event_labels, section


def encoder(tokens: int = 4, fusion_from: int = 1) -> MBT:
    """Every weight random, and the two transformers different."""
    torch.manual_seed(7)
    made = MBT(small_backbone(), tokens, fusion_from).double()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made


@torch.no_grad()
def plain_mbt(model: MBT, frames: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
    """Two transformers of their own, layer by layer, with plain variables."""
    seeing, hearing = copy.deepcopy(model.backbone), copy.deepcopy(model.backbone)
    seeing.load_state_dict(model.visual.by_name())
    hearing.load_state_dict(model.audio.by_name())
    seeing._kept.clear()
    hearing._kept.clear()

    def layer(vit: Backbone, index: int, x: Tensor) -> Tensor:
        y = x + plain_msa(vit.layers[index], x)
        return y + plain_ffn(vit.layers[index], y)

    z_v, z_a = seeing.embed(frames), hearing.embed(sounds)
    for index in range(model.fusion_from):
        z_v, z_a = layer(seeing, index, z_v), layer(hearing, index, z_a)
    if model.bottleneck is not None:
        z_b = torch.cat([model.bottleneck.tokens] * len(frames))
        for index in range(model.fusion_from, 3):
            n_v, n_a = z_v.shape[1], z_a.shape[1]
            out_v = layer(seeing, index, torch.cat([z_v, z_b], dim=1))
            out_a = layer(hearing, index, torch.cat([z_a, z_b], dim=1))
            z_v, z_a = out_v[:, :n_v], out_a[:, :n_a]
            z_b = 0.5 * out_v[:, n_v:] + 0.5 * out_a[:, n_a:]
    return layer_norm(z_v, seeing.final_norm), layer_norm(z_a, hearing.final_norm)


@pytest.mark.parametrize(("tokens", "fusion_from"), [(4, 1), (1, 0), (2, 2), (4, 3)])
@pytest.mark.parametrize("sound_size", [(32, 32), (48, 32)])
def test_equals_the_equations_written_out(tokens: int, fusion_from: int, sound_size: tuple[int, int]) -> None:
    model = encoder(tokens, fusion_from).eval()
    frames, sounds = images(), images(4, *sound_size)
    for answer, plain in zip(model(frames, sounds), plain_mbt(model, frames, sounds), strict=True):
        assert answer.shape == plain.shape  # without bottleneck tokens
        assert (answer - plain).abs().max() < 1e-12


def test_both_start_as_the_backbone_and_without_fusion_are_it() -> None:
    model = MBT(small_backbone(), fusion_from=3).double()
    assert model.bottleneck is None
    frames, sounds = images(), images(4)
    for answer, pixels in zip(model(frames, sounds), (frames, sounds), strict=True):
        x = model.backbone.embed(pixels)
        for block in model.backbone.blocks:
            x = x + block.attend(x)
            x = x + block.feed(x)
        assert torch.equal(answer, model.backbone.norm(x))


@pytest.mark.parametrize("fusion_from", [0, 1, 2, 3])
def test_a_stream_changes_with_the_other_from_the_second_fusion_layer_on(fusion_from: int) -> None:
    """In the first one both streams read the same learned tokens; what the other wrote comes one layer later."""
    model = encoder(fusion_from=fusion_from).eval()
    frames, sounds = images(), images(4)
    before = model(frames, sounds)
    sees = not torch.equal(model(frames, images(5)).visual, before.visual)
    hears = not torch.equal(model(images(6), sounds).audio, before.audio)
    assert sees == hears == (3 - fusion_from >= 2)


def test_every_weight_gets_a_gradient_and_the_backbone_none() -> None:
    model = encoder().train()
    tokens = model(images(), images(4, 48, 32))
    (tokens.visual.square().sum() + tokens.audio.pow(3).sum()).backward()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * len(list(model.backbone.parameters())) + 1
    assert [name for name, p in trained if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())


def test_bottleneck_tokens_start_small() -> None:
    torch.manual_seed(0)
    model = MBT(small_backbone(), 200, 1)
    assert model.bottleneck is not None
    assert model.bottleneck.tokens.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.parameter_counts() == (0, 2 * sum(p.numel() for p in model.backbone.parameters()) + 200 * 16)


TINY: dict[str, Any] = {
    "task": {"name": "avel"},
    "data": {"name": "ave"},
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": {"bottleneck_tokens": 0}}, r"encoder.bottleneck_tokens is 0; expected 1 or more\.$"),
        ({"encoder": {"fusion_from": -1}}, r"encoder.fusion_from is -1; expected 0 \(all layers\) or more\.$"),
        ({}, r"encoder.fusion_from is 8, but 'test_vit' is used with 6 blocks; expected 0 to 6\.$"),
        ({"adapter": {"streams": "audio"}}, r"adapter.name is 'av_pea', but the encoder 'mbt' has no place for it"),
        ({"adapter": {"name": "lora"}}, r"adapter.name is 'lora', but the encoder 'mbt' has no place for it"),
        ({"audio": {"features": "vggish", "mel_bins": 64}}, r"reads the features 'kaldi'; set audio.features to kal"),
        ({"backbone": {"name": "test_resnet"}}, r"'test_resnet' is a CNN, but the encoder 'mbt' works on a transf"),
        (
            {"encoder": {"name": "dual_stream", "fusion_from": 2}},
            r"fusion_from is an option of the encoder 'mbt', but encoder.name is 'dual_stream'; leave it out\.$",
        ),
        (
            {"encoder": {"name": "dual_stream"}, "backbone": {"name": "test_resnet"}},
            r"'test_resnet' is a CNN, but the encoder 'dual_stream' works on",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_sentence(options: dict[str, dict[str, object]], message: str) -> None:
    values = {"encoder": {"name": "mbt"}} | TINY | {key: TINY.get(key, {}) | value for key, value in options.items()}
    values["encoder"] = {"name": "mbt"} | values["encoder"]
    with pytest.raises(ExperimentError, match=message) as caught:
        build(Experiment.from_dict(values), event_labels())
    assert "\n" not in str(caught.value)


def test_rotary_positions_are_refused() -> None:
    eva = timm.create_model("eva02_tiny_patch14_224", num_classes=0, depth=1, dynamic_img_size=True)
    with pytest.raises(ExperimentError, match=r"'eva' has rotary positions, in which bottleneck tokens have no place"):
        MBT(Backbone(eva, "eva"), fusion_from=0)


def test_the_defaults_are_the_papers() -> None:
    options = section("encoder", "mbt")
    assert (options.bottleneck_tokens, options.fusion_from) == (4, 8)
