"""Choices on a CPU: layout of the frames, oneDNN, threads, the optimiser's kernel, and attention in adapters.

    python -m bench processor [--quick]

Each row compares two ways to compute the same, in turns: `over` is the time of the second over that of the first.
"""

import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from avpea import backbones, measure, registry
from avpea.experiment import load_recipe, parse_section
from avpea.model import build

MODEL = "vit_base_patch16_224.augreg_in21k"
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def run(quick: bool) -> dict[str, Any]:
    rounds, images = (1, 2) if quick else (5, 8)
    rows = [*(row for kind in TYPES for row in _frozen(kind, rounds, images)), *_attention(rounds, images)]
    rows += _optimisers(rounds, ("mini/avel",) if quick else ("mini/avel", "mini/avel-full", "paper/avel-vit-b16"))
    return {"what": __doc__, "command": "python -m bench processor", "machine": measure.machine(), "rows": rows}


def _row(what: str, first: str, second: str, ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    times = measure.interleaved(ways, rounds)
    return {
        "what": what,
        "ways": [first, second],
        "over": measure.ratio(times[second], times[first]),
        "ms": {name: round(1e3 * min(some), 2) for name, some in times.items()},
    }


def _frozen(kind: str, rounds: int, images: int) -> list[dict[str, Any]]:
    """Frames into patches; and two frozen blocks, forward and backward."""
    torch.manual_seed(0)
    backbone = backbones.build(parse_section("backbone", name=MODEL, weights="random", depth=2)).to(TYPES[kind])
    frames = torch.randn(images, 3, 224, 224).to(TYPES[kind])
    last = frames.to(memory_format=torch.channels_last)
    tokens = backbone.embed(frames)

    def blocks() -> None:
        x = tokens.detach().requires_grad_()
        y: Any = x
        for block in backbone.blocks_for(224, 224):
            y = y + block.attend(y)
            y = y + block.feed(y)
        torch.autograd.backward(y.float().sum())

    def without_onednn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TF32 on Intel's GPUs
            with torch.backends.mkldnn.flags(enabled=False):
                blocks()

    layout: dict[str, Callable[[], object]] = {
        "channels first": lambda: backbone.embed(frames),
        "channels last": lambda: backbone.embed(last),
    }
    found = [_row(f"patches, {kind}", "channels first", "channels last", layout, rounds)]
    if kind == "fp32":  # without oneDNN, bfloat16 has no fast products at all, and takes minutes
        ways: dict[str, Callable[[], object]] = {"with oneDNN": blocks, "without": without_onednn}
        found.append(_row("blocks, fp32", "with oneDNN", "without", ways, rounds))
    if (os.cpu_count() or 1) > 1:
        ways = {"1 thread": _with(1, blocks), "2 threads": _with(2, blocks)}
        found.append(_row(f"blocks, {kind}", "1 thread", "2 threads", ways, rounds))
    return found


def _with(threads: int, work: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            work()
        finally:
            torch.set_num_threads(before)

    return run


def _attention(rounds: int, images: int) -> list[dict[str, Any]]:
    """The CLS token's attention over the other stream, as AV-PEA computes it, and by torch's fused attention."""
    found = []
    for kind, dtype in TYPES.items():
        x, other = (torch.randn(images, 197, 768).to(dtype) for _ in range(2))

        def plain(x: Any = x, other: Any = other) -> Any:
            return (x[:, :1].float() @ other.float().transpose(1, 2)).softmax(dim=-1).to(x.dtype) @ other

        def fused(x: Any = x, other: Any = other) -> Any:
            return F.scaled_dot_product_attention(x[:, :1], other, other, scale=1.0)

        found.append(_row(f"CLS attention, {kind}", "products", "fused", {"products": plain, "fused": fused}, rounds))
    return found


def _optimisers(rounds: int, recipes: tuple[str, ...]) -> list[dict[str, Any]]:
    """A step of AdamW over what trains, and how far the two kernels are apart after it."""
    found = []
    for recipe in recipes:
        experiment = load_recipe(recipe).override({"backbone.weights": "random"})
        model = build(experiment, registry.load("task", experiment.task.name).needs.typical())
        first = [one for group in model.trained_parameters().values() for one in group]
        second = [one.detach().clone().requires_grad_() for one in first]
        for one, other in zip(first, second, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        plain, fused = torch.optim.AdamW(first), torch.optim.AdamW(second, fused=True)
        ways: dict[str, Callable[[], object]] = {"plain": plain.step, "fused": fused.step}
        row = _row(f"AdamW, {recipe}, {sum(one.numel() for one in first):,} weights", "plain", "fused", ways, rounds)
        apart = max(float((one - other).detach().abs().max()) for one, other in zip(first, second, strict=True))
        found.append({**row, "apart": float(f"{apart:.1e}")})
    return found
