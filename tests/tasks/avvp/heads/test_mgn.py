"""MGN: parameters as published and in closed form, the grouping written out, and its way to label whole videos."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpea.errors import ExperimentError
from avpea.experiment import load_recipe
from avpea.tasks.avvp.heads._grouping import GroupingBlock
from avpea.tasks.avvp.heads.mgn import MGN
from tests.tasks.avvp.heads.test_parsing_head_contract import targets


def count(head: nn.Module) -> int:
    return sum(p.numel() for p in head.parameters())


def test_counts_of_the_public_code() -> None:
    assert count(MGN(2048, 25, 128, 512)) == 4_366_065  # ResNet-152, LLP, VGGish, R(2+1)D-18


@pytest.mark.parametrize(("dim", "classes", "audio", "cls"), [(768, 25, 768, 768), (384, 10, 128, 384)])
def test_counts_in_closed_form(dim: int, classes: int, audio: int, cls: int) -> None:
    w = 128
    inputs = w * (audio + dim + cls) + 3 * w + 2 * w * w + w
    groupings = 4 * (24 * w * w + 30 * w + 64) + 3 * 129 * classes + 129 * 10
    heads = 3 * (w + 1) + (w + 1) * classes
    expected = inputs + 2 * classes * w + 12 * (12 * w * w + 13 * w) + groupings + heads
    assert count(MGN(dim, classes, audio, cls)) == expected


def moved(module: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias


def mlp(layers: nn.Sequential, x: Tensor) -> Tensor:
    first: Any = layers[0]
    last: Any = layers[2]
    hidden = x @ first.weight.T + first.bias
    return hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)) @ last.weight.T + last.bias


@pytest.mark.parametrize("hard", [False, True])
def test_grouping_as_written(hard: bool) -> None:
    block = moved(GroupingBlock(5, hard=hard).double().eval())
    assert isinstance(block, GroupingBlock)
    tokens, groups = torch.randn(2, 4, 128, dtype=torch.float64), torch.randn(2, 5, 128, dtype=torch.float64)
    x = norm(block.norm_tokens, tokens)
    g = norm(block.norm_mixed, mlp(block.mix, norm(block.norm_groups, groups).transpose(1, 2)).transpose(1, 2))
    read = torch.zeros_like(g)
    q, kv = block.read.query(g), block.read.key_value(x)
    for head in range(8):
        own = slice(16 * head, 16 * head + 16)
        key, value = kv[..., :128][..., own], kv[..., 128:][..., own]
        read[..., own] = (q[..., own] @ key.transpose(1, 2) / 4).softmax(-1) @ value
    g = g + block.read.out(read)
    g = norm(block.norm_ready, g + mlp(block.widen, norm(block.norm_read, g)))
    kv = block.assign.key_value(x)
    logits = block.assign.query(g) @ kv[..., :128].transpose(1, 2) / 128**0.5
    soft = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)  # over the groups
    over_tokens = torch.exp(soft) / torch.exp(soft).sum(dim=2, keepdim=True)
    weights = F.one_hot(logits.argmax(dim=1), 5).mT.double() if hard else 1 + over_tokens
    new = g + block.assign.out(weights / (weights.sum(dim=2, keepdim=True) + 1) @ kv[..., 128:])
    found, told = block(tokens, groups)
    torch.testing.assert_close(told, weights)
    torch.testing.assert_close(found, new + mlp(block.channels, norm(block.norm_new, new)))


def test_each_second_belongs_to_one_group_in_training_too() -> None:
    torch.manual_seed(0)
    block = GroupingBlock(5, hard=True).train()
    weights = [block(torch.randn(3, 4, 128), torch.randn(3, 5, 128))[1].detach() for _ in range(2)]
    for one in weights:
        torch.testing.assert_close(one.sum(dim=1), torch.ones(3, 4))
        assert set(one.round(decimals=5).unique().tolist()) == {0.0, 1.0}


def test_a_second_has_the_probability_of_the_video_times_1_04_to_1_23() -> None:
    torch.manual_seed(0)
    head = moved(MGN(8, 3, 6, 4).double().eval())
    with torch.no_grad():
        found = head(*(5 * torch.randn(4, 10, dim, dtype=torch.float64) for dim in (8, 4, 6))).parsed
    for seconds, video in ((found.seen, found.video_seen), (found.heard, found.video_heard)):
        factor = (seconds / video[:, None])[seconds < 1]
        assert len(factor)
        assert float(factor.min()) > 1.039
        assert float(factor.max()) < 1.233
        # So wherever the video's probability reaches the threshold, all of its seconds do.
        assert bool((seconds >= 0.5)[(video >= 0.5)[:, None].expand_as(seconds)].all())


def test_losses_are_those_of_the_video_and_of_the_class_tokens() -> None:
    torch.manual_seed(0)
    head = moved(MGN(8, 3, 6, 4).eval())
    output = head(*(torch.randn(2, 5, dim) for dim in (8, 4, 6)))
    wanted = targets()
    terms = head.loss(output, wanted)
    assert terms.keys() == {"video", "video_heard", "video_seen", "tokens_seen", "tokens_heard"}
    y, found = wanted.classes, output.parsed
    for term, truth in {"video": y, "video_heard": y, "video_seen": 0.9 * y + 0.05}.items():
        torch.testing.assert_close(terms[term], F.binary_cross_entropy(getattr(found, term), truth))
    torch.testing.assert_close(terms["tokens_seen"], F.cross_entropy(output.tokens_seen, torch.arange(3)))


def test_labels_of_seconds_are_refused() -> None:
    with pytest.raises(ExperimentError, match=r"the head 'mgn' labels whole videos; set task.supervision to weak"):
        load_recipe("mini/avvp-digits").override({"head.name": "mgn"})
    assert load_recipe("mini/avvp-digits").override({"head.name": "mgn", "task.supervision": "weak"})
