"""The dual-stream encoder against the equations with plain tensors, and what frozen means."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from avpea.adapters import Adapter
from avpea.backbones import Backbone
from avpea.encoders._parts import block_adapters, tuning
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.errors import ExperimentError
from avpea.experiment import parse_section
from avpea.options import Word
from tests.adapters.test_av_pea import plain_adapter, randomised
from tests.tiny import section


def small_backbone(depth: int = 0) -> Backbone:
    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, img_size=32, embed_dim=16, depth=3, num_heads=2, num_classes=0,
        dynamic_img_size=True,
    )  # fmt: skip
    randomised(vit)
    return Backbone(vit.double(), name="small", depth=depth)


def images(seed: int = 3, height: int = 32, width: int = 32, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)


def encoder(streams: str = "both", **options: Any) -> DualStreamEncoder:
    made = DualStreamEncoder(small_backbone(), section("adapter", streams=streams, reduction=4, **options)).double()
    for module in made.modules():
        if isinstance(module, Adapter):
            randomised(module)
    return made


def softmax(row: Tensor) -> Tensor:
    powers = (row - row.max()).exp()
    return powers / powers.sum()


def layer_norm(x: Tensor, norm: Any) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def plain_msa(block: Any, x: Tensor) -> Tensor:
    """Eq. (1): multi-head self-attention of the normalised tokens, head by head and query by query."""
    attn = block.attn
    heads, width = attn.num_heads, attn.head_dim
    out = torch.zeros_like(x)
    normed = layer_norm(x, block.norm1)
    for image in range(len(x)):
        qkv = normed[image] @ attn.qkv.weight.T + attn.qkv.bias
        q, k, v = (qkv[:, i * heads * width : (i + 1) * heads * width] for i in range(3))
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for token in range(x.shape[1]):
                weights = softmax((k[:, part] @ q[token, part]) / width**0.5)
                out[image, token, part] = weights @ v[:, part]
    return out @ attn.proj.weight.T + attn.proj.bias


def plain_ffn(block: Any, x: Tensor) -> Tensor:
    """Eq. (2): the feed-forward branch with the exact GELU."""
    mlp = block.mlp
    hidden = layer_norm(x, block.norm2) @ mlp.fc1.weight.T + mlp.fc1.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return hidden @ mlp.fc2.weight.T + mlp.fc2.bias


@torch.no_grad()
def plain_encoder(model: DualStreamEncoder, frames: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. (3), (4) written out, streams as plain variables."""
    backbone = model.backbone
    v, a = backbone.embed(frames), backbone.embed(sounds)
    for block, adapters in zip(backbone.layers, model.in_blocks(), strict=True):
        b_v = plain_adapter(adapters.attn.visual, v, a) if adapters.attn.visual is not None else 0
        b_a = plain_adapter(adapters.attn.audio, a, v) if adapters.attn.audio is not None else 0
        y_v = v + plain_msa(block, v) + b_v
        y_a = a + plain_msa(block, a) + b_a
        v, a = y_v + plain_ffn(block, y_v), y_a + plain_ffn(block, y_a)
    return layer_norm(v, backbone.final_norm), layer_norm(a, backbone.final_norm)


@pytest.mark.parametrize("streams", ["both", "audio", "visual", "none"])
@pytest.mark.parametrize("sound_size", [(32, 32), (48, 32)])
def test_equals_the_equations_written_out(streams: str, sound_size: tuple[int, int]) -> None:
    model = encoder(streams).eval()
    frames, sounds = images(), images(4, *sound_size)
    expected = plain_encoder(model, frames, sounds)
    for answer, plain in zip(model(frames, sounds), expected, strict=True):
        assert (answer - plain).abs().max() < 1e-12


def test_zero_gates_leave_the_backbone_bit_equal() -> None:
    model = DualStreamEncoder(small_backbone(), section("adapter", reduction=4)).double()
    frames, sounds = images(), images(4)
    for training in (True, False):
        tokens = model.train(training)(frames, sounds)
        for answer, pixels in zip(tokens, (frames, sounds), strict=True):
            x = model.backbone.embed(pixels)
            for block in model.backbone.blocks:
                x = x + block.attend(x)
                x = x + block.feed(x)
            assert torch.equal(answer, model.backbone.norm(x))


def test_frozen_stays_frozen_and_every_adapter_learns() -> None:
    model = encoder().train()
    assert not any(module.training for module in model.backbone.modules())
    tokens = model(images(), images(4))
    (tokens.visual.square().sum() + tokens.audio.pow(3).sum()).backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    for module in model.modules():
        if isinstance(module, Adapter):
            assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_each_stream_hears_the_other_only_through_its_adapter() -> None:
    frames, sounds, louder = images(), images(4), images(5)
    for streams, sees_sound in (("both", True), ("visual", True), ("audio", False), ("none", False)):
        model = encoder(streams).eval()
        changed = not torch.equal(model(frames, sounds).visual, model(frames, louder).visual)
        assert changed is sees_sound


def test_adapters_only_in_the_named_blocks() -> None:
    beside = block_adapters(section("adapter", blocks=(0, 2), reduction=4), small_backbone())
    assert [sum(isinstance(m, Adapter) for m in block.modules()) for block in beside] == [2, 0, 2]
    with pytest.raises(ExperimentError, match=r"is \[1, 3\].*blocks 0 to 2"):
        block_adapters(section("adapter", blocks=(1, 3), reduction=4), small_backbone())


@pytest.mark.parametrize("written", ["last 2", ["last 2"], "[-2, -1]", (1, 2), "1,2", [-2, 2]])
def test_the_last_blocks(written: Any) -> None:
    word = Word(written) if isinstance(written, str) else written
    beside = block_adapters(parse_section("adapter", name="av_pea", blocks=word, reduction=4), small_backbone())
    assert [sum(isinstance(m, Adapter) for m in block.modules()) for block in beside] == [0, 2, 2]
    both = parse_section("adapter", name="av_pea", blocks=(1, 2), exchange_blocks=Word("last 1"), reduction=4)
    beside = block_adapters(both, small_backbone())
    assert [[m.cross_modal for m in block.modules() if isinstance(m, Adapter)] for block in beside] == [
        [], [False] * 2, [True] * 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("last 4", "adapter.blocks is 'last 4', but the backbone has blocks 0 to 2"),
        ("last", r"adapter.blocks is \['last'\]; expected numbers of blocks, or the last ones as in 'last 4'"),
        ("last 0", r"adapter.blocks is \['last 0'\]; expected numbers of blocks"),
        ("last -1", r"adapter.blocks is \['last -1'\]; expected numbers of blocks"),
        ("[1, -4]", r"adapter.blocks is \[1, -4\], but the backbone has blocks 0 to 2"),
    ],
)
def test_blocks_that_there_are_not(written: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        block_adapters(parse_section("adapter", name="av_pea", blocks=Word(written), reduction=4), small_backbone())


@pytest.mark.parametrize("name", ["av_pea", "lavish"])
def test_only_the_named_blocks_exchange(name: str) -> None:
    options = section("adapter", name, exchange_blocks=(1,), reduction=4)
    beside = block_adapters(options, small_backbone())
    each = [[m for m in block.modules() if isinstance(m, Adapter)] for block in beside]
    assert [[adapter.cross_modal for adapter in some] for some in each] == [
        [index == 1] * len(some) for index, some in enumerate(each)
    ]
    for index, some in enumerate(each):  # elsewhere it is the bottleneck on its own stream
        alone = block_adapters(section("adapter", name, cross_modal=False, reduction=4), small_backbone())[index]
        assert sum(p.numel() for m in some for p in m.parameters()) == sum(p.numel() for p in alone.parameters()) + (
            sum(p.numel() for m in some for key, p in m.named_parameters() if key in ("cross_gate", "latents"))
        )
    with pytest.raises(ExperimentError, match=r"adapter.exchange_blocks is \[1, 3\].*blocks 0 to 2"):
        block_adapters(section("adapter", name, exchange_blocks=(1, 3), reduction=4), small_backbone())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (-2, -1), "exchange_blocks": (-3,)}, r"exchange_blocks names \[-3\], .*gives .* \[-2, -1\] only"),
        (
            {"blocks": (0, 1), "exchange_blocks": (1, 2)},
            r"exchange_blocks names \[2\], .*blocks gives .* \[0, 1\] only",
        ),
        (
            {"cross_modal": False, "exchange_blocks": (1,)},
            r"exchange_blocks is \[1\], but adapter.cross_modal is false",
        ),
        ({"cross_modal": False, "cross_gate_init": 1.0}, r"cross_gate_init is 1.0, but adapter.cross_modal is false"),
        (
            {"cross_modal": False, "queries": "all"},
            r"queries is 'all', but adapter.cross_modal is false, so nothing is",
        ),
        (
            {"cross_modal": False, "normalised_attention": True},
            r"normalised_attention is True, but adapter.cross_modal",
        ),
        ({"queries": "patches"}, r"adapter.queries is 'patches'; expected one of 'cls' or 'all'"),
        ({"cross_gate_init": float("nan")}, r"adapter.cross_gate_init is nan; expected a finite number"),
        (
            {"latents": 4},
            r"adapter.latents is an option of the adapter 'lavish', but adapter.name is 'av_pea'; leave it out\.$",
        ),
        ({"name": "full", "reduction": 4}, r"adapter.reduction is an option of .*, but .* is 'full'; leave"),
        (
            {"name": "full", "streams": "audio"},
            r"streams is 'audio', but 'full' trains weights that both streams share",
        ),
        ({"name": "lavish", "reduction": 4, "groups": 3}, r"groups is 3, which does not divide.* width 4"),
        ({"name": "bottleneck", "reduction": 5}, r"reduction is 5, which does not divide the backbone's width 16"),
        ({"name": "botleneck"}, r"No adapter is called 'botleneck'. Did you mean 'bottleneck'"),
    ],
)
def test_what_an_adapter_cannot_serve_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        DualStreamEncoder(small_backbone(), section("adapter", **options))


def test_lora_is_refused_where_attention_does_not_call_its_layers() -> None:
    eva: Any = timm.create_model(
        "eva02_tiny_patch14_224", pretrained=False, num_classes=0, depth=1, dynamic_img_size=True
    )
    eva.blocks[0].attn = timm.models.eva.EvaAttention(192, num_heads=3, qkv_bias=True, qkv_fused=True, scale_norm=False)
    with pytest.raises(ExperimentError, match=r"'lora' works inside the attention's linear layers"):
        block_adapters(section("adapter", "lora"), Backbone(eva, "eva"))


def test_one_position_table_for_each_lent_set_of_weights() -> None:
    """Positions that train are resampled anew in each step, never kept."""
    model = DualStreamEncoder(small_backbone(), section("adapter", "full"))
    frames, sounds = images(), images(4, 48, 32)
    before = model(frames, sounds).audio
    assert model.tuning is not None
    with torch.no_grad():
        model.tuning.weights["pos_embed"].add_(1.0)
    assert not torch.equal(model(frames, sounds).audio, before)


def test_only_the_named_blocks_are_tuned() -> None:
    made = tuning(section("adapter", "full", blocks=(2,)), small_backbone())
    assert made is not None
    assert {name.partition(".norm")[0][:8] for name in made.by_name()} == {"layers.2"}
