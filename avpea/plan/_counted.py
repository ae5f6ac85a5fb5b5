"""Floating-point operations and bytes of a recipe, counted on the meta device, and the rates that follow from them."""

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from avpea import backbones
from avpea.accounting import on_meta, size_of
from avpea.compare.cost import entered, random_batch
from avpea.data.cache import Batch
from avpea.device import choose_precision
from avpea.encoders import Streams
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.labels import Labels
from avpea.model import AVModel
from avpea.options import countable
from avpea.plan._assumed import Assumed
from avpea.plan._memory import Taken, fused_attention
from avpea.plan._rates import Rates
from avpea.sections import TrainOptions

__all__ = ["Counts", "counted", "peak_tflops", "planned_half", "rates_of", "utilisation", "waiting_bytes"]

_FEW = 2  # samples that are counted; the others are alike
_WORD_PIECES = 30  # of a text
_WITHOUT_VALUES = (NotImplementedError, RuntimeError, TypeError)  # of what depends on values, which there are none of


@dataclass(frozen=True)
class Counts:
    """Operations and bytes of a recipe.

    Attributes:
        train_flops: Floating-point operations of a sample in training, a multiplication and an addition being two.
        answer_flops: The same in evaluation.
        entry_flops: The same for what the frozen layers make of a sample, if that is kept.
        activation_bytes: What a sample's forward pass keeps for the backward pass.
        step_bytes: The most that a step takes at a time: weights, gradients, the optimiser's moments, and activations.
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
    step_bytes: float
    frozen_parameters: int
    trained_parameters: int
    sample_bytes: float
    entry_bytes: float
    whole: bool


def counted(experiment: Experiment, labels: Labels | None, half: bool, share: int = 0) -> Counts:
    """Count operations and bytes; nothing is computed, and no weights are loaded.

    Args:
        experiment: The experiment.
        labels: Labels of the data set; None for as many as the best-known data set of the task has.
        half: Whether it is computed in bfloat16.
        share: Number of samples of a batch that one process computes; 0 for all.

    Raises:
        ExperimentError: Options that do not fit each other.
    """
    with countable(experiment):
        return _counted(experiment, labels, half, share or experiment.train.batch_size)


def _counted(experiment: Experiment, labels: Labels | None, half: bool, share: int) -> Counts:
    model = _on_meta(experiment, labels, half)
    batch = random_batch(experiment.override({"train.batch_size": _FEW}), model)
    cached = sum(one.nbytes for one in (batch.frames, batch.log_mel)) / _FEW
    cached *= experiment.data.segments / (experiment.train.segments or experiment.data.segments)
    step = _Step(model, _on_meta_of(batch, share, model))
    try:
        whole, found = True, step.counted()
    except _WITHOUT_VALUES:
        whole, found = False, _without_head(step, 2 * _WORD_PIECES * share * size_of(model.task.head))
    frozen, _ = model.encoder.parameter_counts()
    trained = sum(parameter.numel() for group in model.trained_parameters().values() for parameter in group)
    return Counts(
        train_flops=found.every / share,
        answer_flops=found.forward / share,
        entry_flops=step.entry_flops / share,
        activation_bytes=found.kept / share,
        step_bytes=found.most + 8 * trained,  # AdamW has two moments
        frozen_parameters=frozen,
        trained_parameters=trained,
        sample_bytes=cached,
        entry_bytes=step.entry_bytes / share,
        whole=whole,
    )


def _on_meta_of(batch: Batch, videos: int, model: AVModel) -> Batch:
    """A batch on the meta device with another number of videos."""
    meta = batch.to(torch.device("meta"))
    frames, log_mel = (one.new_empty((videos, *one.shape[1:])) for one in (meta.frames, meta.log_mel))
    samples = tuple(model.task.examples(videos, batch.samples[0].segments))
    return dataclasses.replace(meta, frames=frames, log_mel=log_mel, samples=samples)


class _Found(NamedTuple):
    """What a step takes.

    Attributes:
        forward: Operations of the forward pass.
        every: Operations of the forward and the backward pass.
        kept: Bytes that are kept between them.
        most: The most memory at a time, in bytes, without the optimiser's moments.
    """

    forward: float
    every: float
    kept: float
    most: float


class _Step:
    """Counts a forward and a backward pass.

    Attributes:
        entry_flops: Operations of the frozen layers, if what they make is kept.
        entry_bytes: What is kept of them.
    """

    def __init__(self, model: AVModel, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.entry_flops = self.entry_bytes = 0.0
        self._weights = {one.untyped_storage()._cdata for one in model.parameters()}
        self._tokens: tuple[Streams, ...] | None = None
        if model.encoder.kept is not None:
            with Taken() as taken, fused_attention():
                self._tokens = entered(model, batch)
            self.entry_flops = taken.flops
            self.entry_bytes = sum(one.nbytes for streams in self._tokens for one in streams)

    def counted(self, head: bool = True) -> _Found:
        """Count with the head and the loss, or without."""
        kept: dict[int, int] = {}
        with Taken() as taken, fused_attention():
            for one in (*self.model.parameters(), *self.model.buffers(), self.batch.frames, self.batch.log_mel):
                taken.note(one)
            with torch.autograd.graph.saved_tensors_hooks(lambda one: self._note(one, kept), lambda one: one):
                loss = self._loss() if head else self._without_head()
            forward, between = taken.flops, sum(kept.values())
            if loss.requires_grad:
                torch.autograd.backward(loss)
        self.model.zero_grad(set_to_none=True)
        return _Found(forward, taken.flops, between, taken.most)

    def _loss(self) -> Tensor:
        model, frames, task = self.model, self.batch.frames, self.model.task
        targets = task.targets(self.batch.samples).to(torch.device("meta"))
        if self._tokens is None:
            negatives = frames.flip(0) if task.head.frozen_negatives else None
            output = model(frames, self.batch.log_mel, targets, negatives)
        else:
            output = task(model.resume(self._tokens, frames.shape[1], frames.shape[2]), targets)
        loss: Tensor = task.loss(output, targets)[0]
        return loss

    def _without_head(self) -> Tensor:
        frames, encoder = self.batch.frames, self.model.encoder
        if self._tokens is None:
            tokens = encoder(*self.model.pixels(frames, self.batch.log_mel))
        else:
            encoded = self.model.resume(self._tokens, frames.shape[1], frames.shape[2])
            tokens = (encoded.visual, encoded.audio)
        return sum((one.float().sum() for one in tokens), start=torch.zeros((), device="meta"))

    def _note(self, one: Tensor, kept: dict[int, int]) -> Tensor:
        storage = one.untyped_storage()
        if storage._cdata not in self._weights:
            kept[storage._cdata] = storage.nbytes()
        return one


def _without_head(step: _Step, head: float) -> _Found:
    """What is counted if the head depends on values; `head` is an estimate of its operations in a forward pass."""
    try:
        found = step.counted(head=False)
    except _WITHOUT_VALUES as error:  # an encoder of another package
        reason = " ".join(str(error).split())[:200]
        raise ExperimentError(f"The operations of this recipe's encoder cannot be counted ({reason}).") from None
    return found._replace(forward=found.forward + head, every=found.every + 3 * head)


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
        counts: Operations and bytes, those of a step with its share of a batch.
        experiment: The experiment.
        device: Device to compute on.
        share: Number of samples of a batch that one process computes.
        assumed: What is assumed.
    """
    config, on_gpu = experiment.train, device.type != "cpu"
    half = planned_half(experiment, device)
    peak, reached = 1e12 * peak_tflops(device, half, config, assumed), utilisation(device, half, config, assumed)
    speed, answering = reached * peak, (assumed.answering or reached) * peak
    megabyte = 1e6
    batches = waiting_bytes(experiment, share, counts.entry_bytes or counts.sample_bytes)
    model_bytes, state_bytes = 4.0 * counts.trained_parameters, 12.0 * counts.trained_parameters
    seconds = experiment.data.segments
    return Rates(
        start_seconds=assumed.start_seconds,
        decode_seconds=assumed.decode_share * seconds,
        workers_seconds=assumed.start_seconds / 2,
        frozen_seconds=counts.entry_flops / answering,
        read_seconds=counts.sample_bytes / (megabyte * assumed.read_mb_per_second),
        step_seconds=config.accumulate * share * counts.train_flops / speed,
        answer_seconds=counts.answer_flops / answering,
        save_seconds=(model_bytes + state_bytes) / (megabyte * assumed.read_mb_per_second),
        host_mb=assumed.host_mb + batches / megabyte + (assumed.driver_mb if on_gpu else counts.step_bytes / megabyte),
        worker_mb=assumed.worker_mb,
        device_mb=assumed.gpu_context_mb + counts.step_bytes / megabyte if on_gpu else 0.0,
        sample_bytes=counts.sample_bytes,
        frozen_bytes=counts.entry_bytes,
        model_bytes=model_bytes,
        state_bytes=state_bytes,
    )


def waiting_bytes(experiment: Experiment, share: int, each: float) -> float:
    """Bytes of all inputs in memory at a time: those that a step accumulates, those read ahead, and the next one's.

    Args:
        experiment: The experiment.
        share: Number of samples of a batch that one process computes.
        each: Bytes of a sample, or of what is kept of the frozen layers for it.
    """
    return (experiment.train.accumulate + experiment.train.readers + 1) * share * each


def planned_half(experiment: Experiment, device: torch.device) -> bool:
    """Whether a device, which need not be here, computes in bfloat16."""
    wanted = experiment.train.precision
    if wanted == "auto" and device.type == "cuda" and not torch.cuda.is_available():
        return True  # as every card since NVIDIA's Ampere
    return choose_precision(wanted, device) == "bf16"


def peak_tflops(device: torch.device, half: bool, config: TrainOptions, assumed: Assumed) -> float:
    """The peak of a device, in 10^12 operations a second."""
    if device.type != "cpu":
        whole = assumed.gpu_tflops_tf32 if config.tf32 else assumed.gpu_tflops_fp32
        return assumed.gpu_tflops_bf16 if half else whole
    cores = config.threads or torch.get_num_threads()
    return cores * _megahertz() * 1e6 * assumed.cpu_flops_per_cycle * _wider(half) / 1e12


def utilisation(device: torch.device, half: bool, config: TrainOptions, assumed: Assumed) -> float:
    """The share of its peak that a device reaches in training."""
    if assumed.utilisation:
        return assumed.utilisation
    if device.type == "cpu":
        return assumed.cpu_reached
    whole = assumed.gpu_reached_tf32 if config.tf32 else assumed.gpu_reached_fp32
    return assumed.gpu_reached_bf16 if half else whole


def _wider(half: bool) -> int:
    """How many times as many operations in a cycle the processor's AVX-512 and bfloat16 instructions make."""
    flags = Path("/proc/cpuinfo").read_text(errors="replace") if os.path.exists("/proc/cpuinfo") else ""
    return (2 if "avx512f" in flags else 1) * (2 if half else 1)


def _megahertz() -> float:
    known = Path("/proc/cpuinfo").read_text(errors="replace") if os.path.exists("/proc/cpuinfo") else ""
    found = re.findall(r"^cpu MHz\s*: ([\d.]+)", known, re.MULTILINE)
    return max(map(float, found), default=2500.0)
