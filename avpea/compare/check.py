"""Whether the runs of a grid could run, found out before any does."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from avpea import accounting, data, registry
from avpea.compare.sweep import Cell
from avpea.encoders import Encoder
from avpea.errors import AvpeaError, WeightsError
from avpea.experiment import Experiment
from avpea.labels import Annotations
from avpea.run import RunFolder
from avpea.sections import ReaderOptions
from avpea.tasks import Head

__all__ = ["complaints"]


def complaints(cells: Sequence[Cell], runs: Path) -> list[str]:
    """Why runs could not run, each reason in a sentence: their models are built, for the shapes only.

    Args:
        cells: What is to run.
        runs: Folder of the runs.
    """
    wrong: list[str] = []
    for row in dict.fromkeys(cell.row for cell in cells):
        reasons = _reasons(accounting.count, row.experiment) + _reasons(_weights, row.experiment)
        wrong += [f"row '{row.label}': {reason}" for reason in dict.fromkeys(reasons)]
    # A folder that all rows share is complained about once.
    wrong += dict.fromkeys(reason for cell in cells for reason in _reasons(_annotations, cell.experiment.data))
    wrong += [reason for cell in cells for reason in _reasons(RunFolder, runs / cell.name, cell.experiment)]
    return wrong


def _weights(experiment: Experiment) -> None:
    weights = experiment.backbone.weights
    if weights not in ("pretrained", "random") and not Path(weights).expanduser().is_file():
        raise WeightsError(f"backbone.weights is '{weights}', and there is no such file.")
    encoder: type[Encoder] = registry.load("encoder", experiment.encoder.name)
    encoder.require_files(experiment)
    head: type[Head] = registry.load("head", experiment.head.name)
    head.require_files(experiment.head)


@functools.cache
def _annotations(options: ReaderOptions) -> Annotations:
    return data.read(options)


def _reasons(action: Callable[..., object], *arguments: Any) -> list[str]:
    try:
        action(*arguments)
    except AvpeaError as error:
        return [str(error)]
    return []
