"""Bottleneck, LoRA and the tunings against plain formulas and the library PEFT."""

import math
from typing import Any

import peft
import pytest
import timm
import torch
from torch import Tensor, nn

from avpea.adapters.bitfit import BitFit
from avpea.adapters.bottleneck import Bottleneck
from avpea.adapters.full import Full
from avpea.adapters.layer_norm import LayerNormTuning
from avpea.adapters.lora import LoRA
from avpea.backbones import Backbone, shape_only
from avpea.encoders._parts import block_adapters
from avpea.encoders.dual_stream import DualStreamEncoder
from tests.adapters.test_av_pea import randomised
from tests.encoders.test_dual_stream import images, plain_ffn, plain_msa, small_backbone
from tests.encoders.test_dual_stream import layer_norm as norm_of_tokens
from tests.tiny import section


def plain_bottleneck(adapter: nn.Module | None, s: Tensor) -> Tensor:
    assert isinstance(adapter, Bottleneck)
    hidden = s @ adapter.down.weight.T + adapter.down.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return hidden @ adapter.up.weight.T + adapter.up.bias


@torch.no_grad()
def test_bottlenecks_follow_the_frozen_branches() -> None:
    model = DualStreamEncoder(small_backbone(), section("adapter", "bottleneck", reduction=4)).double().eval()
    randomised(model.beside)
    pixels = images()
    x = model.backbone.embed(pixels)
    for block, beside in zip(model.backbone.layers, model.in_blocks(), strict=True):
        branch = plain_msa(block, x)
        x = x + branch + plain_bottleneck(beside.attn.visual, branch)
        branch = plain_ffn(block, x)
        x = x + branch + plain_bottleneck(beside.mlp.visual, branch)
    answer = model(pixels, images(4)).visual
    assert (answer - norm_of_tokens(x, model.backbone.final_norm)).abs().max() < 1e-12


def test_bottleneck_count() -> None:
    assert sum(p.numel() for p in Bottleneck(768, reduction=8).parameters()) == 2 * 768 * 96 + 96 + 768


class Attention(nn.Module):
    """Frozen layers with the names that PEFT is told to adapt."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(24, 72)
        self.proj = nn.Linear(24, 24)


@pytest.mark.parametrize(("rank", "alpha"), [(8, 8.0), (4, 16.0)])
def test_lora_computes_and_starts_as_peft_does(rank: int, alpha: float) -> None:
    torch.manual_seed(0)
    theirs: Any = peft.get_peft_model(
        Attention(), peft.LoraConfig(r=rank, lora_alpha=int(alpha), target_modules=["qkv", "proj"])
    ).base_model.model
    for layer in (theirs.qkv, theirs.proj):
        frozen = layer.base_layer
        ours = LoRA(frozen.in_features, frozen.out_features, rank=rank, alpha=alpha)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert (ours.down.shape, ours.up.shape) == (a.shape, b.shape)
        assert not ours.up.any()
        assert not b.any()
        bound = 1 / math.sqrt(frozen.in_features)  # of Kaiming's uniform distribution with a = sqrt(5)
        for drawn in (ours.down, a):
            assert 0.9 * bound < drawn.abs().max() <= bound
            assert drawn.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
        nn.init.normal_(b)
        ours.load_state_dict({"down": a, "up": b})
        x = torch.randn(3, 5, frozen.in_features)
        torch.testing.assert_close(frozen(x) + ours(x), layer(x))


def test_lora_in_the_encoder_is_the_transformer_with_merged_weights() -> None:
    """Each stream runs as if its own products were added to the frozen matrices."""
    model = DualStreamEncoder(small_backbone(), section("adapter", "lora", rank=3, alpha=6)).double().eval()
    randomised(model.beside)
    frames, sounds = images(), images(4, 48, 32)
    tokens = model(frames, sounds)
    for stream, pixels in (("visual", frames), ("audio", sounds)):
        merged = small_backbone()
        with torch.no_grad():
            for layer, own in zip(merged.layers, model.in_blocks(), strict=True):
                for name, adapter in getattr(own.inside, stream).items():
                    getattr(layer.attn, name).weight += 2 * adapter.up @ adapter.down
        x = merged.embed(pixels)
        for block in merged.blocks_for(*pixels.shape[-2:]):
            x = x + block.attend(x)
            x = x + block.feed(x)
        torch.testing.assert_close(getattr(tokens, stream), merged.norm(x), rtol=0, atol=1e-12)


def count(name: str, **options: Any) -> int:
    backbone = shape_only(section("backbone", "vit_base_patch16_224.augreg_in21k"))
    with torch.device("meta"):
        return sum(p.numel() for p in block_adapters(section("adapter", name, **options), backbone).parameters())


def test_counts_in_vit_b() -> None:
    dim, blocks = 768, 12
    assert count("lora", rank=8) == 2 * blocks * 8 * ((dim + 3 * dim) + (dim + dim))
    assert count("bottleneck") == 4 * blocks * (2 * dim * 96 + 96 + dim)
    assert count("av_pea", cross_modal=False) == 3_654_192 - 2 * blocks
    assert count("lavish", cross_modal=False) == 3_843_168 - 4 * blocks * (1 + 2 * dim)


def test_what_the_tunings_train_in_vit_b() -> None:
    backbone = shape_only(section("backbone", "vit_base_patch16_224.augreg_in21k"))
    frozen = dict(backbone.named_parameters())
    sizes = {kind: sum(w.numel() for w in kind(frozen).parameters()) for kind in (Full, BitFit, LayerNormTuning)}
    dim, blocks = 768, 12
    biases = blocks * (dim + 3 * dim + dim + dim + 4 * dim + dim) + dim + dim
    assert sizes == {Full: 85_798_656, BitFit: biases, LayerNormTuning: (2 * blocks + 1) * 2 * dim}


@pytest.mark.parametrize("name", ["full", "bitfit", "layer_norm"])
def test_tuned_weights_are_the_transformers_own(name: str) -> None:
    """Gradients equal those of a plain copy of the model whose weights are simply let go."""
    model = DualStreamEncoder(small_backbone(), section("adapter", name))
    frames, sounds = images(), images(4, 48, 32)
    sum((t**2).sum() for t in model(frames, sounds)).backward()
    plain: Backbone = small_backbone().requires_grad_(True)
    for pixels in (frames, sounds):
        x = plain.embed(pixels)
        for block in plain.blocks_for(*pixels.shape[-2:]):
            x = x + block.attend(x)
            x = x + block.feed(x)
        (plain.norm(x) ** 2).sum().backward()
    gradients = dict(plain.named_parameters())
    assert model.tuning is not None
    for key, weight in model.tuning.weights.items():
        torch.testing.assert_close(weight.grad, gradients[key.replace("__", ".")].grad, rtol=1e-9, atol=1e-10)


def test_layer_norm_tuning_finds_every_norm_of_a_clip_tower() -> None:
    clip = Backbone(timm.create_model("vit_tiny_patch16_224", pre_norm=True, depth=1, num_classes=0), "clip")
    chosen = {name for name, _ in clip.named_parameters() if LayerNormTuning.tunes(name)}
    assert {name.rpartition(".")[0] for name in chosen} == {
        "norm_pre",
        "layers.0.norm1",
        "layers.0.norm2",
        "final_norm",
    }
