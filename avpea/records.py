"""Records of evaluations: where they lie, what data they were measured on, and which of them belong to a run.

    RUN/evaluation-SPLIT.json                            on the data that the run was trained on
    RUN/evaluations/NAME-FINGERPRINT/evaluation-SPLIT.json     on other data

A checkpoint file of another name than a run's has its records in `evaluations/` of its folder, below its own name.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.checkpoint import MODEL_FILE, CheckpointInfo, find, read_info, weights_fingerprint
from avpea.data.identity import DataIdentity, changes, read_identity
from avpea.errors import CheckpointError
from avpea.parsing import read_json

__all__ = ["Records", "Standing", "home", "read_records", "standing"]


@dataclass(frozen=True)
class Standing:
    """How a data set stands to the one that a run was trained on.

    Attributes:
        own: Whether they are the same; None if the run does not know, as one of version 0.1.0.
        changes: What differs, in phrases; empty if nothing does, or if it is not known.
        folder: Folder for records of evaluations on it.
        trained: What the run was trained on, row by row; None if that is not known.
    """

    own: bool | None
    changes: tuple[str, ...]
    folder: Path
    trained: DataIdentity | None = None


@dataclass(frozen=True)
class Records:
    """The records of a run's model as it is now.

    Attributes:
        own: Records by split, measured on the data that the run was trained on.
        others: Records on other data, or on data that is not known to be the run's.
        outdated: Files of records that were measured with other weights than the model has now.
    """

    own: dict[str, dict[str, Any]]
    others: tuple[dict[str, Any], ...] = ()
    outdated: tuple[str, ...] = ()


def standing(run: str | Path, info: CheckpointInfo, now: DataIdentity, root: str) -> Standing:
    """How the data set at `root`, whose identity is `now`, stands to the one that a run was trained on."""
    own = home(run)
    there = own / "evaluations" / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', now.root)[:40]}-{now.fingerprint[:12]}"
    then = _trained_on(run, info)
    if isinstance(then, DataIdentity):
        differ = tuple(changes(then, now))
        return Standing(not differ, differ, there if differ else own, then)
    if then:
        same = then["fingerprint"] == now.fingerprint
        return Standing(same, (), own if same else there)
    first, second = (os.path.abspath(os.path.expanduser(one)) for one in (root, info.experiment.data.root))
    same_place = first == second
    return Standing(None, (), own if same_place else there)


def read_records(run: str | Path) -> Records:
    """All records of a run or checkpoint file."""
    place, info, model = home(run), read_info(run), weights_fingerprint(run)
    then = _trained_on(run, info)
    known = then.fingerprint if isinstance(then, DataIdentity) else then.get("fingerprint")
    own, others, outdated = {}, [], []
    for path, record in _read(place):
        about = record.get("data") or {}
        if record.get("model", model) != model:
            outdated.append(path.relative_to(place).as_posix())
        elif known and about.get("own") and about.get("fingerprint") == known:
            own[record["split"]] = record
        else:
            others.append(record)
    return Records(own, tuple(others), tuple(outdated))


def home(run: str | Path) -> Path:
    """Folder of the records of a run or checkpoint file on its own data.

    Raises:
        CheckpointError: There is none.
    """
    file = find(run)
    return file.parent if file.name == MODEL_FILE else file.parent / "evaluations" / file.stem


def _trained_on(run: str | Path, info: CheckpointInfo) -> DataIdentity | Mapping[str, Any]:
    """All that is known of a run's data; if its samples are not, the checkpoint's summary, which may be empty."""
    file = find(run)
    then = read_identity(file.parent) if file.name == MODEL_FILE else None
    if then is None or (info.data and info.data["fingerprint"] != then.fingerprint):
        return info.data
    return then


def _read(place: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in [*sorted(place.glob("evaluation-*.json")), *sorted(place.glob("evaluations/*/evaluation-*.json"))]:
        try:
            record = read_json(path, paths=True)
        except CheckpointError:
            continue  # not a record of ours, or cut short by hand: it says nothing
        if isinstance(record, dict):
            yield path, {"split": path.stem.removeprefix("evaluation-"), **record}
