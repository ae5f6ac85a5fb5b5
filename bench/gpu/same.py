"""Every adapter, head, task and encoder on the device and on the CPU: outputs, losses, gradients and answers.

The truth is the same step in float64 on the CPU. Some gradients are what is left where large numbers cancel, and there
the CPU's own float32 is far from the truth; so the device may be four times as far as the CPU is.

In float32, with TF32 off, numbers differ by at most 1e-4 of the largest one of their tensor, or by four times what they
differ on the CPU; for gradients of a small tensor, by 1e-4 of a tenth of the model's largest one, since some of them
are only rounding. In bfloat16 the frozen weights and tokens have 8 bits: outputs differ by at most a tenth of the
largest number, and the cosine between all gradients together and the true ones is at most 0.03 below 1, or four times
as much as the CPU's.
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor

from avpea import registry
from avpea.compare.cost import random_batch
from avpea.data.cache import Batch
from avpea.device import float32_products
from avpea.experiment import Experiment
from avpea.model import AVModel, build
from avpea.optimizer import make_optimizer
from bench.gpu.models import every

FULL = 1e-4
BOUNDS = {"fp32_outputs": FULL, "fp32_gradients": FULL, "bf16_outputs": 0.1, "bf16_angle": 0.03}
MORE = 4.0  # times what the CPU is apart


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    for name, experiment in every():
        began = time.perf_counter()
        row: dict[str, Any] = {"what": name, "ok": False}
        try:
            row |= compared(experiment, device)
        except Exception as error:  # is this one's finding, and the others come next
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        yield {**row, "seconds": round(time.perf_counter() - began, 2)}


def compared(experiment: Experiment, device: torch.device) -> dict[str, Any]:
    """How far the device and the CPU are from the truth, and whether that is near enough."""
    cpu = torch.device("cpu")
    true = exercised(made(experiment, torch.float64), experiment, cpu)
    far: dict[str, dict[str, float]] = {}
    answers = True
    for place in (cpu, device):
        with float32_products(place, tf32=False):
            full = exercised(made(experiment), experiment, place)
        model, batch = made(experiment)
        half = exercised((model.to(place).half_precision(), batch), experiment, place)
        answers = answers and full["answers"] and half["answers"]
        far["on_cpu" if place is cpu else "on_device"] = {
            "fp32_outputs": distance(true, full, "outputs"),
            "fp32_gradients": distance(true, full, "gradients"),
            "bf16_outputs": distance(true, half, "outputs"),
            "bf16_angle": 1 - cosine(true["gradients"], half["gradients"]),
        }
    ok = answers and all(
        math.isfinite(far["on_device"][name]) and far["on_device"][name] <= max(bound, MORE * far["on_cpu"][name])
        for name, bound in BOUNDS.items()
    )
    row = {name: [_short(far[place][name]) for place in ("on_device", "on_cpu")] for name in BOUNDS}
    return {"ok": ok, **row}


def _short(value: float) -> float | None:
    """Two digits; None for what cannot be compared, which JSON has no number for."""
    return float(f"{value:.1e}") if math.isfinite(value) else None


def made(experiment: Experiment, numbers: torch.dtype = torch.float32) -> tuple[AVModel, Batch]:
    """The same model and batch each time, on the CPU, in which no gate is closed and no matrix is zero."""
    torch.manual_seed(0)
    kind = registry.load("task", experiment.task.name)
    model = build(experiment, kind.needs.typical())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in (one for group in model.trained_parameters().values() for one in group):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
            if parameter.dim() == 0:
                parameter.fill_(0.3)
    modules: list[Any] = list(model.modules())
    for module in modules:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # devices draw other random numbers
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
        elif isinstance(module, DropPath):
            module.drop_prob = 0.0
        elif getattr(module, "hard", False) is True:
            module.hard = False  # MGN's hard groups are drawn with Gumbel noise
    batch = random_batch(experiment, model)
    model.task.prepare(batch.samples)
    if numbers is torch.float32:
        return model, batch
    frames = batch.frames.to(numbers) if batch.frames.is_floating_point() else batch.frames
    return model.to(numbers), dataclasses.replace(batch, frames=frames, log_mel=batch.log_mel.to(numbers))


def exercised(pair: tuple[AVModel, Batch], experiment: Experiment, device: torch.device) -> dict[str, Any]:
    """A training step and answers: outputs and gradients, on the CPU, and whether each sample has an answer."""
    model, batch = pair[0].to(device).train(), pair[1].to(device)
    task, optimizer = model.task, make_optimizer(pair[0], experiment.train)
    torch.manual_seed(1)
    targets = task.targets(batch.samples).to(device)
    negatives = batch.frames.flip(0) if task.head.frozen_negatives else None
    output = model(batch.frames, batch.log_mel, targets, negatives, batch.positions)
    loss, _ = task.loss(output, targets)
    torch.autograd.backward(loss)
    # A stream that the head does not read has no gradient on a CPU, and 0 on a device, where both share a call.
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = {
        name: (torch.zeros_like(p) if p.grad is None else p.grad).double().cpu() for name, p in trained.items()
    }
    model.eval()
    with torch.no_grad():
        targets = task.targets(batch.samples).to(device)
        encoded = model.encode(batch.frames, batch.log_mel)
        given = encoded.visual, encoded.audio
        answers = task.respond(encoded, targets)  # on the CPU; `complete` scores captions with what is not there
    optimizer.step()
    finite = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return {
        "outputs": [tensor.double().cpu() for tensor in tensors((loss, given, output))],
        "gradients": gradients,
        "answers": finite and len(answers) == len(batch.samples),
    }


def tensors(value: Any) -> Iterator[Tensor]:
    """The numbers inside of lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.numel():
            yield value.detach()
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors(one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors([getattr(value, field.name) for field in dataclasses.fields(value)])


def distance(ours: dict[str, Any], theirs: dict[str, Any], what: str) -> float:
    """The largest difference between tensors, over the largest number of each; infinite if they are not comparable."""
    first, second = list(tensors(ours[what])), list(tensors(theirs[what]))
    if [one.shape for one in first] != [one.shape for one in second]:
        return float("inf")
    least = 0.1 * max((float(one.abs().max()) for one in first), default=0.0) if what == "gradients" else 1e-6
    found = 0.0
    for one, other in zip(first, second, strict=True):
        known = one.isfinite()  # a masked logit is -inf on both
        if not torch.equal(known, other.isfinite()):
            return float("inf")
        if known.any():
            apart = float((one - other)[known].abs().max())
            found = max(found, apart / max(float(one[known].abs().max()), least, 1e-12))
    return found


def cosine(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Of the angle between all gradients of two models."""
    pairs = [(ours[name].flatten().double(), theirs[name].flatten().double()) for name in ours if name in theirs]
    if len(pairs) < max(len(ours), len(theirs)):
        return -1.0
    one, other = (torch.cat(side) for side in zip(*pairs, strict=True))
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))
