"""The settings of a run: read again, and compared with those that are asked for now."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from avpea.errors import CheckpointError, ExperimentError
from avpea.experiment import Experiment
from avpea.history import read_experiment
from avpea.parsing import read_yaml

__all__ = ["differences", "extended", "read_settings"]

_REMEDY = "Mend it or copy the run anew, or choose another folder with --run."


def extended(experiment: Experiment, extend: int) -> Experiment:
    """The experiment with further epochs.

    Raises:
        ExperimentError: Their number is negative.
    """
    if extend < 0:
        raise ExperimentError(f"--extend is {extend}; expected the number of further epochs, 1 or more.")
    return experiment.override({"train.epochs": experiment.train.epochs + extend}) if extend else experiment


def read_settings(path: Path) -> Any:
    """The plain values of the experiment that a run was made with.

    Raises:
        CheckpointError: The file is no YAML, or holds no options.
    """
    try:
        values = read_yaml(path)
    except (ExperimentError, OSError) as error:
        raise CheckpointError(f"{error} {_REMEDY}") from None
    if not isinstance(values, dict):
        found = "empty" if values is None else "no mapping of options"
        raise CheckpointError(f"{path} is {found}; expected the options that the run was begun with. {_REMEDY}")
    try:
        # Options added since the run was made get their defaults, which is how it ran.
        return read_experiment(values, str(path)).to_dict()
    except ExperimentError:
        return values


def differences(old: Any, new: Any, free: Collection[str]) -> list[str]:
    """One phrase for each option that differs between two experiments' plain values, except those in `free`."""
    return [phrase for name, phrase in _differences(old, new) if name not in free]


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    name = prefix.removesuffix(".")
    if isinstance(old, dict) and isinstance(new, dict) and name != "published":
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        yield name, f"{name} is {old}, not {new}"
