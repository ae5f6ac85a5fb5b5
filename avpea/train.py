"""Train: one visible loop for every task, adapter, backbone and data set."""

import contextlib
import itertools
import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avpea import checkpoint, data, distributed
from avpea.activations import kept_activations
from avpea.augment import require_augmentable
from avpea.calibrate import fit
from avpea.data.identity import DataIdentity, copies, identify
from avpea.device import (
    choose_device,
    cpu_threads,
    enough_memory,
    float32_products,
    kept_random_state,
    own_precision,
    placed,
)
from avpea.draws import drawing, seed_of
from avpea.errors import (
    CheckpointError,
    DataError,
    ExperimentError,
    MediaError,
    TrainingError,
    WeightsError,
    WriteError,
)
from avpea.evaluate import infer, prepare
from avpea.experiment import Experiment
from avpea.feeding import Feed, Inputs, Place
from avpea.files import finite
from avpea.labels import Annotations, weight_of
from avpea.locks import locked
from avpea.model import build
from avpea.optimizer import gate_learning_rate, make_optimizer, rate_factor
from avpea.preconditions import (
    require_needed,
    require_same,
    require_same_data,
    require_same_run,
    require_schedule,
    require_videos,
    require_whole_patches,
    smaller,
    with_all_processes,
)
from avpea.progress import note, progress_bar, say
from avpea.run import RunFolder, StopRequest
from avpea.sections import TrainOptions
from avpea.tables import how_many
from avpea.trackers import About, Trackers

__all__ = ["TrainResult", "train"]


@dataclass(frozen=True)
class TrainResult:
    """The result of `train`.

    Attributes:
        run: The run folder.
        best: The best epoch with its metric.
        epochs: The metrics of all epochs.
        finished_before: Whether the run was finished already, so that nothing was trained.
        compiled: Whether the frozen blocks were compiled in the last epoch.
    """

    run: Path
    best: dict[str, Any]
    epochs: list[dict[str, Any]]
    finished_before: bool = False
    compiled: bool = False


@dataclass
class Position:
    """How far a run has come; saved with weights, optimiser and random state, so that training can resume."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the current epoch
    step: int = 0  # optimiser steps
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)  # of the current epoch's losses, over answers
    best: dict[str, Any] = field(default_factory=dict)
    finished: int = 0  # the epochs that were asked for, once there is nothing left to train of them
    metrics: list[dict[str, Any]] = field(default_factory=list)  # the lines of metrics.jsonl
    stopped: int = 0  # the epoch at which training was finished, from which patience counts if it is extended

    @classmethod
    def read(cls, values: Mapping[str, Any], source: Path) -> "Position":
        """The position in a saved state.

        Raises:
            CheckpointError: It has values that this version does not know.
        """
        names = {item.name for item in fields(cls)}
        if unknown := sorted(values.keys() - names):
            raise CheckpointError(f"{source} has {unknown[:3]}, which this version does not know; update avpea.")
        return cls(**values)


@own_precision()
@kept_random_state()
@torch.inference_mode(False)
@torch.enable_grad()
def train(
    experiment: Experiment, run: str | Path, *, extend: int = 0, device: str | None = None, progress: bool = True
) -> TrainResult:
    """Train an experiment in a run folder, or resume it where an earlier call was interrupted.

    A resumed run ends in the same weights, bit for bit, as an uninterrupted one (on the same machine with the same
    number of threads). A finished run is left as it is. The data must be the same in all sessions of a run.

    Whether gradients and autocast are on around the call does not matter, and torch's random state is left as it was.

    With `extend` a finished run is trained further from its saved state, for that many epochs more than
    `experiment.train.epochs`. In these epochs the learning rate is what it is at their place in a run of all epochs:
    `constant` and `step` go on as they were, and with `cosine` and `linear`, which had come down to 0, it begins higher
    again and comes down to 0 at the new end.

    Args:
        experiment: The experiment to train.
        run: Folder of the run; `avpea.run.RunFolder` lists its files.
        extend: Number of further epochs for a finished run.
        device: Device to train on instead of `train.device`; the run does not remember it.
        progress: Show progress bars on stderr.

    Raises:
        ExperimentError: The experiment does not fit the data set or this machine.
        DataError: The data set cannot be read, or a split has no usable video.
        WeightsError: The frozen weights cannot be loaded.
        CheckpointError: The folder holds another run, a run of other data or something else, its state is unreadable,
            it cannot be written to, or it cannot be extended; or another process trains in it (`InUseError`).
        TrainingError: The loss or its gradient is not finite; the last saved state is kept.
        DeviceMemoryError: The device's memory is too small for a step; the last saved state is kept.
        Stopped: Ctrl-C was pressed (or SIGTERM or SIGHUP came); the state after the last optimiser step is saved first.
    """
    here = distributed.launched()
    try:
        meeting = distributed.meet(here)
    except ExperimentError:
        with_all_processes(experiment, here)  # what is wrong with their number comes before that they are not there
        raise
    try:
        with contextlib.ExitStack() as held:
            with distributed.prepared(meeting):  # nothing is written before all have read what was there
                start = _prepared(experiment, Path(os.path.expanduser(run)), extend, device, meeting.here, held)
            with distributed.joined(meeting, start.device):
                return _train(start, progress, meeting.here.first)
    except WriteError as error:
        kept = "What was saved before is kept; the same command goes on from there, or begins anew if nothing was."
        raise CheckpointError(f"{error} {kept}") from None


@dataclass(frozen=True)
class _Start:
    """What a training begins with.

    Attributes:
        folder: The run folder, with the experiment.
        annotations: The data set.
        identity: What the data set is now.
        device: Device of this process.
        sentences: What has changed in the data set that does not matter, for the user.
    """

    folder: RunFolder
    annotations: Annotations
    identity: DataIdentity
    device: torch.device
    sentences: Sequence[str]


def _prepared(
    experiment: Experiment,
    run: Path,
    extend: int,
    wanted: str | None,
    here: distributed.World,
    held: contextlib.ExitStack,
) -> _Start:
    """Read and check what there is; what `held` gets is held as long as the training takes."""
    device = choose_device(experiment.train.device, "train.device") if wanted is None else choose_device(wanted)
    if here.first:
        held.enter_context(locked(run, "is being trained"))
    held.enter_context(enough_memory(device, smaller(experiment.train, device)))
    folder = RunFolder(run, with_all_processes(experiment, here), extend)
    if not folder.finished:
        folder.require_writable()
    if here.first and not folder.position and folder.model.is_file():
        note(f"{folder.state} is not there, so {run} is trained from the start, and its model is replaced.")
    experiment = folder.experiment
    device = placed(device, here.local_rank, experiment.train.devices)
    annotations = data.read(experiment.data)
    require_needed(experiment, annotations)
    identity = identify(experiment.data, annotations)
    sentences = folder.require_same_data(identity, annotations.labels)
    here.global_statistics = experiment.train.batch_norm == "whole"
    return _Start(folder, annotations, identity, device, sentences)


def _about_copies(annotations: Annotations) -> list[str]:
    """A sentence if videos are there under several names, which may be in different splits or of different classes."""
    found = copies(annotations.samples)
    if not found:
        return []
    there = how_many(len(found), "video is", "videos are")
    return [f"{there} there under several names, such as {found[0]}; `avpea data verify` names all."]


def _train(start: _Start, progress: bool, first: bool) -> TrainResult:
    folder = start.folder
    require_same(folder.experiment, folder.path)
    require_same_run(folder)
    require_same_data(start.identity)
    for sentence in [*start.sentences, *data.keep_division(start.annotations)] if first else ():
        note(sentence)
    if folder.finished and not folder.lost_model:
        with contextlib.suppress(WeightsError):  # files that are gone are not needed any more
            if folder.moved:
                folder.require_same_weights(build(folder.experiment, start.annotations.labels).encoder.fingerprints())
        if first:
            folder.restore_metrics()
            _tell_trackers(folder, progress)
        epochs = folder.metrics()
        return TrainResult(folder.path, folder.position["best"], epochs, True, _compiled_last(epochs))
    with cpu_threads(folder.experiment.train.threads):
        return _Training(start, progress and first).run()


def _tell_trackers(folder: RunFolder, progress: bool) -> None:
    """Tell the trackers of a finished run what they have missed, such as while there was no network."""
    trackers = trackers_of(folder, folder.metrics(), quiet=not progress)
    if trackers.behind:
        with trackers:
            trackers.best = folder.position["best"]


def trackers_of(folder: RunFolder, records: Sequence[Mapping[str, Any]], quiet: bool) -> Trackers:
    """The trackers of a run, which follow the lines of its metrics."""
    experiment = folder.experiment
    return Trackers(experiment.train.trackers, About(folder.path, experiment.to_dict()), records, quiet)


def _compiled_last(epochs: Sequence[Mapping[str, Any]]) -> bool:
    return bool(epochs) and bool(epochs[-1].get("compiled"))


@dataclass
class Asked:
    """What is asked for in a step: to stop, or to save the state.

    Attributes:
        stop: Whether the user wants to stop.
        saved: When the state was last saved.
        every_seconds: How often it is saved; 0 is never.
        anything: Whether anything was asked for by the end of the step, of any process.
    """

    stop: StopRequest
    saved: float
    every_seconds: float
    anything: bool = False

    def now(self) -> list[bool]:
        """Whether to stop, and whether the state is due."""
        return [self.stop.requested > 0, 0 < self.every_seconds < time.monotonic() - self.saved]

    def take(self, stop: bool, save: bool) -> None:
        """Take note of what the processes were asked for."""
        self.stop.requested = self.stop.requested or (signal.SIGINT if stop else 0)
        self.anything = stop or save


class _Training:
    def __init__(self, start: _Start, progress: bool) -> None:
        self.folder, self.identity, self.device = folder, identity, _ = start.folder, start.identity, start.device
        self.annotations, self.experiment = start.annotations, folder.experiment
        self.progress, self.writes, experiment = progress, distributed.world().first, folder.experiment
        self.config = config = experiment.train
        # What fails fast (weights, adapter) comes before the videos, which take a while.
        torch.manual_seed(config.seed)
        model = build(experiment, self.annotations.labels)
        model.task.require_metrics()
        require_augmentable(experiment, model.task)
        require_schedule(config)
        if not folder.state.is_file():
            require_whole_patches(experiment.backbone, model.encoder.backbone)
        folder.require_same_weights(model.encoder.fingerprints())
        self.model, self.uncompiled = model.to_train(config, self.device)
        self.tell_uncompiled()
        self.start = folder.origin.start if folder.state.is_file() else ""
        if config.start_from and not folder.state.is_file():
            _, self.start = checkpoint.take_over(Path(config.start_from), self.model)
        require_videos(self.annotations, config.select_on)
        splits = dict.fromkeys(["train", config.select_on])
        self.cache, self.samples, report = prepare(experiment, self.annotations, list(splits), progress)
        if self.writes:
            folder.open(report.broken, identity)
        overview = self.annotations.labels.overview({**self.annotations.splits, **self.samples})
        for line in (*self.annotations.notes, *overview, *_about_copies(self.annotations)):
            self.say(line)
        self.frozen = kept_activations(self.model, self.cache)
        if self.frozen is not None:
            wanted = [sample for some in self.samples.values() for sample in some]
            self.frozen.fill(wanted[distributed.world().rank :: distributed.world().size], progress)
            distributed.wait()
        self.model.task.prepare(self.samples["train"])
        self.optimizer = make_optimizer(self.model, config)
        self.position, self.counted = Position(), time.perf_counter()
        if folder.state.is_file():
            self.position = Position.read(checkpoint.load_state(folder.state, self.model, self.optimizer), folder.state)
        distributed.agreed(list(self.model.trained_state().values()))
        pinned = self.device.type == "cuda"
        self.feed = Feed(experiment, self.cache, self.frozen, self.model.task, self.samples["train"], pinned)
        if not self.writes:
            return
        folder.restore_metrics()
        self.position.metrics = folder.metrics()  # states of version 0.1.0 have none
        if folder.lost_model:
            note(f"{folder.lost_model} It is written again from the training state, which is of the same epoch.")
            self.save_model(self.position.best)
        folder.add_environment(self.device)

    def ended(self) -> bool:
        """Whether the last epoch is done, or `patience` epochs have passed without a better one."""
        position, patience = self.position, self.config.patience
        without = position.epoch - max(position.best.get("epoch", 0), position.stopped)
        return position.epoch >= self.config.epochs or 0 < patience <= without

    def tell_uncompiled(self) -> None:
        """Say, once, that the frozen blocks cannot be compiled."""
        if self.uncompiled and self.writes:
            note(f"torch cannot compile the frozen blocks here ({self.uncompiled}); training goes on uncompiled.")

    def is_compiled(self) -> bool:
        """Whether the frozen blocks are compiled; the first time that they no longer are, that is said."""
        compiled = self.model.encoder.compiled
        if compiled is not None and compiled.obstacle and not self.uncompiled:
            self.uncompiled = compiled.obstacle
            self.tell_uncompiled()
        return compiled is not None and not compiled.obstacle

    def run(self) -> TrainResult:
        """Train until it has ended.

        Raises:
            DataError: A file that could be read before cannot be read any more.
        """
        position, quiet = self.position, not self.progress
        trackers = trackers_of(self.folder, position.metrics, quiet) if self.writes else contextlib.nullcontext()
        try:
            with trackers as following, float32_products(self.device, self.config.tf32):
                return self._run(following)
        except MediaError as error:
            raise DataError(
                f"{error} It could be read when training began. Put the data back as it was; the same command goes on "
                f"from the last state in {self.folder.path}."
            ) from None

    def _run(self, trackers: Trackers | None) -> TrainResult:
        """After each epoch evaluate, keep the best model and save the state."""
        position, chosen = self.position, self.config.select_on
        with StopRequest() as stop:
            while not self.ended():
                self.counted = time.perf_counter()
                waited = self.feed.waited_seconds
                losses = self.train_epoch(stop)
                waited = self.feed.waited_seconds - waited
                distributed.agreed(
                    [value for value in self.model.trained_state().values() if value.is_floating_point()]
                )
                result = infer(self.model, self.cache, self.samples[chosen], self.config.batch_size, loss=True)
                position.epoch, position.batch, position.sums = position.epoch + 1, 0, {}
                self.count_seconds()
                metric = self.model.task.figure.metric
                reached = result.metrics[metric]
                if self.config.keep == "last" or reached > position.best.get(metric, -1.0):
                    position.best = {"epoch": position.epoch, "selected_on": chosen, metric: reached}
                    position.best |= {"kept": "last"} if self.config.keep == "last" else {}
                    self.save_model(position.best)
                record: dict[str, Any] = {"epoch": position.epoch, "seconds": round(position.seconds, 1), **losses}
                record |= {f"{chosen}/loss": result.loss, f"{chosen}/{metric}": reached}
                record |= {"waited_seconds": round(waited, 2), "gates": self.model.gates()}
                record |= {"compiled": self.is_compiled()} if self.config.compile else {}
                kept = self.folder.log(record, position.metrics) if self.writes else finite(record)
                position.metrics.append(kept)
                self.save_state()
                if trackers is not None:
                    trackers.best = position.best
                    trackers.catch_up()
                self.say(self.epoch_line(kept))
            # What came while the last epoch was evaluated; its state is saved.
            stop.requested = next((one for one in distributed.everyones(stop.requested) if one), 0)
            stop.obey()
        self.calibrate()  # before the run counts as finished, so that it is done even if it is interrupted now
        position.finished, position.stopped = self.config.epochs, position.epoch
        self.save_state()
        epochs = self.folder.metrics()
        return TrainResult(self.folder.path, position.best, epochs, compiled=_compiled_last(epochs))

    def epoch_line(self, record: dict[str, Any]) -> str:
        """What an epoch has reached, in a sentence."""
        chosen, figure, best = self.config.select_on, self.model.task.figure, self.position.best
        loss = record[f"{chosen}/loss"]
        valued = "" if loss is None else f", on {chosen} {loss:.3f}"
        reached = figure.reached(record[f"{chosen}/{figure.metric}"])
        line = f"Epoch {record['epoch']}/{self.config.epochs}: loss {record['train/loss']:.3f}{valued}; {reached}"
        if self.config.keep == "last":
            return f"{line} on {chosen}."
        place = "the best so far" if best["epoch"] == record["epoch"] else f"best is epoch {best['epoch']}"
        stops = self.ended() and record["epoch"] < self.config.epochs
        more = f"; {self.config.patience} epochs without a better one, so training stops" if stops else ""
        return f"{line} on {chosen} ({place}{more})."

    def say(self, line: str) -> None:
        """Print a sentence on stderr, unless training is to be quiet."""
        if self.progress:
            say(line)

    def train_epoch(self, stop: StopRequest) -> dict[str, float]:
        """Train the rest of an epoch, from `position.batch` on, and return the mean of each loss."""
        position, config, samples = self.position, self.config, self.samples["train"]
        batches = epoch_batches(len(samples), config, position.epoch)
        began = saved = time.monotonic()
        waited = self.feed.waited_seconds
        title, done = f"Epoch {position.epoch + 1}/{config.epochs}", sum(map(len, batches[: position.batch]))
        left = [
            Place(position.epoch, number, tuple(samples[i] for i in batches[number]))
            for number in range(position.batch, len(batches))
        ]
        self.model.train()
        with (
            progress_bar(title, len(samples), shown=self.progress, done=done) as advance,
            self.feed.ahead(left) as ahead,
        ):
            while together := list(itertools.islice(ahead, config.accumulate)):
                asked = Asked(stop, saved, config.checkpoint_minutes * 60 if self.writes else 0)
                loss = self.step(together, len(batches), asked)
                position.batch += len(together)
                share = (self.feed.waited_seconds - waited) / max(time.monotonic() - began, 1e-9)
                told = f"loss {loss:.3f}" + (f", waits {share:.0%}" if share >= 0.05 else "")
                advance(sum(len(inputs.place.samples) for inputs in together), told)
                if asked.anything:
                    self.count_seconds()
                    self.save_state()
                    saved = time.monotonic()
                    stop.obey()
        answers = weight_of(samples)
        return {f"train/{name}": value / answers for name, value in position.sums.items()}

    def step(self, together: Sequence[Inputs], batches_in_epoch: int, asked: Asked) -> float:
        """Take one optimiser step over one batch (with accumulation: several) and return the mean loss.

        Args:
            together: This process's share of the batches.
            batches_in_epoch: Number of batches in an epoch.
            asked: Is told what was asked for by the end of the step.
        """
        position = self.position
        answers = sum(inputs.place.weight for inputs in together)
        sums: dict[str, float] = {}
        for inputs in together:
            weight = inputs.place.weight
            with distributed.share(inputs.weight, weight, len(inputs.place.samples)) as share:
                loss, terms = self.loss(inputs)
                # By answers, so that a smaller last batch weighs less.
                torch.autograd.backward(loss * (share * weight / answers))
            for name, value in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0.0) + value.item() * weight * share
        sums = self.exchanged(sums, asked)
        mean = sums["loss"] / answers
        if not math.isfinite(mean):
            raise TrainingError(self._not_finite(f"The loss became {mean}"))
        for name, added in sums.items():
            position.sums[name] = position.sums.get(name, 0.0) + added
        factor = rate_factor(self.config, position.step, math.ceil(batches_in_epoch / self.config.accumulate))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
            norm = nn.utils.clip_grad_norm_(group["params"], self.config.clip_norm or math.inf)
            if not norm.isfinite():  # Adam would spread it to every weight while the loss is still finite
                raise TrainingError(self._not_finite(f"The gradient's norm became {norm.item()}"))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        position.step += 1
        return mean

    def exchanged(self, sums: dict[str, float], asked: Asked) -> dict[str, float]:
        """Add up the gradients of all processes, and what else they have to tell each other."""
        if distributed.world().alone:
            asked.take(*asked.now())
            return sums
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        told = [*sums.values(), *asked.now(), *(one.grad is not None for one in parameters)]
        numbers = torch.tensor(told, dtype=torch.float64, device=self.device)
        distributed.add_up([numbers])
        values = numbers.tolist()
        asked.take(*(value > 0 for value in values[len(sums) : len(sums) + 2]))
        for parameter, used in zip(parameters, values[len(sums) + 2 :], strict=True):
            if used and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        distributed.add_up([parameter.grad for parameter in parameters if parameter.grad is not None])
        return dict(zip(sums, values[: len(sums)], strict=True))

    def loss(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of this process's share of a batch, and its terms."""
        device, task, place = self.device, self.model.task, inputs.place
        targets = inputs.targets.to(device)
        # Dropout draws from torch's global generators.
        torch.manual_seed(seed_of(self.config.seed, place.epoch, place.number, distributed.world().rank))
        with drawing(self.config.seed, place.epoch, place.number):
            if inputs.entered is not None:
                assert self.frozen is not None
                return task.loss(task(self.frozen.resumed(inputs.entered, inputs.segments), targets), targets)
            assert inputs.batch is not None
            batch = inputs.batch.to(device)
            negatives = inputs.negatives
            if negatives is not None:
                negatives = negatives.to(device, non_blocking=negatives.is_pinned())
            output = self.model(batch.frames, batch.log_mel, targets, negatives, batch.positions)
            loss, terms = task.loss(output, targets)
            if inputs.other_targets is None:
                return loss, terms
            other_loss, other_terms = task.loss(output, inputs.other_targets.to(device))
            shares = inputs.share, 1 - inputs.share
            return (
                shares[0] * loss + shares[1] * other_loss,
                {name: shares[0] * terms[name] + shares[1] * other_terms[name] for name in terms},
            )

    def calibrate(self) -> None:
        """Fit the best model's confidence on the selection split, unless an earlier session did."""
        best = self.position.best
        done = self.writes and (not best or checkpoint.read_info(self.folder.model).calibration is not None)
        if distributed.from_first(done):
            return
        last = {name: value.clone() for name, value in self.model.trained_state().items()}
        checkpoint.restore(self.folder.model, self.model)
        chosen, batch, known = self.config.select_on, self.config.batch_size, self.samples["train"]
        fitted = fit(self.model, self.cache, known, self.samples[chosen], chosen, batch, self.progress)
        if fitted is not None and self.writes:
            checkpoint.add_calibration(self.folder.model, fitted)
        self.model.task.calibration = None
        for name, value in self.model.trained_state().items():  # training may go on from the last epoch
            value.copy_(last[name])

    def save_model(self, results: dict[str, Any]) -> None:
        if not self.writes:
            return
        labels, about = self.annotations.labels, self.identity.summary()
        checkpoint.save_model(self.folder.model, self.model, self.experiment, labels, results, about)

    def count_seconds(self) -> None:
        """Add the time since the last call, or since the epoch began, to that of the run."""
        now = time.perf_counter()
        self.position.seconds, self.counted = self.position.seconds + now - self.counted, now

    def save_state(self) -> None:
        if not self.writes:
            return
        if not self.folder.model.is_file():  # stopped before the first evaluation: still a usable run
            self.save_model({"epoch": self.position.epoch, "selected_on": None})
        checkpoint.save_state(self.folder.state, self.model, self.optimizer, vars(self.position), self.start)

    def _not_finite(self, what: str) -> str:
        rate, position = self.config.learning_rate, self.position
        own = {"head": self.config.head_learning_rate, "gates": gate_learning_rate(self.model, self.config)}
        parts = ", ".join(f"{its:g} in the {part}" for part, its in own.items() if its)
        apart = f" ({parts})" if parts else ""
        return (
            f"{what} in epoch {position.epoch + 1}, step {position.step + 1}, "
            f"at learning rate {rate:g}{apart}. {self.folder.path} keeps the last good state; try a lower "
            f"--train.learning_rate (for example {rate / 3:.0e}), --train.clip_norm 1 or --train.precision fp32 in a "
            f"new run."
        )


def epoch_batches(videos: int, config: TrainOptions, epoch: int) -> list[list[int]]:
    """Indices of the videos in each batch; the order depends on seed and epoch alone."""
    seed = config.seed * 1_000_003 + epoch
    generator = torch.Generator().manual_seed((seed + 2**63) % 2**64 - 2**63)  # 64 bits are all that it takes
    order = torch.randperm(videos, generator=generator).tolist()
    return [order[start : start + config.batch_size] for start in range(0, videos, config.batch_size)]
