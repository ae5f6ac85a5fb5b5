"""Token merging against the algorithm written out with loops (ToMe, Bolya et al., ICLR 2023, Section 3)."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from avpea import backbones, data
from avpea.activations import Activations
from avpea.adapters import Adapter
from avpea.backbones import Backbone
from avpea.data.cache import SampleCache
from avpea.encoders._merging import Merged, merge_tokens
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.errors import ExperimentError
from avpea.experiment import Experiment, parse_section
from avpea.model import build
from tests.adapters.test_av_pea import randomised
from tests.tiny import section

Make = Callable[..., Experiment]
# A group of original tokens, which one token stands for, with that token and its key.
Group = tuple[list[int], Tensor, Tensor]


def plain_merge(groups: list[Group], count: int, spared: int) -> list[Group]:
    """One step for one image. `groups` are in order; the first `spared` ones are left alone."""
    count = min(count, (len(groups) - spared) // 2)
    if count <= 0:
        return groups
    first, second = range(0, len(groups), 2), range(1, len(groups), 2)
    edges = []
    for i in first:
        if i < spared:
            continue
        keys = {j: groups[j][2] for j in second if j >= spared}
        similar = {j: float(groups[i][2] @ key / groups[i][2].norm() / key.norm()) for j, key in keys.items()}
        partner = max(similar, key=lambda j: similar[j])
        edges.append((similar[partner], i, partner))
    edges = sorted(edges, key=lambda edge: -edge[0])[:count]
    gone = {i: j for _, i, j in edges}
    result = []
    for j in [*range(spared), *(i for i in first if i >= spared), *(j for j in second if j >= spared)]:
        if j in gone:
            continue
        members = [groups[j], *(groups[i] for i, into in gone.items() if into == j)]
        places = sorted(place for member in members for place in member[0])
        mean = sum(len(member[0]) * member[1] for member in members) / len(places)
        result.append((places, torch.as_tensor(mean), groups[j][2]))
    return result


@pytest.mark.parametrize("spared", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 3, 99])
@pytest.mark.parametrize("total", [5, 12, 17])
def test_equals_the_algorithm_written_out(spared: int, count: int, total: int) -> None:
    generator = torch.Generator().manual_seed(100 * total + 10 * spared + count)
    tokens = torch.randn(3, total, 4, generator=generator, dtype=torch.float64)
    merged = Merged.none(tokens)
    plain: list[list[Group]] = [[([i], image[i], image[i]) for i in range(total)] for image in tokens]
    for _ in range(3):
        keys = torch.randn(3, tokens.shape[1], 5, generator=generator, dtype=torch.float64)
        plain = [
            plain_merge([(g[0], g[1], key) for g, key in zip(groups, its, strict=True)], count, spared)
            for groups, its in zip(plain, keys, strict=True)
        ]
        tokens, merged = merge_tokens(tokens, keys, merged, count, spared)
        for image, groups in enumerate(plain):
            expected = torch.stack([group[1] for group in groups])
            torch.testing.assert_close(tokens[image], expected, rtol=0, atol=1e-12)
            assert merged.sizes[image].tolist() == [len(group[0]) for group in groups]
            for index, (places, _, _) in enumerate(groups):
                assert [p for p, s in enumerate(merged.sources[image].tolist()) if s == index] == places
        assert merged.sizes.sum(dim=1).tolist() == [total] * 3
        assert merged.sources[:, :spared].tolist() == [list(range(spared))] * 3
    spread = merged.spread(tokens)
    for image, groups in enumerate(plain):
        for places, token, _ in groups:
            torch.testing.assert_close(spread[image, places], token.expand(len(places), -1), rtol=0, atol=1e-12)


def vit(name: str = "vit_tiny_patch16_224", **options: Any) -> Any:
    torch.manual_seed(0)
    made = timm.create_model(
        name, pretrained=False, img_size=64, embed_dim=16, depth=3, num_heads=2, num_classes=0, dynamic_img_size=True,
        **options,
    )  # fmt: skip
    return randomised(made).double().eval()


def plain_vit(model: Any, image: Tensor, count: int, spared: int) -> Tensor:
    """The ViT with merging between attention and feed-forward layer, its attention written out, for one image."""
    x = model.norm_pre(model._pos_embed(model.patch_embed(image[None])))[0]
    groups: list[Group] = [([i], token, token) for i, token in enumerate(x)]
    for block in model.blocks:
        x, sizes = torch.stack([g[1] for g in groups]), torch.tensor([len(g[0]) for g in groups])
        attn, (n, dim) = block.attn, x.shape
        q, k, v = attn.qkv(block.norm1(x)).view(n, 3, attn.num_heads, dim // attn.num_heads).permute(1, 2, 0, 3)
        logits = q @ k.transpose(1, 2) * attn.scale
        weights = logits.exp() * sizes  # a token counts as often as it stands for others
        out = (weights / weights.sum(dim=-1, keepdim=True)) @ v
        x = x + block.ls1(attn.proj(out.transpose(0, 1).reshape(n, dim)))
        keys = k.mean(dim=0)
        groups = plain_merge([(g[0], t, key) for g, t, key in zip(groups, x, keys, strict=True)], count, spared)
        groups = [(g[0], g[1] + block.ls2(block.mlp(block.norm2(g[1]))), g[2]) for g in groups]
    tokens = torch.empty(sum(len(g[0]) for g in groups), x.shape[1], dtype=x.dtype)
    for places, token, _ in groups:
        tokens[places] = model.norm(token)
    return tokens


@pytest.mark.parametrize("registers", [0, 2])
def test_the_encoder_is_the_vit_with_merging(registers: int) -> None:
    model = vit(reg_tokens=registers)
    spared = 1 + registers
    encoder = DualStreamEncoder(
        Backbone(model, name="small"), section("adapter", streams="none"), merge=(3, 2)
    ).double()  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(2, 3, 64, 64, generator=generator, dtype=torch.float64)
    sounds = torch.randn(2, 3, 48, 64, generator=generator, dtype=torch.float64)
    tokens = encoder(frames, sounds)
    for image in range(2):
        expected = plain_vit(model, frames[image], 3, spared)
        torch.testing.assert_close(tokens.visual[image], expected, rtol=0, atol=1e-10)
    for image in range(2):
        embedded = Backbone(vit(reg_tokens=registers), name="small").embed(sounds[image : image + 1])
        model._pos_embed = lambda _, embedded=embedded: embedded
        model.norm_pre = torch.nn.Identity()
        expected = plain_vit(model, sounds[image], 2, spared)
        torch.testing.assert_close(tokens.audio[image], expected, rtol=0, atol=1e-10)


def test_gradients_pass_through_merged_blocks_to_every_adapter() -> None:
    options = section("adapter", reduction=4)
    encoder = DualStreamEncoder(Backbone(vit(), name="small"), options, merge=(3, 0)).double()
    for module in encoder.modules():
        if isinstance(module, Adapter):
            randomised(module)
    generator = torch.Generator().manual_seed(1)
    frames, sounds = torch.randn(2, 2, 3, 64, 64, generator=generator, dtype=torch.float64)
    tokens = encoder.train()(frames, sounds)
    assert tokens.visual.shape == tokens.audio.shape
    sum((one * torch.randn_like(one)).sum() for one in tokens).backward()
    assert all(p.grad is not None and p.grad.any() for _, part in encoder.trained_parts() for p in part.parameters())
    alone = DualStreamEncoder(Backbone(vit(), name="small"), options).double()
    alone.load_state_dict(encoder.state_dict())
    assert not torch.equal(alone.train()(frames, sounds).visual, tokens.visual)


def test_merged_tokens_can_be_kept_and_recomputed(tiny_experiment: Make, tmp_path: Any) -> None:
    """What is kept says what the tokens stand for; checkpointing gives the same gradients."""
    merging = {"encoder.merge_visual": 1, "encoder.merge_audio": 1, "adapter.blocks": [1]}
    experiment = tiny_experiment(
        **merging, **{"encoder.keep_frozen": True, "data.cache": str(tmp_path), "train.checkpointing": True}
    )
    annotations = data.read(experiment.data)
    models = []
    for changes in ({}, {"train.checkpointing": False}, {"encoder.merge_visual": 0}):
        torch.manual_seed(0)
        made = build(experiment.override(changes), annotations.labels)
        for _, module in made.trained_modules():
            randomised(module)
        models.append(made.to_train(experiment.override(changes).train, torch.device("cpu"))[0])
    recomputed, model, other = models
    cache = SampleCache(experiment.data, experiment.audio, experiment.backbone.image_size)
    samples = annotations.splits["train"][:2]
    batch = cache.batch(samples)
    kept = Activations(model.eval(), cache)
    with torch.no_grad():
        whole = model(batch.frames, batch.log_mel)
        for _ in range(2):
            torch.testing.assert_close(model.task(kept.encoded(samples)), whole)
    assert kept.read(samples[0])[1].visual.dtype == torch.int16
    assert Activations(other, cache).folder != kept.folder
    gradients = []
    for one in (model.train(), recomputed.train()):
        one(batch.frames, batch.log_mel).square().sum().backward()
        gradients.append([p.grad for group in one.trained_parameters().values() for p in group])
    for a, b in zip(*gradients, strict=True):
        assert a is not None
        torch.testing.assert_close(a, b)


def test_what_cannot_merge_is_refused(tiny_experiment: Make) -> None:
    with pytest.raises(ExperimentError, match=r"encoder.merge_audio is -1; expected 0"):
        tiny_experiment(**{"encoder.merge_audio": -1})
    for name, what in (("visual", "a frame"), ("audio", "a log-mel")):
        experiment = tiny_experiment(**{f"encoder.merge_{name}": 100_000})
        tokens = rf"encoder.merge_{name} is 100000, but {what} has \d+ tokens, .* at most half; expected 0 to \d+\."
        with pytest.raises(ExperimentError, match=tokens):
            DualStreamEncoder.build(Backbone(vit(), name="small"), experiment)
    for name in ("vit_small_patch16_dinov3", "swinv2_tiny_window8_256"):
        backbone = backbones.shape_only(parse_section("backbone", name=name, weights="random", image_size=0))
        with pytest.raises(ExperimentError, match="rotary positions or windows, in which each token keeps its place"):
            DualStreamEncoder(backbone, section("adapter", streams="none"), merge=(2, 0))
    backbone = Backbone(vit(), name="small")
    with pytest.raises(ExperimentError, match="reads the same tokens after several blocks; leave them at 0"):
        DualStreamEncoder(backbone, section("adapter", "ladder", reduction=4), merge=(2, 0))
