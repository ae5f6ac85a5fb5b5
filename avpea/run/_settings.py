"""The settings of a run: read again, and compared with those that are asked for now."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from avpea.checkpoint import weights_fingerprint
from avpea.errors import CheckpointError, ExperimentError
from avpea.experiment import Experiment
from avpea.history import read_experiment
from avpea.parsing import read_yaml

__all__ = ["differences", "extended", "option_of", "other_start", "other_weights", "read_settings"]

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


def option_of(values: Any, name: str) -> str:
    """An option that is a text, by its dotted name in an experiment's plain values; empty if there is none."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values if isinstance(values, str) else ""


def other_value(name: str, old: str, new: str) -> str:
    """The phrase for an option that differs."""
    return f"{name} is {old or 'empty'}, not {new or 'empty'}"


def other_start(began: str | None, before: str, now: str) -> list[str]:
    """A phrase if training starts from other weights than it did.

    Args:
        began: Fingerprint of the weights that it started from, empty if from nothing; None if that is not known.
        before: `train.start_from` as it was; its name decides where the weights of one are not known.
        now: The same as it is now.
    """
    names = Path(before).name, Path(now).name
    by_name = [] if names[0] == names[1] else [other_value("train.start_from", *names)]
    if began is None:
        return by_name
    try:
        found = weights_fingerprint(now) if now else ""
    except CheckpointError:  # a run that has begun does not need it any more
        return by_name
    return [] if found == began else [other_value("train.start_from", _weights(began), _weights(found))]


def other_weights(before: Mapping[str, str], now: Mapping[str, str], moved: Mapping[str, tuple[str, str]]) -> list[str]:
    """A phrase for each option that names other weights than it did.

    Args:
        before: Fingerprints of the weights, by the option that names their file, as far as they are known.
        now: The same, now.
        moved: What such options were and are, where that differs. The names of the files decide about weights that have
            no fingerprints.
    """
    known = before.keys() & now.keys()
    changed = {name: (_weights(before[name]), _weights(now[name])) for name in known if before[name] != now[name]}
    changed |= {
        name: (old, new) for name, (old, new) in moved.items() if name not in known and Path(old).name != Path(new).name
    }
    return [other_value(name, *pair) for name, pair in sorted(changed.items())]


def _weights(fingerprint: str) -> str:
    return fingerprint and f"of fingerprint {fingerprint[:16]}"


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    name = prefix.removesuffix(".")
    if isinstance(old, dict) and isinstance(new, dict) and name != "published":
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        yield name, f"{name} is {old}, not {new}"
