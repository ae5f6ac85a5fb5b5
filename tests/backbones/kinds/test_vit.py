"""One contract over every timm ViT family: our loop over the branches is timm's own forward pass."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer
from torch import Tensor, nn

from avpea.backbones import Backbone
from avpea.errors import ExperimentError

SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 0}


def family(name: str, **options: Any) -> Callable[[], Any]:
    return lambda: timm.create_model(name, pretrained=False, dynamic_img_size=True, **{**SMALL, **options})


FAMILIES: dict[str, Callable[[], Any]] = {
    "vit": family("vit_base_patch16_224.augreg_in21k", img_size=64),
    "vit-fixed-size": lambda: VisionTransformer(img_size=64, **SMALL),
    "clip": family("vit_base_patch16_clip_224.openai", img_size=64),
    "dinov2": family("vit_small_patch14_dinov2.lvd142m", img_size=56),
    "dinov2-registers": family("vit_small_patch14_reg4_dinov2.lvd142m", img_size=56),
    "siglip": family("vit_base_patch16_siglip_224.webli", img_size=64),
    "dinov3": family("vit_small_patch16_dinov3.lvd1689m", img_size=64),
    "eva02": family("eva02_tiny_patch14_224.mim_in22k", img_size=56, mlp_ratio=2),
    "eva-mixed-rope": family("vit_small_patch16_rope_mixed_224.naver_in1k", img_size=64),
}
PREFIX = {"siglip": 0, "dinov2-registers": 5, "dinov3": 5}


def build(name: str) -> tuple[Any, Backbone]:
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    # What timm initialises to a neutral value must matter, or a forgotten LayerScale would go unseen.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, Backbone(model, name)


def run(backbone: Backbone, pixels: Tensor) -> Tensor:
    x = backbone.embed(pixels)
    for block in backbone.blocks_for(*pixels.shape[-2:]):
        x = x + block.attend(x)
        x = x + block.feed(x)
    return backbone.norm(x)


@pytest.fixture(params=list(FAMILIES))
def pair(request: pytest.FixtureRequest) -> tuple[Any, Backbone]:
    return build(request.param)


def test_the_loop_is_timms_forward_pass_bit_for_bit(pair: tuple[Any, Backbone]) -> None:
    model, backbone = pair
    pixels = torch.randn(2, 3, backbone.image_size, backbone.image_size)
    assert torch.equal(run(backbone, pixels), model.forward_features(pixels))
    x = backbone.embed(pixels)
    for block in backbone.blocks:
        x = x + block.attend(x)
        x = x + block.feed(x)
    assert torch.equal(backbone.norm(x), model.forward_features(pixels))


def test_another_size_is_timms_dynamic_size(pair: tuple[Any, Backbone]) -> None:
    model, backbone = pair
    if not model.dynamic_img_size:
        pytest.skip("timm itself takes only the native size here")
    pixels = torch.randn(2, 3, 3 * backbone.patch_size, 5 * backbone.patch_size)
    ours = run(backbone, pixels)
    assert torch.equal(ours, model.forward_features(pixels))
    assert torch.equal(ours, run(backbone, pixels))  # from what was kept of the first call


def test_the_contract_describes_the_family(pair: tuple[Any, Backbone]) -> None:
    model, backbone = pair
    assert backbone.has_cls == (backbone.name != "siglip")
    assert backbone.num_prefix_tokens == PREFIX.get(backbone.name, 1)
    assert (backbone.dim, backbone.depth, len(backbone.blocks)) == (32, 3, 3)
    tokens = backbone.embed(torch.zeros(1, 3, backbone.image_size, backbone.image_size))
    assert tokens.shape == (1, backbone.num_prefix_tokens + 16, 32)
    if hasattr(model, "pretrained_cfg"):
        assert (backbone.mean, backbone.std) == (model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
    assert all(len(values) == 3 for values in (backbone.mean, backbone.std))


def test_sizes_that_patches_do_not_divide_are_cropped(pair: tuple[Any, Backbone]) -> None:
    _, backbone = pair
    side = backbone.patch_size
    pixels = torch.randn(1, 3, 2 * side + 5, 3 * side + side - 1)
    assert backbone.grid(*pixels.shape[-2:]) == (2, 3)
    assert torch.equal(run(backbone, pixels), run(backbone, pixels[..., : 2 * side, : 3 * side]))


def test_frozen_and_in_evaluation_mode_but_gradients_pass(pair: tuple[Any, Backbone]) -> None:
    _, backbone = pair
    nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())
    x = backbone.embed(torch.randn(1, 3, backbone.image_size, backbone.image_size)).requires_grad_()
    start = x
    for block in backbone.blocks:
        x = x + block.attend(x)
        x = x + block.feed(x)
    backbone.norm(x).square().sum().backward()
    assert start.grad is not None
    assert start.grad.abs().min() > 0
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_bfloat16_runs_throughout_and_stays_near(pair: tuple[Any, Backbone]) -> None:
    _, backbone = pair
    pixels = torch.randn(2, 3, backbone.image_size, backbone.image_size)
    wide, print_before = run(backbone, pixels), backbone.fingerprint()
    backbone.to(torch.bfloat16)
    x = backbone.embed(pixels)
    assert x.dtype == torch.bfloat16
    for block in backbone.blocks:
        assert block.attend(x).dtype == block.feed(x).dtype == torch.bfloat16
    narrow = run(backbone, pixels)
    assert narrow.dtype == torch.bfloat16
    assert F.cosine_similarity(wide, narrow.float(), dim=-1).min() > 0.99
    assert backbone.fingerprint() == print_before


def test_gradients_pass_after_inference_mode_filled_what_is_kept(pair: tuple[Any, Backbone]) -> None:
    _, backbone = pair
    pixels = torch.randn(1, 3, 2 * backbone.patch_size, 3 * backbone.patch_size)
    with torch.inference_mode():
        run(backbone, pixels)
    x = backbone.embed(pixels).requires_grad_()
    (block, *_) = backbone.blocks_for(*pixels.shape[-2:])
    block.attend(x).sum().backward()
    assert x.grad is not None


def test_the_same_layers_are_the_same_objects(pair: tuple[Any, Backbone]) -> None:
    # The encoder runs both streams in one call where their layers are the same.
    _, backbone = pair
    side = backbone.patch_size
    same, again = backbone.blocks_for(2 * side, 2 * side), backbone.blocks_for(2 * side + 1, 2 * side)
    assert all(a.attend == b.attend and a.feed == b.feed for a, b in zip(same, again, strict=True))
    other = backbone.blocks_for(2 * side, 3 * side)
    assert (same[0].attend == other[0].attend) == (backbone.rope is None)


def fused(backbone: Backbone) -> list[bool]:
    layers: Any = backbone.layers
    return [layer.attn.fused_attn for layer in layers]


def test_attention_is_fused_except_where_that_is_slower(pair: tuple[Any, Backbone]) -> None:
    _, backbone = pair
    assert all(fused(backbone))
    nn.Sequential(backbone).to(torch.bfloat16)  # through a parent, as a whole model is cast
    assert not any(fused(backbone))
    backbone.float()
    assert all(fused(backbone))


def test_depth_keeps_the_first_blocks_only(pair: tuple[Any, Backbone]) -> None:
    model, whole = pair
    cut = Backbone(model, whole.name, depth=2)
    assert (cut.depth, len(cut.blocks)) == (2, 2)
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters())
    assert cut.fingerprint() != whole.fingerprint()
    with pytest.raises(ExperimentError, match=r"backbone\.depth is 4.* has 3 blocks"):
        Backbone(model, whole.name, depth=4)
    pixels = torch.randn(1, 3, whole.image_size, whole.image_size)
    shorter = copy.deepcopy(model)
    shorter.blocks = shorter.blocks[:2]
    assert torch.equal(run(cut, pixels), shorter.forward_features(pixels))


def test_classifier_and_pooling_are_left_behind() -> None:
    model = timm.create_model("vit_base_patch16_siglip_224.webli", img_size=64, **{**SMALL, "num_classes": 7})
    names = Backbone(model, "siglip").state_dict().keys()
    assert not any(name.startswith(("head", "attn_pool", "fc_norm")) for name in names)
    assert any(name.startswith("attn_pool") for name in model.state_dict())


def test_a_copy_stands_on_its_own() -> None:
    _, backbone = build("vit")
    pixels = torch.randn(1, 3, 64, 64)
    before = run(backbone, pixels)
    other = copy.deepcopy(backbone)
    first: Any = other.layers[0]
    with torch.no_grad():
        first.attn.proj.weight.zero_()
    assert torch.equal(run(backbone, pixels), before)
    assert not torch.equal(run(other, pixels), before)


def test_lavish_positions_interpolate_the_whole_sequence() -> None:
    backbone = Backbone(VisionTransformer(**{**SMALL, "img_size": 224}), "vit")
    assert backbone.pos_embed.shape == (1, 197, 32)
    sound = torch.randn(2, 3, 102, 128)
    tokens = backbone.embed(sound, "sequence")
    assert tokens.shape == (2, 49, 32)
    # Half-pixel centres, by hand: output i looks at (i + 1/2) 197/49 - 1/2 of the input.
    at = (torch.arange(49) + 0.5) * 197 / 49 - 0.5
    low = at.floor().long()
    table = backbone.pos_embed[0]
    by_hand = table[low] + (at - low)[:, None] * (table[low + 1] - table[low])
    patches = F.conv2d(sound, backbone.patch_embed.proj.weight, backbone.patch_embed.proj.bias, stride=16)
    content = torch.cat([backbone.cls_token.expand(2, 1, 32), patches.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(tokens, content + by_hand, atol=1e-5, rtol=0)
    assert not torch.allclose(tokens, backbone.embed(sound, "grid"), atol=1e-3)
    frames = torch.randn(1, 3, 224, 224)
    assert torch.equal(backbone.embed(frames, "sequence"), backbone.embed(frames))


@pytest.mark.parametrize("name", ["siglip", "dinov3", "dinov2-registers", "eva02"])
def test_lavish_positions_need_one_sequence(name: str) -> None:
    _, backbone = build(name)
    with pytest.raises(ExperimentError, match=r"encoder\.positions is 'sequence'.*use 'grid'"):
        backbone.embed(torch.zeros(1, 3, 64, 64), "sequence")


def test_lent_positions_are_never_those_that_were_kept() -> None:
    backbone = Backbone(timm.create_model("test_vit", num_classes=0), "test_vit")
    pixels = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        before = backbone.embed(pixels)
        for wanted in (True, False):
            copied = nn.Parameter(backbone.pos_embed + 1, requires_grad=wanted)
            lent = torch.func.functional_call(_Embed(backbone), {"backbone.pos_embed": copied}, (pixels,))
            assert (lent - before - 1).abs().max() < 1e-4
            assert torch.equal(backbone.embed(pixels), before)
        backbone.double()
        assert backbone.embed(pixels).dtype == torch.float64
        assert len([key for key in backbone._kept if "grid" in key]) == 2  # each type has its own, kept again


class _Embed(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> Tensor:
        return self.backbone.embed(pixels)


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    _, backbone = build("vit")
    with pytest.raises(ExperimentError, match="15x64 pixels is smaller than a patch"):
        backbone.embed(torch.zeros(1, 3, 15, 64))


def test_fixed_rotary_positions_say_how_to_mend_it() -> None:
    model = Eva(img_size=56, patch_size=14, use_rot_pos_emb=True, dynamic_img_size=False, **SMALL)
    backbone = Backbone(model, "eva")
    backbone.blocks_for(56, 56)
    with pytest.raises(ExperimentError, match="dynamic_img_size=True"):
        backbone.blocks_for(56, 70)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            lambda: VisionTransformer(block_fn=ParallelScalingBlock, **SMALL),
            "blocks of class ParallelScalingBlock",
        ),
        (lambda: VisionTransformer(block_fn=ResPostBlock, **SMALL), "blocks of class ResPostBlock"),
        (
            lambda: Eva(img_size=56, patch_size=14, use_post_norm=True, **SMALL),
            "blocks of class EvaBlockPostNorm",
        ),
        (lambda: timm.create_model("deit_tiny_distilled_patch16_224"), "VisionTransformerDistilled, which"),
        (lambda: timm.create_model("resnet18"), "is a ResNet"),
    ],
)
def test_other_models_are_refused_in_a_sentence(model: Callable[[], nn.Module], sentence: str) -> None:
    with pytest.raises(ExperimentError, match=f"backbone.name 'mine' .*{sentence}.*; expected a timm"):
        Backbone(model(), "mine")


def test_fingerprint_sees_one_changed_weight() -> None:
    (model, first), (_, twin) = build("vit"), build("vit")
    assert first.fingerprint() == twin.fingerprint()
    assert len(first.fingerprint()) == 64
    with torch.no_grad():
        model.blocks[2].mlp.fc2.bias[0] += 1e-3
    assert Backbone(model, "vit").fingerprint() != first.fingerprint()
