"""Swin V2 through the same contract: timm's own forward pass, and adapters between its branches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor

from avpea.accounting import count
from avpea.adapters import Trained
from avpea.backbones import Swin, build, shape_only
from avpea.checkpoint import load_model
from avpea.encoders._parts import block_adapters
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.errors import ExperimentError, WeightsError
from avpea.experiment import Experiment, load_recipe
from tests.adapters.test_av_pea import plain_adapter, randomised
from tests.adapters.test_lavish import plain_lavish
from tests.tiny import section

NAME = "swinv2_tiny_window8_256.ms_in1k"


def small(dtype: torch.dtype = torch.float32, depth: int = 0) -> tuple[Any, Swin]:
    torch.manual_seed(0)
    model: Any = SwinTransformerV2(
        img_size=32, embed_dim=8, depths=(2, 1, 2), num_heads=(1, 2, 4), window_size=4, strict_img_size=False,
        num_classes=0,
    ).eval()  # fmt: skip
    model.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype), Swin(model, "small", depth)


def run(backbone: Swin, pixels: Tensor) -> Tensor:
    x = backbone.embed(pixels)
    for block in backbone.blocks_for(*pixels.shape[-2:]):
        x = block.merge(x) if block.merge else x
        x = x + block.attend(x)
        x = x + block.feed(x)
    return backbone.norm(x)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (36, 52)])  # the last two pad windows and odd grids
def test_the_loop_is_timms_forward_pass_bit_for_bit(size: tuple[int, int]) -> None:
    model, backbone = small()
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        theirs = model.forward_features(pixels)
        ours = run(backbone, pixels)
    assert torch.equal(ours, theirs.flatten(1, 2))
    assert backbone.grids(*size)[-1] == tuple(theirs.shape[1:3])


def test_pixels_left_over_are_cropped() -> None:
    _, backbone = small()
    pixels = torch.randn(1, 3, 34, 33)
    assert torch.equal(run(backbone, pixels), run(backbone, pixels[..., :32, :32]))


def test_shapes_and_what_it_says_of_itself() -> None:
    _, backbone = small()
    assert backbone.dims == (8, 8, 16, 32, 32)
    assert (backbone.dim, backbone.depth, backbone.num_prefix_tokens, backbone.has_cls) == (32, 5, 0, False)
    assert backbone.grids(32, 32) == ((8, 8), (8, 8), (4, 4), (2, 2), (2, 2))
    assert backbone.blocks_for(32, 32) is backbone.blocks_for(33, 34)
    assert len(backbone.fingerprint()) == 64
    assert not any(p.requires_grad for p in backbone.parameters())


def images(dtype: torch.dtype = torch.float64, seed: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Drawn as float32 even for bfloat16, for which torch 2.6 draws other numbers.
    drawn = torch.float64 if dtype == torch.float64 else torch.float32
    frames, sounds = (torch.randn(2, 3, rows, 32, generator=generator, dtype=drawn).to(dtype) for rows in (32, 24))
    return frames, sounds


@torch.no_grad()
@pytest.mark.parametrize(("name", "plain"), [("av_pea", plain_adapter), ("lavish", plain_lavish)])
def test_adapters_beside_its_branches_equal_plain_loops(name: str, plain: Callable[..., Tensor]) -> None:
    model, backbone = small(torch.float64)
    encoder = DualStreamEncoder(backbone, section("adapter", name, reduction=4)).double().eval()
    randomised(encoder.beside)
    if name == "av_pea":
        plain = plain_pooled
    frames, sounds = images()
    v, a = (model.patch_embed(x) for x in (frames, sounds))
    index = 0
    for stage in model.layers:
        v, a = stage.downsample(v), stage.downsample(a)
        for block in stage.blocks:
            beside = encoder.in_blocks()[index]
            index += 1
            for branch, adapters in ((lambda x, b=block: b.norm1(b._attn(x)), beside.attn), (mlp(block), beside.mlp)):
                x, y = v.flatten(1, 2), a.flatten(1, 2)
                v, a = v + branch(v), a + branch(a)
                if adapters.visual is not None:
                    v = v + plain(adapters.visual, x, y).view_as(v)
                    a = a + plain(adapters.audio, y, x).view_as(a)
    for answer, tokens in zip(encoder(frames, sounds), (v, a), strict=True):
        assert (answer - model.norm(tokens).flatten(1, 2)).abs().max() < 1e-11


def mlp(block: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: block.norm2(block.mlp(x))


def plain_pooled(adapter: Any, x: Tensor, other: Tensor) -> Tensor:
    """AV-PEA with the mean of the tokens as its query; every token receives what it heard."""
    theta = torch.softmax(x.mean(1, keepdim=True) @ other.transpose(1, 2), -1)
    mixed = x + adapter.cross_gate * (theta @ other)
    z = torch.nn.functional.layer_norm(mixed, x.shape[-1:], adapter.norm_before.weight, adapter.norm_before.bias)
    z = adapter.batch_norm_down((z @ adapter.down.weight.T).flatten(0, 1)).relu()
    y = adapter.norm_after(adapter.batch_norm_up(z @ adapter.up.weight.T))
    return adapter.output_gate * y.view_as(x)


@pytest.mark.parametrize("name", ["av_pea", "lavish", "bottleneck", "full", "bitfit", "layer_norm"])
def test_new_adapters_change_nothing_and_all_of_them_learn(name: str) -> None:
    _, backbone = small(torch.float64)
    options = {"reduction": 4} if name in ("av_pea", "lavish", "bottleneck") else {}
    encoder = DualStreamEncoder(backbone, section("adapter", name, **options)).double()
    frames, sounds = images()
    assert torch.equal(encoder(frames, sounds).visual, run(backbone, frames))
    randomised_copy = [p for m in encoder.modules() if isinstance(m, Trained) for p in m.parameters()]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in randomised_copy:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    tokens = encoder.train()(frames, sounds)
    sum((t * torch.randn_like(t)).sum() for t in tokens).backward()
    assert all(p.grad is not None and p.grad.any() for p in randomised_copy)
    assert all(p.grad is None for p in backbone.parameters())
    heard = not torch.equal(encoder.eval()(frames, images(seed=9)[1]).visual, encoder(frames, sounds).visual)
    assert heard is (name in ("av_pea", "lavish"))


def test_bfloat16() -> None:
    _, backbone = small()
    encoder = DualStreamEncoder(backbone, section("adapter", "lavish", reduction=4)).eval()
    exact = encoder(*images(torch.float32))
    backbone.to(torch.bfloat16)
    answer = encoder(*images(torch.bfloat16))
    assert answer.visual.dtype == torch.bfloat16
    assert (answer.visual.float() - exact.visual).norm() < 0.1 * exact.visual.norm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 3}, r"depth is 3, but '.*' has 12 blocks and its last norm serves the last stage only; expected 0"),
        ({"depth": 13}, "depth is 13, but .* has 12 blocks"),
        ({"image_size": 3}, "smaller than a patch"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"name": NAME, "image_size": 64} | options
    with pytest.raises(ExperimentError, match=message):
        shape_only(section("backbone", **values))


def test_other_refusals() -> None:
    backbone = shape_only(section("backbone", NAME, image_size=64))
    with pytest.raises(ExperimentError, match=r"'lora' works inside the attention's linear layers, and 'swinv2"):
        block_adapters(section("adapter", "lora"), backbone)
    with pytest.raises(ExperimentError, match=r"encoder\.positions is 'sequence', but .* has no sequence"):
        small()[1].embed(torch.zeros(1, 3, 32, 32), "sequence")
    backbone_values = {"name": NAME, "weights": "random", "image_size": 64}
    swin = Experiment.from_dict({"task": "avel", "data": {"name": "ave"}, "backbone": backbone_values})
    with pytest.raises(ExperimentError, match="attends within windows, in which bottleneck tokens have no place"):
        count(swin.override({"encoder.name": "mbt"}))
    with pytest.raises(ExperimentError, match="expected a timm VisionTransformer"):
        shape_only(section("backbone", "swin_tiny_patch4_window7_224.ms_in1k"))  # the first Swin


def test_lavish_counts_in_swin_v2_large() -> None:
    """Closed form over the stages; the 8.45 M that were inferred for LAVISH's own model."""
    experiment = load_recipe("paper/avel-lavish-swinv2-l")
    expected = 0
    for dim, blocks in zip((192, 384, 768, 1536), (2, 2, 18, 2), strict=True):
        d = dim // 8
        expected += 4 * blocks * (2 + 2 * dim + 2 * dim * d // 2 + 2 * d + 2 * dim + 4 * dim)
    counts = count(experiment)
    assert counts.adapters == expected
    assert round(counts.adapters / 1e6, 2) == 8.45
    assert round(counts.head / 1e6, 2) == 1.59


@pytest.mark.slow
def test_weights_from_a_file_and_training_end_to_end(tiny_experiment: Callable[..., Any], tmp_path: Path) -> None:
    from avpea.predict import load
    from avpea.train import train

    torch.manual_seed(1)
    file = tmp_path / "swin.pth"
    torch.save(timm.create_model(NAME, num_classes=5).state_dict(), file)  # the classifier is left out
    options = {"backbone.name": NAME, "backbone.depth": 0, "backbone.image_size": 32, "backbone.weights": str(file)}
    experiment = tiny_experiment(**options, **{"train.epochs": 1})
    run_folder = train(experiment, tmp_path / "run", progress=False).run
    model, info = load_model(run_folder)
    assert model.encoder.backbone.fingerprint() == info.fingerprint == build(experiment.backbone).fingerprint()
    predictor = load(run_folder)
    clip = predictor.read(next(Path(experiment.data.root).rglob("g0.mp4")))
    maps = predictor.attention(clip, 1)
    assert maps.sound_looked is not None
    assert maps.sound_looked.shape == (12, 8, 8)  # all blocks on the finest grid
    torch.testing.assert_close(maps.sound_looked.sum(dim=(1, 2)), torch.ones(12))
    with pytest.raises(WeightsError, match=r"does not fit backbone\.name"):
        build(section("backbone", "swinv2_small_window8_256.ms_in1k", weights=str(file), image_size=32))
