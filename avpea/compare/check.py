"""Checking all runs of a grid before any of them starts."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from avpea import accounting, backbones, data, registry
from avpea.checkpoint import find
from avpea.compare.sweep import Cell, Row
from avpea.device import choose_device
from avpea.encoders import Encoder
from avpea.errors import AvpeaError, WeightsError
from avpea.experiment import Experiment
from avpea.labels import Annotations
from avpea.preconditions import require_whole_patches
from avpea.run import RunFolder
from avpea.sections import ReaderOptions
from avpea.tasks import Head

__all__ = ["complaints"]


def complaints(cells: Sequence[Cell], runs: Path, device: str | None = None) -> list[str]:
    """Reasons why runs cannot start, each in a sentence; models are built on the meta device to find them.

    Args:
        cells: The runs to check.
        runs: Folder of the run folders.
        device: Device to use instead of each row's `train.device`.
    """
    rows = list(dict.fromkeys(cell.row for cell in cells))
    wrong = _of_one_kind(rows)
    made = {os.path.abspath(runs / cell.name) for cell in cells}  # a row may start from another one's run
    for row in rows:
        reasons = [one for check in (accounting.count, _weights, _patches) for one in _reasons(check, row.experiment)]
        if (start := row.experiment.train.start_from) and os.path.abspath(os.path.expanduser(start)) not in made:
            reasons += _reasons(find, start)
        if device is None:
            reasons += _reasons(choose_device, row.experiment.train.device, "train.device")
        wrong += [f"row '{row.label}': {reason}" for reason in dict.fromkeys(reasons)]
    about_data: dict[str, list[str]] = {}
    for row in rows:
        for reason in _reasons(_annotations, row.experiment.data):
            about_data.setdefault(reason, []).append(row.label)
    for reason, labels in about_data.items():  # that of a data set which all rows share is given once, for all
        wrong += [reason] if len(labels) == len(rows) else [f"row '{label}': {reason}" for label in labels]
    for cell in cells:
        reasons = _reasons(RunFolder, runs / cell.name, cell.experiment)
        wrong += [f"row '{cell.row.label}', seed {cell.seed}: {reason}" for reason in reasons]
    return wrong


def _weights(experiment: Experiment) -> None:
    weights = experiment.backbone.weights
    if weights not in ("pretrained", "random") and not Path(weights).expanduser().is_file():
        raise WeightsError(f"backbone.weights is '{weights}', and there is no such file.")
    encoder: type[Encoder] = registry.load("encoder", experiment.encoder.name)
    encoder.require_files(experiment)
    head: type[Head] = registry.load("head", experiment.head.name)
    head.require_files(experiment.head)


def _patches(experiment: Experiment) -> None:
    require_whole_patches(experiment.backbone, backbones.shape_only(experiment.backbone))


def _of_one_kind(rows: Sequence[Row]) -> list[str]:
    """A sentence for each row that is measured otherwise than the first, so that no report could compare them."""
    if not rows:  # all is done
        return []
    kinds = [registry.load("task", row.experiment.task.name).figure for row in rows]
    first = f"row '{rows[0].label}' of '{rows[0].experiment.task.name}', measured in {kinds[0].name}"
    return [
        f"row '{row.label}' is of the task '{row.experiment.task.name}', measured in {kind.name}, and {first}; a sweep "
        "compares rows by one figure."
        for row, kind in zip(rows, kinds, strict=True)
        if kind.metric != kinds[0].metric
    ]


@functools.cache
def _annotations(options: ReaderOptions) -> Annotations:
    return data.read(options)


def _reasons(action: Callable[..., object], *arguments: Any) -> list[str]:
    try:
        action(*arguments)
    except AvpeaError as error:
        return [str(error)]
    except Exception:  # of an extension: its row fails when it is run, and the others go on
        return []
    return []
