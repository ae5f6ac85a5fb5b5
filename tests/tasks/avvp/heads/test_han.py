"""HAN: parameters in closed form, and the published equations written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpea.tasks.avvp.heads import LaneTargets
from avpea.tasks.avvp.heads.han import HAN, HybridAttention


def count(head: nn.Module) -> int:
    return sum(p.numel() for p in head.parameters())


def test_counts_of_the_public_code() -> None:
    head = HAN(2048, 25, 128, 512)  # ResNet-152, LLP, VGGish, R(2+1)D-18
    assert count(head) == 4_569_675
    assert sum(head.registered_but_unused().values()) == 4_738_048
    assert count(head) + sum(head.registered_but_unused().values()) == 9_307_723


@pytest.mark.parametrize(("dim", "classes", "audio", "cls"), [(768, 25, 768, 768), (384, 10, 128, 384)])
def test_counts_in_closed_form(dim: int, classes: int, audio: int, cls: int) -> None:
    attention = 2 * 4 * (512 * 512 + 512) + 2 * (512 * 512 + 512) + 2 * 2 * 512
    assert count(HybridAttention()) == attention == 2_628_608
    inputs = 512 * (audio + dim + cls) + 3 * 512 + 1024 * 512 + 512
    assert count(HAN(dim, classes, audio, cls)) == inputs + 3 * (512 * classes + classes) + attention


def attend(layer: nn.MultiheadAttention, query: Tensor, key: Tensor) -> Tensor:
    """One head, written out."""
    q, k, v = (
        F.linear(x, w, b)
        for x, w, b in zip((query, key, key), layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
    )
    mixed = (q @ k.transpose(1, 2) / 512**0.5).softmax(dim=-1) @ v
    return F.linear(mixed, layer.out_proj.weight, layer.out_proj.bias)


def test_hybrid_attention_as_written() -> None:
    torch.manual_seed(0)
    layer = HybridAttention().double().eval()
    own, other = torch.randn(2, 2, 4, 512, dtype=torch.float64)
    first = layer.first_norm(own + attend(layer.cross, own, other) + attend(layer.own, own, own))
    expected = layer.second_norm(first + layer.narrow(layer.widen(first).relu()))
    torch.testing.assert_close(layer(own, other), expected)


def test_pooling_and_losses_as_written() -> None:
    torch.manual_seed(0)
    head = HAN(8, 3, 6, 4).double().eval()
    patches, frame, sound = (torch.randn(2, 5, dim, dtype=torch.float64) for dim in (8, 4, 6))
    found = head(patches, frame, sound)
    audio = head.audio(sound)
    visual = head.join(torch.cat((head.patches(patches), head.frame(frame)), dim=-1))
    streams = torch.stack((head.attention(audio, visual), head.attention(visual, audio)), dim=2)
    p = head.classes(streams).sigmoid()
    over_time = torch.exp(head.over_seconds(streams)) / torch.exp(head.over_seconds(streams)).sum(dim=1, keepdim=True)
    over_streams = torch.exp(head.over_streams(streams))
    over_streams = over_streams / over_streams.sum(dim=2, keepdim=True)

    def close(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)  # probabilities are float32

    close(found.heard, p[:, :, 0])
    close(found.seen, p[:, :, 1])
    close(found.video_heard, (over_time * p)[:, :, 0].sum(dim=1))
    close(found.video_seen, (over_time * p)[:, :, 1].sum(dim=1))
    close(found.video, (over_time * over_streams * p).sum(dim=(1, 2)))

    y = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    nothing = torch.zeros(2, 5, 3)
    weak = LaneTargets(y, nothing, nothing, torch.zeros(2, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool))
    terms = head.loss(found, weak)
    truths = {"video": y, "video_heard": y, "video_seen": 0.9 * y + 0.05}
    for term, truth in truths.items():
        torch.testing.assert_close(terms[term], F.binary_cross_entropy(getattr(found, term), truth))


def test_where_seconds_are_labelled_each_stream_has_its_own_label() -> None:
    torch.manual_seed(0)
    head = HAN(8, 2, 6, 4).eval()
    found = head(*(torch.randn(1, 3, dim) for dim in (8, 4, 6)))
    seen, heard = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
    seen[0, 1, 0], heard[0, :, 1] = 1, 1
    wanted = LaneTargets(torch.ones(1, 2), seen, heard, torch.ones(1, dtype=torch.bool), torch.ones(1, 3).bool())
    terms = head.loss(found, wanted)
    torch.testing.assert_close(
        terms["video_seen"], F.binary_cross_entropy(found.video_seen, torch.tensor([[1.0, 0.0]]))
    )
    torch.testing.assert_close(
        terms["video_heard"], F.binary_cross_entropy(found.video_heard, torch.tensor([[0.0, 1.0]]))
    )
    torch.testing.assert_close(terms["seconds_seen"], F.binary_cross_entropy(found.seen, seen))
    torch.testing.assert_close(terms["seconds_heard"], F.binary_cross_entropy(found.heard, heard))
