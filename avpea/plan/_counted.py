"""Floating-point operations and bytes of a recipe, counted on the meta device, and the rates that follow from them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from avpea import backbones
from avpea.accounting import on_meta, size_of
from avpea.activations import computed
from avpea.compare.cost import random_batch
from avpea.device import choose_precision
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.labels import Labels
from avpea.model import AVModel
from avpea.plan._assumed import Assumed
from avpea.plan._rates import Rates

__all__ = ["Counts", "counted", "rates_of"]

_FEW = 2  # samples that are counted; the others are alike
_WORD_PIECES = 30  # of a text


@dataclass(frozen=True)
class Counts:
    """Operations and bytes of a recipe.

    Attributes:
        train_flops: Floating-point operations of a sample in training, a multiplication and an addition being two.
        answer_flops: The same in evaluation.
        entry_flops: The same for what the frozen layers make of a sample, if that is kept.
        activation_bytes: What a sample's forward pass keeps for the backward pass.
        frozen_parameters: Frozen parameters.
        trained_parameters: Trained parameters.
        sample_bytes: Frames and log-mel of a sample in the cache.
        entry_bytes: What is kept of the frozen layers for a sample.
        whole: Whether operations of the loss are counted; else the head's are estimated from its parameters.
    """

    train_flops: float
    answer_flops: float
    entry_flops: float
    activation_bytes: float
    frozen_parameters: int
    trained_parameters: int
    sample_bytes: float
    entry_bytes: float
    whole: bool


def counted(experiment: Experiment, labels: Labels | None, half: bool) -> Counts:
    """Count operations and bytes; nothing is computed, and no weights are loaded.

    Args:
        experiment: The experiment.
        labels: Labels of the data set; None for as many as the best-known data set of the task has.
        half: Whether it is computed in bfloat16.

    Raises:
        ExperimentError: Options that do not fit each other.
    """
    experiment = experiment.override({"train.batch_size": _FEW})
    model = _on_meta(experiment, labels, half)
    batch = random_batch(experiment, model)
    cached = sum(one.nbytes for one in (batch.frames, batch.log_mel)) / _FEW
    cached *= experiment.data.segments / (experiment.train.segments or experiment.data.segments)
    batch = batch.to(torch.device("meta"))
    entry_flops = entry_bytes = 0.0
    whole, step = True, _Step(model, batch.frames, batch.log_mel)
    try:
        targets = model.task.targets(batch.samples).to(torch.device("meta"))
        forward, every, kept = step.counted(targets)
    except (NotImplementedError, RuntimeError, TypeError):  # what depends on values cannot be counted without any
        whole = False
        forward, every, kept = _without_head(step)
        head = 2 * _WORD_PIECES * size_of(model.task.head)
        forward, every = forward + _FEW * head, every + 3 * _FEW * head
    if model.encoder.kept is not None:
        with FlopCounterMode(display=False) as counter:
            tokens = computed(model, batch.frames, batch.log_mel)
        entry_flops, entry_bytes = (
            counter.get_total_flops() / _FEW,
            sum(one.nbytes for streams in tokens for one in streams) / _FEW,
        )
    frozen, _ = model.encoder.parameter_counts()
    trained = sum(parameter.numel() for group in model.trained_parameters().values() for parameter in group)
    once = entry_flops  # the frozen layers are computed once, not in each epoch
    return Counts(
        train_flops=every / _FEW - once,
        answer_flops=forward / _FEW - once,
        entry_flops=entry_flops,
        activation_bytes=kept / _FEW,
        frozen_parameters=frozen,
        trained_parameters=trained,
        sample_bytes=cached,
        entry_bytes=entry_bytes,
        whole=whole,
    )


def _without_head(step: "_Step") -> tuple[float, float, float]:
    try:
        return step.counted(None)
    except (NotImplementedError, RuntimeError, TypeError) as error:  # an encoder of another package
        reason = " ".join(str(error).split())[:200]
        raise ExperimentError(f"The operations of this recipe's encoder cannot be counted ({reason}).") from None


class _Step:
    """Counts a forward and a backward pass."""

    def __init__(self, model: AVModel, frames: Tensor, log_mel: Tensor) -> None:
        self.model, self.frames, self.log_mel = model, frames, log_mel
        self._weights = {one.untyped_storage()._cdata for one in model.parameters()}

    def counted(self, targets: Any) -> tuple[float, float, float]:
        """Operations of the forward pass and of both, and bytes that are kept between them.

        Args:
            targets: Targets of the task; None leaves the head and the loss out.
        """
        kept: dict[int, Tensor] = {}
        with (
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(lambda one: self._note(one, kept), lambda one: one),
        ):
            loss = self._loss(targets)
            forward = counter.get_total_flops()
            if loss.requires_grad:
                torch.autograd.backward(loss)
        self.model.zero_grad(set_to_none=True)
        return forward, counter.get_total_flops(), sum(one.untyped_storage().nbytes() for one in kept.values())

    def _loss(self, targets: Any) -> Tensor:
        model, frames = self.model, self.frames
        if targets is None:
            tokens = model.encoder(*model.pixels(frames, self.log_mel))
            return sum((one.float().sum() for one in tokens), start=torch.zeros((), device="meta"))
        negatives = frames.flip(0) if model.task.head.frozen_negatives else None
        loss: Tensor = model.task.loss(model(frames, self.log_mel, targets, negatives), targets)[0]
        return loss

    def _note(self, one: Tensor, kept: dict[int, Tensor]) -> Tensor:
        where = one.untyped_storage()._cdata
        if where not in self._weights:
            kept[where] = one
        return one


def _on_meta(experiment: Experiment, labels: Labels | None, half: bool) -> AVModel:
    encoder, made = on_meta(backbones.shape_only(experiment.backbone), experiment, labels)
    model = AVModel(encoder, made, experiment.audio)
    if half:
        model.half_precision()
    if experiment.train.checkpointing:
        model.encoder.checkpoint_blocks()
    return model.train()


def rates_of(counts: Counts, experiment: Experiment, device: torch.device, share: int, assumed: Assumed) -> Rates:
    """The rates that follow from counts and from what is assumed about the machine.

    Args:
        counts: Operations and bytes.
        experiment: The experiment.
        device: Device to compute on.
        share: Number of samples of a batch that one process computes.
        assumed: What is assumed.
    """
    config, on_gpu = experiment.train, device.type != "cpu"
    half = planned_half(experiment, device)
    speed = 1e12 * assumed.utilisation * peak_tflops(device, half, config.threads, assumed)
    width, megabyte = (2 if half else 4), 1e6
    # Of the trained weights also the gradient and AdamW's two moments.
    weights = counts.frozen_parameters * width + 16 * counts.trained_parameters
    kept = counts.activation_bytes * share + weights
    batches = (config.readers + 2) * share * counts.sample_bytes
    model_bytes, state_bytes = 4.0 * counts.trained_parameters, 12.0 * counts.trained_parameters
    seconds = experiment.data.segments
    return Rates(
        start_seconds=assumed.start_seconds,
        decode_seconds=assumed.decode_share * seconds,
        workers_seconds=assumed.start_seconds / 2,
        frozen_seconds=counts.entry_flops / speed,
        read_seconds=counts.sample_bytes / (megabyte * assumed.read_mb_per_second),
        step_seconds=config.accumulate * share * counts.train_flops / speed,
        answer_seconds=counts.answer_flops / speed,
        save_seconds=(model_bytes + state_bytes) / (megabyte * assumed.read_mb_per_second),
        host_mb=assumed.host_mb + batches / megabyte + (0 if on_gpu else kept / megabyte),
        worker_mb=assumed.worker_mb,
        device_mb=assumed.gpu_context_mb + kept / megabyte if on_gpu else 0.0,
        sample_bytes=counts.sample_bytes,
        frozen_bytes=counts.entry_bytes,
        model_bytes=model_bytes,
        state_bytes=state_bytes,
    )


def planned_half(experiment: Experiment, device: torch.device) -> bool:
    """Whether a device, which need not be here, computes in bfloat16."""
    wanted = experiment.train.precision
    if wanted == "auto" and device.type == "cuda" and not torch.cuda.is_available():
        return True  # as every card since NVIDIA's Ampere
    return choose_precision(wanted, device) == "bf16"


def peak_tflops(device: torch.device, half: bool, threads: int, assumed: Assumed) -> float:
    """The peak of a device, in 10^12 operations a second."""
    if device.type != "cpu":
        return assumed.gpu_tflops_bf16 if half else assumed.gpu_tflops_fp32
    cores = threads or torch.get_num_threads()
    return cores * _megahertz() * 1e6 * assumed.cpu_flops_per_cycle * _wider(half) / 1e12


def _wider(half: bool) -> int:
    """How many times as many operations in a cycle the processor's AVX-512 and bfloat16 instructions make."""
    flags = Path("/proc/cpuinfo").read_text(errors="replace") if os.path.exists("/proc/cpuinfo") else ""
    return (2 if "avx512f" in flags else 1) * (2 if half else 1)


def _megahertz() -> float:
    known = Path("/proc/cpuinfo").read_text(errors="replace") if os.path.exists("/proc/cpuinfo") else ""
    found = re.findall(r"^cpu MHz\s*: ([\d.]+)", known, re.MULTILINE)
    return max(map(float, found), default=2500.0)
