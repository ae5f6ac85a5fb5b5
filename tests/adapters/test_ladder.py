"""The ladders: written out with plain tensors, counted in closed form, and without a gradient through the backbone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avpea.accounting import count
from avpea.adapters.ladder import Ladders
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.errors import ExperimentError
from avpea.experiment import load_recipe
from tests.adapters.test_av_pea import randomised
from tests.encoders.test_dual_stream import images, layer_norm, small_backbone
from tests.tiny import section

DIM, WIDTH, DEPTH = 16, 4, 3


def encoder(**options: Any) -> DualStreamEncoder:
    adapter = section("adapter", "ladder", **{"reduction": 4, "heads": 2, **options})
    made = DualStreamEncoder(small_backbone(), adapter).double()
    if made.side is not None:
        randomised(made.side)
    return made


def softmax(x: Tensor) -> Tensor:
    powers = (x - x.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def linear(layer: Any, x: Tensor) -> Tensor:
    return x @ layer.weight.T + layer.bias


def normed(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5).sqrt()


def block(rung: Any, x: Tensor) -> Tensor:
    """A pre-norm block with two heads."""
    q, k, v = linear(rung.qkv, layer_norm(x, rung.norm_attn)).chunk(3, dim=-1)
    parts = []
    for head in range(2):
        own = slice(head * WIDTH // 2, (head + 1) * WIDTH // 2)
        parts.append(softmax(q[..., own] @ k[..., own].mT / (WIDTH / 2) ** 0.5) @ v[..., own])
    x = x + linear(rung.proj, torch.cat(parts, dim=-1))
    hidden = linear(rung.widen, layer_norm(x, rung.norm_mlp))
    return x + linear(rung.narrow, hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)))


def climbed(ladders: Any, outputs: dict[str, list[Tensor]], exchange: bool) -> dict[str, Tensor]:
    """What is added to each stream, from the tokens that enter the first block and those after the chosen ones."""
    s = {name: linear(getattr(ladders, name).first, outputs[name][0]) for name in outputs}
    for i in range(len(outputs["visual"]) - 1):
        for name in s:
            rung = getattr(ladders, name).rungs[i]
            mu = 1 / (1 + torch.exp(-rung.keep / 0.1))
            s[name] = mu * s[name] + (1 - mu) * linear(rung.read, outputs[name][i + 1])
        read = dict(s)
        for name, other in (("visual", "audio"), ("audio", "visual")):
            rung = getattr(ladders, name).rungs[i]
            if exchange:
                theta = softmax(normed(s[name]) @ normed(s[other]).mT / WIDTH**0.5)
                read[name] = s[name] + rung.cross_gate * theta @ s[other]
        s = {name: block(getattr(ladders, name).rungs[i], x) for name, x in read.items()}
    ends = {name: getattr(ladders, name) for name in s}
    return {name: linear(ends[name].up, layer_norm(x, ends[name].norm)) for name, x in s.items()}


@pytest.mark.parametrize(("blocks", "exchange"), [((), True), ((), False), ((0, 1), True)])
@torch.no_grad()
def test_as_written(blocks: tuple[int, ...], exchange: bool) -> None:
    made = encoder(blocks=blocks, cross_modal=exchange)
    frames, sounds = images(), images(seed=4, height=48)
    outputs: dict[str, list[Tensor]] = {}
    last = {}
    for name, pixels in (("visual", frames), ("audio", sounds)):
        x = made.backbone.embed(pixels)
        every = [x]
        for one in made.backbone.blocks_for(*pixels.shape[-2:]):
            x = x + one.attend(x)
            x = x + one.feed(x)
            every.append(x)
        outputs[name] = [every[0], *(every[i + 1] for i in blocks or range(DEPTH))]
        last[name] = made.backbone.norm(x)
    expected = climbed(made.side, outputs, exchange)
    tokens = made(frames, sounds)
    for name in ("visual", "audio"):
        torch.testing.assert_close(getattr(tokens, name), last[name] + expected[name], rtol=0, atol=1e-11)


def of_stream(dim: int, width: int, rungs: int, exchange: bool) -> int:
    """The docstring's count."""
    rung = dim * width + width + 1 + 12 * width**2 + 13 * width + exchange
    return rungs * rung + (dim * width + width) + 2 * width + (width * dim + dim)


@pytest.mark.parametrize(
    ("dim", "width", "rungs", "exchange"), [(768, 96, 12, True), (384, 48, 11, False), (16, 4, 3, True)]
)
def test_counts_in_closed_form(dim: int, width: int, rungs: int, exchange: bool) -> None:
    with torch.device("meta"):
        made = Ladders(dim, rungs, reduction=dim // width, cross_modal=exchange)
    assert sum(p.numel() for p in made.parameters()) == 2 * of_stream(dim, width, rungs, exchange)


def test_counts_of_vit_b16() -> None:
    recipe = load_recipe("paper/avel-vit-b16").override({"adapter.name": "ladder"})
    # 2,376,300 without the last norm and the gates of the exchange.
    assert count(recipe).adapters == 2 * (2_376_300 + 2 * 96 + 12) == 2 * of_stream(768, 96, 12, True)
    alone = recipe.override({"adapter.streams": "audio", "adapter.blocks": [3, 7, 11]})
    assert count(alone).adapters == of_stream(768, 96, 3, False)


def test_the_backbone_runs_without_gradients_and_none_of_its_activations_is_kept() -> None:
    made = encoder(reduction=2).train()  # of width 8, so that no width is one of the backbone's
    weights = {p.untyped_storage().data_ptr() for p in made.parameters()}
    ran: list[bool] = []
    layers: Any = made.backbone.layers
    for layer in layers:
        layer.mlp.register_forward_hook(lambda *_: ran.append(torch.is_grad_enabled()))
    kept: list[Tensor] = []

    def keep(one: Tensor) -> Tensor:
        if one.untyped_storage().data_ptr() not in weights:
            kept.append(one)
        return one

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
        tokens = made(images(), images(seed=4))
    assert ran == [False] * 2 * DEPTH
    widths = [one.shape[-1] for one in kept if one.ndim]
    assert not {3 * DIM, 4 * DIM} & set(widths)  # of the attention and the MLP of a block
    read = {one.untyped_storage().data_ptr() for one in kept if one.ndim and one.shape[-1] == DIM}
    assert len(read) == 2 * (1 + DEPTH)  # what the ladders read of the two streams
    (tokens.visual.sum() + tokens.audio.sum()).backward()
    assert all(p.grad is None for p in made.backbone.parameters())


@pytest.mark.parametrize("streams", ["audio", "visual"])
def test_one_stream_alone_has_no_exchange_and_leaves_the_other_as_it_was(streams: str) -> None:
    made, frozen = encoder(streams=streams), encoder(streams="none")
    frames, sounds = images(), images(seed=4)
    tokens, plain = made(frames, sounds), frozen(frames, sounds)
    other = "audio" if streams == "visual" else "visual"
    assert torch.equal(getattr(tokens, other), getattr(plain, other))
    assert not torch.equal(getattr(tokens, streams), getattr(plain, streams))
    assert made.side is not None
    assert not made.side.cross_modal


def test_resume_of_enter_is_forward() -> None:
    made = encoder(blocks=(0, 2))
    frames, sounds = images(), images(seed=4, height=48)
    entered = made.enter(frames, sounds)
    assert made.read == (0, 1, 3)
    assert len(entered) == 3
    for one, other in zip(made.resume(entered, ((32, 32), (48, 32))), made(frames, sounds), strict=True):
        assert torch.equal(one, other)


def test_gates_are_told_by_rung() -> None:
    gates = encoder().side
    assert isinstance(gates, nn.Module)
    assert sum(name.endswith("cross_gate") for name in gates.gates()) == 2 * DEPTH


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"adapter.heads": 5}, "adapter.heads is 5, which does not divide the ladder's width"),
    "no heads": ({"adapter.heads": 0}, "adapter.heads is 0; expected 1 or more"),
    "a gate of nothing": ({"adapter.streams": "audio", "adapter.cross_gate_init": 0.5}, "no ladder reads another one"),
    "a gate that is shut": ({"adapter.cross_modal": False, "adapter.cross_gate_init": 0.5}, "no ladder reads another"),
    "nothing to compute again": ({"train.checkpointing": True}, "no gradient flows through the frozen blocks"),
    "stages": ({"backbone.name": "swinv2_tiny_window8_256", "backbone.image_size": 256}, "differ in number and width"),
    "a rate of no gate": ({"adapter.streams": "visual", "train.gate_learning_rate": 0.1}, "no adapter has a gate"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused(what: str) -> None:
    changes, message = REFUSED[what]
    with pytest.raises(ExperimentError, match=message):
        count(load_recipe("mini/avel").override({"adapter.name": "ladder", **changes}))
