"""LAVISH against a plain transcription of its public code's layers, sharing no code with the package."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avpea.adapters.lavish import LAVISH
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.errors import ExperimentError
from tests.adapters.test_av_pea import layer_norm, plain_batch_norm, randomised
from tests.encoders.test_dual_stream import images, plain_ffn, plain_msa, small_backbone
from tests.encoders.test_dual_stream import layer_norm as norm_of_tokens
from tests.tiny import section


def softmax(row: list[Tensor]) -> list[Tensor]:
    highest = max(float(value) for value in row)
    powers = [(value - highest).exp() for value in row]
    return [power / sum(powers) for power in powers]


def dot(a: Tensor, b: Tensor) -> Tensor:
    total: Any = sum(a[i] * b[i] for i in range(len(a)))
    return total


def grouped(row: Tensor, weight: Tensor, groups: int) -> Tensor:
    """A 1x1 convolution in groups: each group of outputs reads its own part of the inputs."""
    out, width = weight.shape
    return torch.stack([dot(weight[o], row[(g := o * groups // out) * width : (g + 1) * width]) for o in range(out)])


def plain_lavish(adapter: nn.Module | None, x: Tensor, other: Tensor) -> Tensor:
    """The public code's steps, token by token; `adapter` only lends its weights and its mode."""
    assert isinstance(adapter, LAVISH)
    weights, groups = dict(adapter.state_dict()), adapter.groups
    batch, tokens, dim = x.shape
    rows = []
    for b in range(batch):
        latents = []
        for latent in weights["latents"]:  # compress: each latent gathers the other stream
            theta = softmax([dot(latent, token) for token in other[b]])
            latents.append(latent + sum(t * token for t, token in zip(theta, other[b], strict=True)))
        for token in x[b]:  # fuse: each token asks the latents
            theta = softmax([dot(token, latent) for latent in latents])
            heard = sum(t * latent for t, latent in zip(theta, latents, strict=True))
            mixed = token + weights["cross_gate"] * heard
            normed = layer_norm(mixed, weights["norm_before.weight"], weights["norm_before.bias"])
            rows.append(grouped(normed, weights["down.weight"], groups))
    rows = plain_batch_norm(rows, "batch_norm_down", weights, adapter.training)
    rows = [torch.stack([v if v > 0 else v * 0 for v in row]) for row in rows]
    rows = [grouped(row, weights["up.weight"], groups) for row in rows]
    rows = plain_batch_norm(rows, "batch_norm_up", weights, adapter.training)
    gate = weights["output_gate"]
    rows = [gate * layer_norm(row, weights["norm_after.weight"], weights["norm_after.bias"]) for row in rows]
    return torch.stack(rows).view(batch, tokens, dim)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("latents", "groups"), [(2, 2), (3, 1), (16, 2)])
def test_equals_the_plain_transcription(training: bool, latents: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 5, 16, generator=generator, dtype=torch.float64)
    other = torch.randn(3, 7, 16, generator=generator, dtype=torch.float64)
    adapter = randomised(LAVISH(16, reduction=4, latents=latents, groups=groups).double()).train(training)
    assert (adapter(x, other) - plain_lavish(adapter, x, other)).abs().max() < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("sound_size", [(32, 32), (48, 32)])
def test_two_positions_in_each_block_for_both_audio_layouts(sound_size: tuple[int, int]) -> None:
    """Position 1 reads the block's inputs, position 2 what the attention left; both before either is updated."""
    model = DualStreamEncoder(small_backbone(), section("adapter", "lavish", reduction=4)).double().eval()
    randomised(model.beside)
    frames, sounds = images(), images(4, *sound_size)
    v, a = model.backbone.embed(frames), model.backbone.embed(sounds)
    for block, beside in zip(model.backbone.layers, model.in_blocks(), strict=True):
        v, a = (
            v + plain_msa(block, v) + plain_lavish(beside.attn.visual, v, a),
            a + plain_msa(block, a) + plain_lavish(beside.attn.audio, a, v),
        )
        v, a = (
            v + plain_ffn(block, v) + plain_lavish(beside.mlp.visual, v, a),
            a + plain_ffn(block, a) + plain_lavish(beside.mlp.audio, a, v),
        )
    for answer, plain in zip(model(frames, sounds), (v, a), strict=True):
        assert (answer - norm_of_tokens(plain, model.backbone.final_norm)).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("dim", "blocks", "latents", "expected"),
    [
        (768, 12, 2, 3_843_168),
        (1024, 24, 2, 13_394_112),
        (768, 12, 16, 4_359_264),
        (1024, 24, 16, 14_770_368),
    ],
)
def test_parameter_count_is_the_closed_form(dim: int, blocks: int, latents: int, expected: int) -> None:
    with torch.device("meta"):
        each = sum(p.numel() for p in LAVISH(dim, latents=latents).parameters())
    d, groups = dim // 8, 2
    assert each == 2 + latents * dim + 2 * dim * d // groups + (2 * d + 2 * dim) + 4 * dim
    assert 4 * blocks * each == expected


def test_latents_start_as_the_papers_code_starts_them() -> None:
    torch.manual_seed(0)
    uniform = LAVISH(64, latents=200).latents
    assert uniform is not None
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    zeros = LAVISH(64, latents=16, latent_init="zeros").latents
    assert zeros is not None
    assert not zeros.any()


def test_groups_must_divide_the_bottleneck() -> None:
    with pytest.raises(ExperimentError, match=r"groups is 3.*width 4"):
        LAVISH(16, reduction=4, groups=3)


def test_variants_of_the_public_code_equal_their_plain_transcription() -> None:
    """Without BatchNorm, as in the script for AVQA; and with the gate of what the latents gather."""
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(3, tokens, 16, generator=generator, dtype=torch.float64) for tokens in (5, 7))
    adapter = randomised(LAVISH(16, reduction=4, latents=3, batch_norm=False, latent_gate=True).double())
    weights = dict(adapter.state_dict())
    assert not any("batch_norm" in name for name in weights)
    latents = weights["latents"]
    latents = latents + weights["latent_gate"] * (latents @ y.transpose(1, 2)).softmax(dim=-1) @ y
    mixed = x + weights["cross_gate"] * (x @ latents.transpose(1, 2)).softmax(dim=-1) @ latents
    expected = []
    for row in mixed.flatten(0, 1):
        normed = layer_norm(row, weights["norm_before.weight"], weights["norm_before.bias"])
        narrow = grouped(normed, weights["down.weight"], 2).clamp_min(0)
        wide = grouped(narrow, weights["up.weight"], 2)
        expected.append(layer_norm(wide, weights["norm_after.weight"], weights["norm_after.bias"]))
    plain = weights["output_gate"] * torch.stack(expected).view(3, 5, 16)
    assert (adapter(x, y) - plain).abs().max() < 1e-12
