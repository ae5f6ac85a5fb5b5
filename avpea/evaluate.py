"""Evaluate a trained model on a split: metrics, and one line for each video in `predictions.jsonl`."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avpea import backbones, data
from avpea.checkpoint import CheckpointInfo, find, load_model
from avpea.data.cache import FillReport, SampleCache
from avpea.errors import DataError
from avpea.experiment import Experiment
from avpea.files import replacing, write_json
from avpea.labels import Annotations, Sample
from avpea.model import AVModel
from avpea.progress import progress_bar
from avpea.tasks import Task

__all__ = ["SplitResult", "evaluate", "infer", "prepare"]


@dataclass(frozen=True)
class SplitResult:
    """A model's answers for a split, and their metrics.

    Attributes:
        samples: Samples of the split, in order.
        answers: The task's answer for each sample.
        scores: For each sample the number of correct answers (or the score) and the number of answers that it needs.
        metrics: Metrics by name, as the task computes them.
        task: Class of the task.
    """

    samples: tuple[Sample, ...]
    answers: tuple[Any, ...]
    scores: tuple[tuple[float, int], ...]
    metrics: dict[str, Any]
    task: type[Task]


def prepare(
    experiment: Experiment, annotations: Annotations, splits: Sequence[str], progress: bool = True
) -> tuple[SampleCache, dict[str, tuple[Sample, ...]], FillReport]:
    """Fill the sample cache for some splits, and leave out and report missing and broken videos.

    Raises:
        DataError: A split has no usable video, or `data.strict` and any is broken.
    """
    size = experiment.backbone.image_size or backbones.shape_only(experiment.backbone).image_size
    cache = SampleCache(experiment.data, experiment.audio, size)
    wanted = [sample for split in splits for sample in annotations.splits.get(split, ())]
    report = cache.fill(wanted, progress=progress)
    usable = {
        split: tuple(s for s in annotations.splits.get(split, ()) if s.key not in report.broken) for split in splits
    }
    for split, samples in usable.items():
        if not samples:
            annotated = len(annotations.splits.get(split, ()))
            raise DataError(
                f"{experiment.data.root}: split '{split}' has no usable video ({annotated} annotated, all missing or "
                f"broken); `avpea data verify` says what is wrong."
            )
    return cache, usable, report


@torch.no_grad()
def infer(
    model: AVModel,
    cache: SampleCache,
    samples: Sequence[Sample],
    batch_size: int = 8,
    progress: bool = False,
) -> SplitResult:
    """Run a model over samples that are in the cache."""
    training, task = model.training, model.task
    model.eval()
    device = next(task.parameters()).device
    answers: list[Any] = []
    with progress_bar("Evaluating", len(samples), shown=progress) as advance:
        for start in range(0, len(samples), batch_size):
            some = samples[start : start + batch_size]
            batch = cache.batch(some).to(device)
            targets = task.targets(some).to(device)
            answers += task.answers(model(batch.frames, batch.log_mel, targets), targets)
            advance(len(some))
    model.train(training)
    answers = task.complete(samples, answers)
    scores = tuple((task.score(one, answer), task.weight(one)) for one, answer in zip(samples, answers, strict=True))
    return SplitResult(tuple(samples), tuple(answers), scores, task.evaluate(samples, answers), type(task))


def evaluate(
    run: str | Path,
    split: str = "test",
    *,
    root: str | None = None,
    cache: str | None = None,
    weights: str | None = None,
    audio_weights: str | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> SplitResult:
    """Evaluate a run on a split and write `evaluation-SPLIT.json` and `predictions-SPLIT.jsonl` beside it.

    Args:
        run: Run folder or checkpoint file.
        split: `test`, `val` or `train`.
        root: Folder of the data set, if moved since training.
        cache: Folder of the sample cache, if moved since training.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        batch_size: Number of videos in a forward pass.
        progress: Show progress bars.

    Raises:
        CheckpointError: There is no checkpoint, or it was trained on other frozen weights.
        DataError: The data set cannot be read, was not made for this model, or has no usable video in the split.
        WeightsError: The frozen weights cannot be loaded.
    """
    model, info = load_model(run, weights=weights, audio_weights=audio_weights)
    changes = {"data.root": root, "data.cache": cache}
    experiment = info.experiment.override({name: value for name, value in changes.items() if value is not None})
    annotations = data.read(experiment.data)
    _require_known(annotations, info, str(run))
    model.task.require_metrics()
    samples_cache, usable, report = prepare(experiment, annotations, [split], progress)
    result = infer(model, samples_cache, usable[split], batch_size, progress)
    folder = find(run).parent
    record = {
        "split": split,
        "metric": model.task.figure.metric,
        "source": annotations.sources.get(split, ""),
        "videos": len(result.samples),
        "skipped": report.broken,
        "epoch": info.results.get("epoch"),
        "selected_on": info.results.get("selected_on"),
        **result.metrics,
        "references": model.task.references(annotations.splits["train"], result.samples),
    }
    result = dataclasses.replace(result, metrics=record)
    write_json(folder / f"evaluation-{split}.json", record)
    with (
        replacing(folder / f"predictions-{split}.jsonl") as aside,
        aside.open("w", encoding="utf-8") as file,
    ):
        for sample, answer in zip(result.samples, result.answers, strict=True):
            file.write(json.dumps(model.task.row(sample, answer)) + "\n")
    return result


def _require_known(annotations: Annotations, info: CheckpointInfo, run: str) -> None:
    """Refuse annotations with other labels than the model was trained on.

    Raises:
        DataError: They are of another kind, or have other classes.
    """
    kind = type(info.labels)
    if not isinstance(annotations.labels, kind):
        raise DataError(
            f"{annotations.root} is annotated with {annotations.labels.kind}, but {run} was trained on {kind.kind}."
        )
    complaint = annotations.labels.complaint(info.labels)
    if complaint:
        raise DataError(f"{annotations.root} {complaint} ({run}).")
