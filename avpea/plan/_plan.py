"""The cost of a training: the rates of its parts, times how often each is done."""

import dataclasses
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from avpea import backbones, registry
from avpea.device import choose_device
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.files import finite
from avpea.plan._assumed import ASSUMED, Assumed
from avpea.plan._counted import Counts, counted, peak_tflops, planned_half, rates_of, utilisation, waiting_bytes
from avpea.plan._figures import learned
from avpea.plan._measured import measured
from avpea.plan._rates import Rates
from avpea.plan._sizes import Sizes, sizes_of
from avpea.plan.amounts import in_bytes, in_time
from avpea.preconditions import require_whole_patches
from avpea.sections import require_device_name
from avpea.tables import Table, how_many
from avpea.tasks import Task
from avpea.threads import usable_cores

__all__ = ["Need", "Plan", "place_of", "plan"]

_MANY = 8  # decoding starts processes from so many samples on
_SOURCES = {
    "measured": "measured here, with a few steps of this recipe on random inputs",
    "figures": "an estimate from operations and the speed that a GPU check has measured",
    "counted": "an estimate from operations and bytes",
}


@dataclass(frozen=True)
class Need:
    """What one part of a training takes.

    Attributes:
        part: Name of the part.
        amount: Seconds or bytes.
        why: How that comes about.
    """

    part: str
    amount: float
    why: str


@dataclass(frozen=True)
class Plan:
    """What a training takes, and why.

    Attributes:
        title: Title of the recipe.
        device: Device of a process.
        processes: Number of processes that train.
        source: Where the rates are from: `measured`, `figures` (of a GPU check) or `counted`.
        sizes: Number of samples.
        times: Seconds of each part.
        memory: Bytes, of this computer's memory and of each GPU.
        disk: Bytes that are written.
        rates: What the parts take once.
        counts: Operations and bytes of a sample.
        tflops: Operations in training, in 10^12 a second of training time, of all processes together.
        notes: What is assumed, in sentences, and what would fail.
    """

    title: str
    device: str
    processes: int
    source: Literal["measured", "figures", "counted"]
    sizes: Sizes
    times: tuple[Need, ...]
    memory: tuple[Need, ...]
    disk: tuple[Need, ...]
    rates: Rates
    counts: Counts
    tflops: float
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """All seconds of `avpea train`, without those of `avpea evaluate`."""
        return sum(need.amount for need in self.times if need.part != "evaluate")

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values: seconds and bytes."""
        groups = {"seconds": self.times, "memory_bytes": self.memory, "disk_bytes": self.disk}
        parts = {name: {need.part: round(need.amount, 1) for need in needs} for name, needs in groups.items()}
        found: dict[str, Any] = finite(
            {
                "title": self.title,
                "device": self.device,
                "processes": self.processes,
                "source": self.source,
                "samples": self.sizes.to_dict(),
                **parts,
                "total_seconds": round(self.seconds, 1),
                "rates": self.rates.to_dict(),
                "counts": dataclasses.asdict(self.counts),
                "tflops": round(self.tflops, 4),
                "notes": list(self.notes),
            }
        )
        return found

    def report(self) -> Iterator[str | Table]:
        """The plan as tables and sentences."""
        on = f"{self.device}, {how_many(self.processes, 'process', 'processes')}"
        title = f"{self.title or 'This recipe'} on {on}: {_SOURCES[self.source]}"
        rows: list[Sequence[str] | None] = [(need.part, in_time(need.amount), need.why) for need in self.times]
        rows.insert(len(rows) - 1, ("avpea train", in_time(self.seconds), "all of the above"))
        rows += [None, *((need.part, in_bytes(need.amount), need.why) for need in self.memory)]
        rows += [None, *((need.part, in_bytes(need.amount), need.why) for need in self.disk)]
        yield Table(["", "needs", "of which"], rows, title, left=1)
        yield from self.notes


def plan(
    experiment: Experiment,
    *,
    device: str | torch.device | None = None,
    samples: Sequence[int] = (),
    videos: int = 0,
    measure: bool = True,
    figures: str | Path | None = None,
    assumed: Assumed = ASSUMED,
) -> Plan:
    """What training an experiment takes; nothing is trained, and nothing is left on disk.

    A few steps are taken and timed in a process of their own, unless `measure` is false or the device is not here. Then
    operations and bytes are counted, and times follow from the peak of the device and the share of it that is reached:
    from the file of a GPU check, if one is given, else from what is assumed.

    Args:
        experiment: The experiment; `train.devices` is the number of processes.
        device: Device to train on, which need not be here, instead of `train.device`.
        samples: Numbers of samples to train, to select the best epoch, and to test on, for a data set that is not here;
            empty counts those of `data.root`.
        videos: Number of videos that these samples are of, if several are of one; 0 for one each.
        measure: Whether to measure.
        figures: File of a GPU check, with the key `plan`.
        assumed: What is assumed about machines.

    Raises:
        ExperimentError: The options do not fit each other, or the data.
        DataError: The data set cannot be read, or has nothing to train on.
        CheckpointError: The file of figures is damaged.
    """
    began = time.monotonic()
    config = experiment.train
    place, here = place_of(device or config.device)
    sizes = sizes_of(experiment, samples, videos)
    _require_work(experiment, sizes)
    require_whole_patches(experiment.backbone, backbones.shape_only(experiment.backbone))
    read = time.monotonic() - began
    share = math.ceil(config.batch_size / config.devices)
    source: Literal["measured", "figures", "counted"] = "counted"
    taught: list[str] = []
    if not (measure and here):
        source, assumed, taught = learned(figures, experiment, place, share, assumed)
    counts = counted(experiment, sizes.labels, planned_half(experiment, place), share)
    notes = [*([] if counts.whole else ["Operations of the head are estimated from its parameters."]), *taught]
    rates = rates_of(counts, experiment, place, share, assumed)
    if measure and here:
        source = "measured"
        rates = dataclasses.replace(rates, **measured(experiment, place, share, sizes))
        # Steps are taken with random weights and one batch; training also has the file of the pretrained ones in
        # memory, and further batches.
        more = waiting_bytes(experiment, share, rates.frozen_bytes or rates.sample_bytes)
        more += _weights(experiment, counts)
        rates = dataclasses.replace(rates, host_mb=rates.host_mb + more / 1e6)
        if not sizes.to_read:
            notes.append(_decoding(assumed))
    else:
        notes += [*([_speed(experiment, place, assumed)] if source == "counted" else []), _speed_of_files(assumed)]
        notes.append(_decoding(assumed))
    # What is not here may have as many cores as are asked for.
    cores = usable_cores() if here else config.devices * max(1, experiment.data.workers)
    times = tuple(_times(experiment, sizes, rates, read, cores, _exchange(counts, config.devices, assumed)))
    memory = tuple(_memory(experiment, sizes, rates, place, counts.activation_bytes * share))
    disk = tuple(_disk(experiment, sizes, rates))
    training = next(need.amount for need in times if need.part == "train")
    work = config.epochs * sizes.train * counts.train_flops / 1e12
    return Plan(
        title=experiment.title,
        device=str(place),
        processes=config.devices,
        source=source,
        sizes=sizes,
        times=times,
        memory=memory,
        disk=disk,
        rates=rates,
        counts=counts,
        tflops=work / max(training, 1e-9),
        notes=(*sizes.notes, *notes, *_breaks(sizes, rates, times, memory, disk, _reading(experiment, rates), here)),
    )


def _weights(experiment: Experiment, counts: Counts) -> float:
    """Bytes of the file of frozen weights."""
    return 0.0 if experiment.backbone.weights == "random" else 4.0 * counts.frozen_parameters


def place_of(wanted: str | torch.device) -> tuple[torch.device, bool]:
    """The device, and whether it is here."""
    require_device_name(wanted, "device")
    try:
        return choose_device(wanted), True
    except ExperimentError:
        return torch.device(wanted), False


def _require_work(experiment: Experiment, sizes: Sizes) -> None:
    devices, batch = experiment.train.devices, experiment.train.batch_size
    if devices > batch:
        raise ExperimentError(
            f"{devices} processes cannot share batches of {batch} videos; plan fewer, or raise --train.batch_size."
        )
    if devices > sizes.train:
        raise ExperimentError(
            f"{devices} processes cannot share {how_many(sizes.train, 'training sample')}; plan fewer."
        )


def _times(
    experiment: Experiment,
    sizes: Sizes,
    rates: Rates,
    read: float,
    cores: int,
    exchange: float,
) -> Iterator[Need]:
    config, devices = experiment.train, experiment.train.devices
    yield Need("start", rates.start_seconds + read, "loading, and reading the annotations")
    yield _decode("decode", experiment, sizes.to_decode, rates, cores)
    if rates.frozen_seconds:
        every = sizes.train + sizes.chosen
        why = f"{how_many(every, 'sample')}, {in_time(rates.frozen_seconds)} each, if none are kept yet"
        yield Need("frozen layers", every * rates.frozen_seconds / devices, why)
        if again := every - min(every, _kept(experiment, rates)):
            why = f"{config.epochs} × {how_many(again, 'sample')}, for which encoder.keep_gb leaves no room"
            yield Need("frozen layers again", config.epochs * again * rates.frozen_seconds / devices, why)
    steps = math.ceil(math.ceil(sizes.train / config.batch_size) / config.accumulate)
    step = max(rates.step_seconds, _reading(experiment, rates)) + exchange
    upmost = " at most" if config.patience else ""
    why = f"{config.epochs} × {how_many(steps, 'step')}{upmost}, {in_time(step)} each"
    yield Need("train", config.epochs * steps * step, why)
    each = sizes.chosen * rates.answer_seconds / devices
    why = f"{config.epochs} × {how_many(sizes.chosen, 'sample')}, {in_time(rates.answer_seconds)} each"
    yield Need("select", config.epochs * each, why)
    yield Need("save", config.epochs * rates.save_seconds, f"{config.epochs} × {in_time(rates.save_seconds)}")
    if again := _calibrated(experiment, sizes):
        yield Need("calibrate", again * rates.answer_seconds / devices, how_many(again, "sample"))
    decoding = _decode("", experiment, sizes.test_to_decode, rates, cores).amount
    each = rates.answer_seconds + rates.frozen_seconds
    first = f", after {how_many(sizes.test_to_decode, 'is', 'are')} decoded" if sizes.test_to_decode else ""
    why = f"{how_many(sizes.test, 'test sample')} in one process{first}"
    yield Need("evaluate", rates.start_seconds + read + decoding + sizes.test * each, why)


def _decode(part: str, experiment: Experiment, count: int, rates: Rates, cores: int) -> Need:
    workers = experiment.data.workers if count >= _MANY else 0
    processes = experiment.train.devices if part else 1
    together = min(max(1, workers) * processes, cores)
    seconds = count * rates.decode_seconds / together + rates.workers_seconds * (workers > 0)
    return Need(
        part, seconds, f"{how_many(count, 'sample')}, {in_time(rates.decode_seconds)} each, {together} at a time"
    )


def _reading(experiment: Experiment, rates: Rates) -> float:
    """Seconds that the threads need to read what a step takes."""
    config = experiment.train
    share = math.ceil(config.batch_size / config.devices) * config.accumulate
    seconds = rates.read_seconds
    if rates.frozen_bytes:
        seconds *= rates.frozen_bytes / rates.sample_bytes
    return share * seconds / max(1, config.readers)


def _exchange(counts: Counts, devices: int, assumed: Assumed) -> float:
    """Seconds in which processes add up their gradients: in a ring, each sends and gets them almost twice."""
    sent = 2 * (devices - 1) / devices * 4 * counts.trained_parameters
    return sent / (1e6 * assumed.exchange_mb_per_second)


def _calibrated(experiment: Experiment, sizes: Sizes) -> int:
    """Number of samples that are answered again after training."""
    task: type[Task] = registry.load("task", experiment.task.name)
    if task.chances is Task.chances:
        return 0
    return sizes.chosen + (0 if task.features is Task.features else sizes.train)


def _memory(
    experiment: Experiment, sizes: Sizes, rates: Rates, place: torch.device, activations: float
) -> Iterator[Need]:
    devices, workers = experiment.train.devices, experiment.data.workers
    process = 1e6 * rates.host_mb
    why = f"{devices} × {in_bytes(process)}" if devices > 1 else "one training process"
    yield Need("memory", devices * process, why)
    if sizes.to_decode >= _MANY and workers:
        each, count = 1e6 * rates.worker_mb, devices * workers
        decode = how_many(count, "process that decodes", "processes that decode")
        wait = how_many(devices, "that waits", "that wait")
        why = f"before that; {decode}, and {wait}, {in_bytes(each)} each"
        yield Need("memory to decode", (count + devices) * each, why)
    if place.type != "cpu":
        yield Need("memory of a GPU", 1e6 * rates.device_mb, f"of which activations {in_bytes(activations)}")


def _kept(experiment: Experiment, rates: Rates) -> int:
    """How many samples' outputs of frozen layers `encoder.keep_gb` has room for."""
    most = 1e9 * getattr(experiment.encoder, "keep_gb", 0.0)
    return int(most // rates.frozen_bytes) if most and rates.frozen_bytes else sys.maxsize


def _disk(experiment: Experiment, sizes: Sizes, rates: Rates) -> Iterator[Need]:
    every = sizes.entries + sizes.test_entries
    missing = sizes.to_decode + sizes.test_to_decode
    to_write = in_bytes(missing * rates.sample_bytes)
    why = f"{how_many(every, 'sample')}, {in_bytes(rates.sample_bytes)} each; {to_write} to write"
    yield Need("sample cache", every * rates.sample_bytes, why)
    if rates.frozen_bytes:
        kept = min(every, _kept(experiment, rates))
        why = f"{how_many(kept, 'sample')}, {in_bytes(rates.frozen_bytes)} each"
        yield Need("frozen tokens", kept * rates.frozen_bytes, why if kept == every else f"{why}, of {every}")
    yield Need("run", rates.model_bytes + rates.state_bytes, "the best model, and the state to resume from")


def _breaks(
    sizes: Sizes,
    rates: Rates,
    times: Sequence[Need],
    memory: Sequence[Need],
    disk: Sequence[Need],
    reading: float,
    here: bool,
) -> Iterator[str]:
    """What would fail or be slow, in sentences."""
    seconds = {need.part: need.amount for need in times}
    missing = (sizes.to_decode + sizes.test_to_decode) * rates.sample_bytes
    missing += sum(need.amount for need in disk if need.part != "sample cache")
    if sizes.folder is not None and missing > (free := _free(sizes.folder)):
        yield (
            f"The disk is too small: {in_bytes(missing)} are to be written, and {sizes.folder} has {in_bytes(free)}; "
            "--data.cache names another place."
        )
    needs = max(need.amount for need in memory if need.part != "memory of a GPU")
    if here and (available := _available()) and needs > available:
        yield (
            f"The memory is too small: {in_bytes(needs)} of {in_bytes(available)}; a smaller --train.batch_size with "
            "more --train.accumulate needs less."
        )
    if reading > rates.step_seconds:
        yield (
            f"Reading is the limit: a step's samples take {in_time(reading)} to read, and "
            f"{in_time(rates.step_seconds)} to compute; more --train.readers help."
        )
    if seconds["decode"] > seconds["train"]:
        yield (
            "Decoding takes longer than training; more --data.workers help, and so do other computers that fill the "
            "same cache."
        )


def _speed(experiment: Experiment, place: torch.device, assumed: Assumed) -> str:
    half = planned_half(experiment, place)
    peak, reached = (of(place, half, experiment.train, assumed) for of in (peak_tflops, utilisation))
    on_gpu = place.type != "cpu"
    kind = "bfloat16" if half else "float32 with TF32" if on_gpu and experiment.train.tf32 else "float32"
    options = "--utilisation, --tflops" if on_gpu else "--utilisation"
    return f"Assumed: {reached:.0%} of a peak of {peak:,.3g} TFLOP/s in {kind} ({options})."


def _speed_of_files(assumed: Assumed) -> str:
    return f"Assumed: samples are read and states saved at {assumed.read_mb_per_second:,.0f} MB/s."


def _decoding(assumed: Assumed) -> str:
    return f"Assumed: a second of video is decoded in {assumed.decode_share:g} s of one core."


def _free(folder: Path) -> float:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)


def _available() -> float:
    """Memory that is available, in bytes; 0 if that is not known."""
    known = Path("/proc/meminfo")
    if not known.is_file():
        return 0.0
    return 1024 * float(known.read_text().partition("MemAvailable:")[2].split()[0])
