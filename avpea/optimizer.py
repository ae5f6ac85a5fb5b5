"""The optimiser of a training, and its learning rate."""

import inspect
import math
from typing import Any

import torch
from torch import nn

from avpea.model import AVModel
from avpea.sections import StepTrainOptions, TrainOptions

__all__ = ["gate_learning_rate", "make_optimizer", "rate_factor"]


class _AdamW(torch.optim.AdamW):
    """AdamW without torch's compiler, whose import takes longer than the first epoch of many a training.

    torch's step imports it to tell it that gradients are off, and some methods ask it, when first called, for a form of
    theirs that it does not compile. Here it compiles nothing but frozen blocks, in which no optimiser is called.
    """

    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        for method in vars(torch.optim.Optimizer).values():
            if (plain := getattr(method, "__wrapped__", None)) is not None:
                vars(plain).setdefault("__dynamo_disable", plain)
        super().__init__(groups, **options)


def make_optimizer(model: AVModel, config: TrainOptions) -> torch.optim.AdamW:
    """AdamW over adapters and head only; without weight decay, AdamW is Adam.

    With accumulation, the momentum of BatchNorm is lowered to 1 - (1 - momentum)^(1 / accumulate), so that the batches
    of a step together move the running statistics as far as a single batch would.
    """
    rate = config.learning_rate
    rates = {
        "adapters": rate,
        "backbone": config.backbone_learning_rate or rate,
        "head": config.head_learning_rate or rate,
        "gates": gate_learning_rate(model, config),
    }
    parts = model.trained_parameters()
    if rates["gates"]:
        parts["gates"] = model.exchange_gates()
        apart = set(map(id, parts["gates"]))
        parts["adapters"] = [parameter for parameter in parts["adapters"] if id(parameter) not in apart]
    groups: list[dict[str, Any]] = []
    for name, parameters in parts.items():
        its = {"lr": rates[name], "base_lr": rates[name]}
        if config.weight_decay:
            matrices = [parameter for parameter in parameters if parameter.ndim > 1]
            groups.append({"params": matrices, "weight_decay": config.weight_decay, **its})
            parameters = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups.append({"params": parameters, "weight_decay": 0.0, **its})
    for _, trained in model.trained_modules():
        for module in trained.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
                module.momentum = 1 - (1 - module.momentum) ** (1 / config.accumulate)
    groups = [group for group in groups if group["params"]]
    # On a CPU too, the fused kernel is faster than the plain one (`python -m bench processor`).
    return _AdamW(groups, betas=(0.9, config.beta2), fused=True)


def gate_learning_rate(model: AVModel, config: TrainOptions) -> float:
    """The rate of the gates g of what is read from the other stream; 0 if they have none of their own."""
    factor = model.gate_rate() if model.exchange_gates() else 1.0
    return config.gate_learning_rate or (config.learning_rate * factor if factor != 1 else 0.0)


def rate_factor(config: TrainOptions, step: int, steps_in_epoch: int) -> float:
    """Factor of the learning rate at an optimiser step, counted from 0."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    steps = config.epochs * steps_in_epoch
    if isinstance(config, StepTrainOptions):
        return warmup * float(config.gamma ** (step // steps_in_epoch // config.step_epochs))
    if config.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
    return warmup * max(0.0, 1 - step / steps) if config.schedule == "linear" else warmup
