"""Evaluate a trained model on a split: metrics, and one line for each video in `predictions.jsonl`."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea import backbones, data
from avpea.checkpoint import find, load_model
from avpea.data import Sample
from avpea.data.cache import FillReport, SampleCache
from avpea.errors import DataError
from avpea.experiment import Experiment
from avpea.model import AVModel
from avpea.progress import progress_bar

__all__ = ["SplitResult", "evaluate", "infer", "prepare"]


@dataclass(frozen=True)
class SplitResult:
    """What a model answered for a split, and how right it was.

    Attributes:
        samples: The videos, in order.
        probabilities: Of each category for each second; the last column is background.
        decisions: The answered category for each second.
        labels: The annotated category for each second.
        metrics: By name, as the task computes them.
    """

    samples: tuple[Sample, ...]
    probabilities: Float[Tensor, "videos segments categories"]
    decisions: Int[Tensor, "videos segments"]
    labels: Int[Tensor, "videos segments"]
    metrics: dict[str, Any]


def prepare(
    experiment: Experiment, annotations: data.Annotations, splits: Sequence[str], progress: bool = True
) -> tuple[SampleCache, dict[str, tuple[Sample, ...]], FillReport]:
    """Fill the sample cache for some splits; what is broken is left out of them and reported.

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
    class_names: Sequence[str],
    batch_size: int = 8,
    progress: bool = False,
) -> SplitResult:
    """Run a model over samples that are in the cache."""
    training = model.training
    model.eval()
    device = next(model.task.parameters()).device
    probabilities, decisions, labels = [], [], []
    with progress_bar("Evaluating", len(samples), shown=progress) as advance:
        for some in _chunks(samples, batch_size):
            batch = cache.batch(some)
            output = model(batch.frames.to(device), batch.log_mel.to(device))
            probabilities.append(model.task.probabilities(output).cpu())
            decisions.append(model.task.decide(output).cpu())
            labels.append(batch.labels)
            advance(len(some))
    model.train(training)
    answered, truth = torch.cat(decisions), torch.cat(labels)
    metrics = model.task.evaluate(answered, truth, tuple(class_names))
    return SplitResult(tuple(samples), torch.cat(probabilities), answered, truth, metrics)


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
        root: Folder of the data set, if not where it was in training.
        cache: Folder of the sample cache, if not where it was in training.
        weights: The backbone's weights, if not where they were in training.
        audio_weights: VGGish's weights, likewise.
        batch_size: Videos in one forward pass.
        progress: Show progress bars.

    Raises:
        CheckpointError, DataError, WeightsError: As the parts say.
    """
    model, info = load_model(run, weights=weights, audio_weights=audio_weights)
    changes = {"data.root": root, "data.cache": cache}
    experiment = info.experiment.override({name: value for name, value in changes.items() if value is not None})
    annotations = data.read(experiment.data)
    if annotations.class_names != info.class_names:
        raise DataError(
            f"{experiment.data.root} has the classes {list(annotations.class_names)}, but {run} was trained on "
            f"{list(info.class_names)}."
        )
    samples_cache, usable, report = prepare(experiment, annotations, [split], progress)
    result = infer(model, samples_cache, usable[split], info.class_names, batch_size, progress)
    folder = find(run).parent
    record = {
        "split": split,
        "videos": len(result.samples),
        "skipped": report.broken,
        "epoch": info.results.get("epoch"),
        "selected_on": info.results.get("selected_on"),
        **result.metrics,
    }
    result = dataclasses.replace(result, metrics=record)
    (folder / f"evaluation-{split}.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    with (folder / f"predictions-{split}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in prediction_rows(result, info.class_names))
    return result


def prediction_rows(result: SplitResult, class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One record for each video: what was annotated, answered and how sure."""
    names = [*class_names, "background"]
    for sample, answer, truth, chances in zip(
        result.samples, result.decisions.tolist(), result.labels.tolist(), result.probabilities, strict=True
    ):
        yield {
            "key": sample.key,
            "video": sample.video_id,
            "start_seconds": sample.start_seconds,
            "target": [names[i] for i in truth],
            "prediction": [names[i] for i in answer],
            "confidence": [round(float(row[i]), 4) for row, i in zip(chances, answer, strict=True)],
        }


def _chunks(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    return (samples[start : start + size] for start in range(0, len(samples), size))
