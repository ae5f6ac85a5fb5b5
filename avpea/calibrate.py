"""Calibrate: fit to a trained model, on its selection split, how sure it may be and what it does not know."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from avpea import data
from avpea.checkpoint import add_calibration, find, load_model
from avpea.data.cache import SampleCache
from avpea.data.features import FeatureStore
from avpea.data.identity import identify
from avpea.device import choose_device
from avpea.errors import CheckpointError, DataError
from avpea.evaluate import enough_for_batches, infer, located, prepare, require_batch_size, require_known
from avpea.labels import Sample
from avpea.locks import locked
from avpea.metrics.novelty import class_means
from avpea.model import AVModel
from avpea.records import standing
from avpea.tables import Table
from avpea.tasks import Calibration, Task

__all__ = ["calibrate", "fit", "report"]


def fit(
    model: AVModel,
    cache: SampleCache | FeatureStore,
    train: Sequence[Sample],
    samples: Sequence[Sample],
    split: str,
    batch_size: int = 8,
    progress: bool = False,
) -> Calibration | None:
    """Fit temperature, options of `predict` and the look of training inputs, and give them to the model's task.

    Args:
        model: The trained model.
        cache: The sample cache, which holds all samples.
        train: Training samples.
        samples: Samples of the split to fit on.
        split: Name of that split.
        batch_size: Number of videos in a forward pass.
        progress: Show progress bars.

    Returns:
        None for a task whose answers have no probabilities.
    """
    task = model.task
    task.calibration = None
    if type(task).chances is Task.chances:
        return None
    result = infer(model, cache, samples, batch_size, progress)
    chances = task.chances(result.samples, result.answers)
    if chances is None or not len(chances.right):
        return None
    temperature, remark = chances.temperature()
    means = None
    if task.features(result.samples, result.answers) is not None:
        trained = infer(model, cache, train, batch_size, progress)
        known = task.features(trained.samples, trained.answers)
        classes = task.chances(trained.samples, trained.answers)
        assert known is not None
        assert classes is not None
        means = class_means(known, classes.right, chances.probabilities.shape[1])
    task.calibration = Calibration(split, len(samples), len(chances.right), temperature, remark, {}, means)
    task.calibration = dataclasses.replace(task.calibration, chosen=task.choose(samples, result.answers))
    return task.calibration


def calibrate(
    run: str | Path,
    *,
    root: str | Path | None = None,
    cache: str | Path | None = None,
    weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
    device: str | torch.device = "auto",
    trust: bool = False,
    batch_size: int = 8,
    progress: bool = True,
) -> Calibration:
    """Calibrate a trained run, as training does at its end, and store that in its checkpoint.

    This is for runs of version 0.1.0, and for those whose training was stopped.

    Args:
        run: Run folder or checkpoint file.
        root: Folder of the data set, if moved since training.
        cache: Folder of the sample cache, if moved since training.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        device: Device to compute on; see `avpea.load`.
        trust: Whether to open and to download what the run names although somebody else made it.
        batch_size: Number of videos in a forward pass.
        progress: Show progress bars.

    Raises:
        CheckpointError: There is no checkpoint, it cannot be written, was trained on other frozen weights, or before
            the end of an epoch, or its task has no probabilities; or another process trains or calibrates it.
        DataError: The data set cannot be read, is not the one of training, or has no usable video.
        ExperimentError: There is no such device here, or the batch size is below 1.
        DeviceMemoryError: The device's memory is too small for a batch.
        WeightsError: The frozen weights cannot be loaded.
    """
    require_batch_size(batch_size)
    choose_device(device)
    device = str(device)
    with locked(find(run).parent, "is being calibrated"):
        return _calibrate(run, root, cache, weights, audio_weights, device, trust, batch_size, progress)


def _calibrate(
    run: str | Path,
    root: str | Path | None,
    cache: str | Path | None,
    weights: str | Path | None,
    audio_weights: str | Path | None,
    device: str,
    trust: bool,
    batch_size: int,
    progress: bool,
) -> Calibration:
    model, info = load_model(run, weights=weights, audio_weights=audio_weights, device=device, trust=trust)
    split = info.results.get("selected_on")
    if split is None:
        raise CheckpointError(
            f"{run} has no best epoch, and so no split to calibrate on: its training was stopped in its first epoch, "
            "and `avpea train` with the same --run goes on with it; or it is imported, and `avpea train` with "
            "--train.start_from makes one that is calibrated."
        )
    experiment = located(info, {"data.root": root, "data.cache": cache}, str(run), trust)
    annotations = data.read(experiment.data)
    splits = list(dict.fromkeys(["train", split]))
    for one in splits:
        require_known(annotations, one, info, str(run))
    found = standing(run, info, identify(experiment.data, annotations, splits), experiment.data.root)
    if found.changes or found.own is False:
        changed = "; ".join(found.changes[:4]) or "their rows or labels differ"
        raise DataError(
            f"{experiment.data.root} is not what {run} was trained on ({changed}), and a model is calibrated on its "
            "own selection split; name the data that it was trained on with --data.root."
        )
    samples, usable, _ = prepare(experiment, annotations, splits, progress)
    known, chosen = (annotations.labels.translated(usable[one], info.labels) for one in ("train", split))
    with enough_for_batches(model, batch_size):
        fitted = fit(model, samples, known, chosen, split, batch_size, progress)
    if fitted is None:
        raise CheckpointError(f"The task '{experiment.task.name}' has no probabilities that could be calibrated.")
    add_calibration(find(run), fitted)
    return fitted


def report(metrics: Mapping[str, Any], run: str, details: bool = False) -> Iterator[str | Table]:
    """The reliability in an evaluation as a sentence; with details, its bins as a table too. Nothing if it has none."""
    found = metrics.get("reliability")
    if found is None:
        return
    error = f"{100 * found['expected_calibration_error']:.1f} %"
    if found["temperature"] is None:
        yield (
            f"Confidence differs from accuracy by {error} on average (expected calibration error); it is not "
            f"calibrated{f', which `avpea calibrate {run}` does' if metrics.get('selected_on') else ''}."
        )
    else:
        before = f"{100 * found['before']['expected_calibration_error']:.1f} %"
        yield (
            f"Confidence differs from accuracy by {error} on average (expected calibration error; {before} before the "
            f"temperature of {found['temperature']:.2f}, fitted on {found['fitted_on']})."
        )
    if details:
        rows = [
            (
                f"{100 * one['from']:.0f} - {100 * one['to']:.0f} %",
                f"{100 * one['confidence']:.1f} %",
                f"{100 * one['accuracy']:.1f} %",
                str(one["count"]),
            )
            for one in found["bins"]
        ]
        yield Table(["confidence", "mean", "accuracy", "answers"], rows, "Reliability")
