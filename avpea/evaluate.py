"""Evaluate a trained model on a split: metrics, and one line for each video in `predictions.jsonl`."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avpea import backbones, data, distributed
from avpea.activations import Activations, kept_activations
from avpea.checkpoint import CheckpointInfo, fingerprint_of_weights, load_model
from avpea.data.cache import FillReport, SampleCache
from avpea.data.features import FeatureStore
from avpea.data.identity import DataIdentity, identify
from avpea.device import enough_memory, kept_random_state, own_precision
from avpea.errors import CheckpointError, DataError
from avpea.experiment import Experiment
from avpea.files import replacing, unwritable, write_json
from avpea.labels import Annotations, Sample, shortened, weight_of
from avpea.locks import locked
from avpea.model import AVModel
from avpea.options import require
from avpea.progress import progress_bar, say
from avpea.records import Standing, standing
from avpea.tasks import Task

__all__ = [
    "SplitResult",
    "enough_for_batches",
    "evaluate",
    "infer",
    "located",
    "prepare",
    "require_batch_size",
    "require_known",
    "source_of",
]


@dataclass(frozen=True)
class SplitResult:
    """A model's answers for a split, and their metrics.

    Attributes:
        samples: Samples of the split, in order.
        answers: The task's answer for each sample.
        scores: For each sample the number of correct answers (or the score) and the number of answers that it needs.
        metrics: Metrics by name, as the task computes them.
        task: Class of the task.
        loss: Mean of the loss over answers; None if it was not asked for.
        folder: Folder that the evaluation was written to; None if it was not.
    """

    samples: tuple[Sample, ...]
    answers: tuple[Any, ...]
    scores: tuple[tuple[float, int], ...]
    metrics: dict[str, Any]
    task: type[Task]
    folder: Path | None = None
    loss: float | None = None


def prepare(
    experiment: Experiment, annotations: Annotations, splits: Sequence[str], progress: bool = True
) -> tuple[SampleCache | FeatureStore, dict[str, tuple[Sample, ...]], FillReport]:
    """Fill the sample cache for some splits, and leave out and report missing and broken videos.

    Raises:
        DataError: A split has no usable video, or `data.strict` and any is broken.
    """
    cache = source_of(experiment)
    wanted = [sample for split in splits for sample in annotations.splits.get(split, ())]
    report = _filled(cache, wanted, progress)
    usable = {
        split: tuple(s for s in annotations.splits.get(split, ()) if s.key not in report.broken) for split in splits
    }
    for split, samples in usable.items():
        if not samples:
            raise DataError(f"{experiment.data.root}: {_why_empty(split, annotations, report)}")
    if progress:
        for line in (*annotations.told(), *report.told()):
            say(line)
    return cache, usable, report


def _filled(cache: SampleCache | FeatureStore, wanted: Sequence[Sample], progress: bool) -> FillReport:
    """Fill the cache; each of several processes fills its share."""
    here = distributed.world()
    if here.alone:
        return cache.fill(wanted, progress=progress)
    first = _attempt(cache, wanted[here.rank :: here.size], progress and here.first)
    broken: dict[str, str] = {}
    for share in distributed.everyones(first):
        if isinstance(share, str):
            raise DataError(share)
        broken |= share
    # What is not there yet was made on another machine, for a cache that this one does not see.
    left = [sample for sample in wanted if sample.key not in broken]
    if isinstance(cache, FeatureStore):  # whose values have been read, and whose shapes are compared as a whole now
        report = cache.fill(left, progress=False, values=False)
    else:
        report = cache.fill(left, progress=False)
    for here_broken in distributed.everyones(dict(report.broken)):  # such as for want of memory on one machine
        broken |= here_broken
    return dataclasses.replace(report, broken={one.key: broken[one.key] for one in wanted if one.key in broken})


def _attempt(cache: SampleCache | FeatureStore, wanted: Sequence[Sample], progress: bool) -> dict[str, str] | str:
    """Why samples are broken; or why the cache could not be filled, which the other processes have to know."""
    try:
        return cache.fill(wanted, progress=progress).broken
    except DataError as error:
        return str(error)


def _why_empty(split: str, annotations: Annotations, report: FillReport) -> str:
    """Why a split has no usable sample, in a sentence with the remedy."""
    annotated = annotations.splits.get(split, ())
    if annotated:
        first = next(reason for sample in annotated if (reason := report.broken.get(sample.key)))
        return (
            f"split '{split}' has no usable video: all {len(annotated)} samples are missing or broken, such as {first} "
            "`avpea data verify` names all."
        )
    has = ", ".join(f"{name} ({len(samples)})" for name, samples in annotations.splits.items() if samples)
    return (
        f"the annotations have no sample in the split '{split}'; they have {has or 'none at all'}. Annotate videos as "
        f"'{split}', or choose another split (--split to evaluate on, --train.select_on to select the best epoch on)."
    )


def source_of(experiment: Experiment) -> SampleCache | FeatureStore:
    """Where samples are read from: the cache of decoded videos, or the files of precomputed features."""
    if experiment.audio.features == "precomputed":
        backbone = backbones.shape_only(experiment.backbone)
        return FeatureStore(backbone.dim, backbone.audio_dim, experiment.data.strict)
    side = _side(experiment.backbone)  # which refuses sizes that the backbone cannot have
    return SampleCache(experiment.data, experiment.audio, experiment.backbone.image_size or side)


@functools.cache
def _side(options: backbones.BackboneOptions) -> int:
    """Side of a backbone's frames in pixels."""
    return int(backbones.shape_only(options).image_size)


@torch.no_grad()
def infer(
    model: AVModel,
    cache: SampleCache | FeatureStore,
    samples: Sequence[Sample],
    batch_size: int = 8,
    progress: bool = False,
    loss: bool = False,
) -> SplitResult:
    """Run a model over samples that are in the cache, and compute the loss too if asked for."""
    training, task, here = model.training, model.task, distributed.world()
    model.eval()
    answering = model.folded()
    batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    own = range(here.rank, len(batches), here.size)  # each batch is computed by one process, and as it is by a single
    found: dict[int, tuple[list[Any], float]] = {}
    frozen = kept_activations(answering, cache)
    with distributed.apart(), progress_bar("Evaluating", sum(len(batches[i]) for i in own), shown=progress) as advance:
        for index in own:
            found[index] = _answers(answering, cache, frozen, batches[index], loss)
            advance(len(batches[index]))
    model.train(training)
    for others in distributed.everyones(found):
        found |= others
    answers = task.complete(samples, [answer for index in range(len(batches)) for answer in found[index][0]])
    scores = tuple(
        (task.score(one, answer), task.weight_of_answer(one, answer))
        for one, answer in zip(samples, answers, strict=True)
    )
    mean = sum(found[i][1] for i in range(len(batches))) / weight_of(samples) if loss else None
    return SplitResult(tuple(samples), tuple(answers), scores, task.evaluate(samples, answers), type(task), loss=mean)


def _answers(
    model: AVModel,
    cache: SampleCache | FeatureStore,
    frozen: Activations | None,
    some: Sequence[Sample],
    loss: bool,
) -> tuple[list[Any], float]:
    """The answers of a batch and, if asked for, its loss times the number of its answers."""
    task = model.task
    device = model.device
    if frozen is None:
        batch = cache.batch(some).to(device)
        targets = task.targets(batch.samples).to(device)
        encoded = model.encode(batch.frames, batch.log_mel)
    else:
        targets = task.targets(cache.loaded(some)).to(device)
        encoded = frozen.encoded(some)
    output = task(encoded, targets)
    added = _loss(task, output, targets) * weight_of(some) if loss else 0.0
    return task.respond(encoded, targets, output), added


def _loss(task: Task, output: Any, targets: Any) -> float:
    """The loss of a batch. Some are random (masked words): draw always the same, and leave training's draws alone."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        return float(task.validation_loss(output, targets))


@own_precision()
@kept_random_state()
def evaluate(
    run: str | Path,
    split: str = "test",
    *,
    root: str | Path | None = None,
    reader: str | None = None,
    cache: str | Path | None = None,
    weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
    device: str | torch.device = "auto",
    trust: bool = False,
    batch_size: int = 8,
    progress: bool = True,
) -> SplitResult:
    """Evaluate a run on a split and write `evaluation-SPLIT.json` and `predictions-SPLIT.jsonl`.

    On the data that the run was trained on they are written beside the checkpoint, else into
    `evaluations/NAME-FINGERPRINT` there. The record says what it was measured on. Other data may have any of the
    run's classes in any order, and only the one split.

    Args:
        run: Run folder or checkpoint file.
        split: `test`, `val` or `train`.
        root: Folder of the data set, if moved since training, or of another one.
        reader: Name of the reader of the data set at `root`, if it is another one than in training.
        cache: Folder of the sample cache, if moved since training.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        device: Device to compute on; see `avpea.load`.
        trust: Whether to open and to download what the run names although somebody else made it.
        batch_size: Number of videos in a forward pass.
        progress: Show progress bars.

    Raises:
        CheckpointError: There is no checkpoint, it was trained on other frozen weights, its folder cannot be written
            to, or somebody else made it and it names files or downloads.
        DataError: The data set cannot be read, has classes that the model does not know, or has no usable video in the
            split.
        ExperimentError: There is no such device here, or the batch size is below 1.
        DeviceMemoryError: The device's memory is too small for a batch.
        WeightsError: The frozen weights cannot be loaded.
    """
    require_batch_size(batch_size)
    model, info = load_model(run, weights=weights, audio_weights=audio_weights, device=device, trust=trust)
    changes = {"data.name": reader, "data.root": root, "data.cache": cache}
    experiment = located(info, changes, str(run), trust)
    annotations = data.read(experiment.data)
    require_known(annotations, split, info, str(run))
    identity = identify(experiment.data, annotations, [split])
    found = standing(run, info, identity, experiment.data.root)
    if obstacle := unwritable(found.folder):
        raise CheckpointError(f"The evaluation cannot be written to {found.folder} ({obstacle}); copy the run first.")
    model.task.require_metrics()
    # The model itself may be written meanwhile, by a training that goes on.
    with locked(found.folder, f"is being evaluated on {split}", f".evaluation-{split}.lock"):
        return _evaluate(model, info, experiment, annotations, identity, found, split, batch_size, progress)


def _evaluate(
    model: AVModel,
    info: CheckpointInfo,
    experiment: Experiment,
    annotations: Annotations,
    identity: DataIdentity,
    found: Standing,
    split: str,
    batch_size: int,
    progress: bool,
) -> SplitResult:
    if progress and found.own is False:  # what training said of its own data, such as how the videos were divided
        for note in annotations.notes:
            say(note)
    samples_cache, usable, report = prepare(experiment, annotations, [split], progress)
    samples = annotations.labels.translated(usable[split], info.labels)
    with enough_for_batches(model, batch_size):
        result = infer(model, samples_cache, samples, batch_size, progress)
    train = annotations.splits["train"]
    known = () if annotations.labels.unknown(train, info.labels) else annotations.labels.translated(train, info.labels)
    record = {
        "split": split,
        "metric": model.task.figure.metric,
        "source": annotations.sources.get(split, ""),
        "videos": len(result.samples),
        "skipped": report.broken,
        "epoch": info.results.get("epoch"),
        "selected_on": info.results.get("selected_on"),
        "kept": info.results.get("kept", "best"),
        "data": {
            **identity.summary(),
            "videos": len({sample.video_id for sample in result.samples}),
            "own": found.own,
            "changes": list(found.changes),
            "trained_on": None if found.trained is None else found.trained.seen(identity, split),
        },
        "model": fingerprint_of_weights(model),
        **result.metrics,
        **_reliability(model.task, result),
        "references": _references(model.task, known, result.samples, found),
    }
    result = dataclasses.replace(result, metrics=record, folder=found.folder)
    _write(result, model.task, split)
    return result


def _references(task: Task, train: Sequence[Any], samples: Sequence[Any], found: Standing) -> dict[str, float]:
    """What answers without a model score; of other data than the run's, what they know comes from its train split."""
    scores = task.references(train, samples)
    if found.own is not False:
        return dict(scores)
    alone, here = task.references((), samples), "in the train split of these data"
    return {
        name if name in alone else f"{name.removesuffix(' in training')} {here}": score
        for name, score in scores.items()
    }


def require_batch_size(batch_size: int) -> None:
    """Refuse a number of videos that is none.

    Raises:
        ExperimentError: It is below 1.
    """
    require(batch_size >= 1, f"batch_size is {batch_size}; expected 1 or more.")


def enough_for_batches(model: AVModel, batch_size: int) -> AbstractContextManager[None]:
    """A context in which memory that is too small for batches of videos is an error with a remedy.

    Raises:
        DeviceMemoryError: It is.
    """
    fewer = f"lower batch_size={batch_size}, or " if batch_size > 1 else ""
    elsewhere = "close other programs that use it" if model.device.type == "cpu" else 'use device="cpu"'
    return enough_memory(model.device, f"{fewer}{elsewhere}")


def located(info: CheckpointInfo, changes: Mapping[str, str | Path | None], run: str, trust: bool) -> Experiment:
    """The experiment of a run, with its data where the command says.

    Args:
        info: Description of the run.
        changes: What the command gives for `data.root`, `data.cache` and `data.name`; None for what it does not give.
        run: The run, for the error.
        trust: Whether to read and write where the run says although somebody else made it.

    Raises:
        CheckpointError: Somebody else made it, and the command does not say where the data set is.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if not (info.own or trust):
        if "data.root" not in given:
            raise CheckpointError(
                f"{run} names '{info.experiment.data.root}' as its data set, but it is not a run of yours; give the "
                "data set with --data.root DIR, or add trust=True if you trust whoever made it."
            )
        given = {"data.cache": "", **given}  # the user's own, instead of the folder that the run names
    return info.experiment.override(given)


def _write(result: SplitResult, task: Task, split: str) -> None:
    assert result.folder is not None
    with (
        replacing(result.folder / f"predictions-{split}.jsonl") as aside,
        aside.open("w", encoding="utf-8") as file,
    ):
        for sample, answer in zip(result.samples, result.answers, strict=True):
            file.write(json.dumps(task.row(sample, answer)) + "\n")
    write_json(result.folder / f"evaluation-{split}.json", result.metrics)


def _reliability(task: Task, result: SplitResult) -> dict[str, Any]:
    """How far confidence is from accuracy, with the temperature and before; empty for a task without probabilities."""
    chances = task.chances(result.samples, result.answers)
    if chances is None:
        return {}
    found, fitted = chances.reliability().to_dict(), task.calibration
    if fitted is None:
        return {"reliability": {**found, "temperature": None, "fitted_on": None}}
    before = chances.at(1 / fitted.temperature).reliability().to_dict()
    return {"reliability": {**found, "temperature": fitted.temperature, "fitted_on": fitted.split, "before": before}}


def require_known(annotations: Annotations, split: str, info: CheckpointInfo, run: str) -> None:
    """Refuse samples with labels that the model was not trained on.

    Raises:
        DataError: They are of another kind, or have further classes.
    """
    kind = type(info.labels)
    if not isinstance(annotations.labels, kind):
        raise DataError(
            f"{annotations.root} is annotated with {annotations.labels.kind}, but {run} was trained on {kind.kind}."
        )
    unknown = annotations.labels.unknown(annotations.splits.get(split, ()), info.labels)
    if unknown:
        raise DataError(
            f"The {split} split of '{annotations.name}' has {kind.outputs} that {run} does not know "
            f"({shortened(unknown)}); it knows {shortened(info.labels.names, 12)}. Leave them out, or train on them."
        )
