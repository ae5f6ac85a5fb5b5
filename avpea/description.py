"""The description of a trained model that its checkpoint holds, checked as a whole before anything is built from it."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea import registry
from avpea.errors import CheckpointError, ExperimentError
from avpea.experiment import Experiment
from avpea.files import digest_of_file
from avpea.history import read_experiment
from avpea.labels import Labels
from avpea.parsing import parse_json
from avpea.tasks import Calibration
from avpea.version import __version__

__all__ = [
    "CALIBRATION",
    "FORMATS",
    "CheckpointInfo",
    "LoadedFile",
    "described",
    "read_calibration",
    "read_description",
]

CALIBRATION = "calibration"  # key in the metadata, and prefix of tensors

# The form of a model's file, and that of a training state's. Files of the older form have no checksums.
FORMATS = ("avpea-2", "avpea-1")


class LoadedFile:
    """A checkpoint file as it is now; its digest is computed when it is asked for, and only of this version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version = self._now()

    def _now(self) -> tuple[int, ...]:
        try:
            about = os.stat(self.path)
        except OSError:
            return ()
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its bytes.

        Raises:
            CheckpointError: It has been written anew since it was loaded.
        """
        try:
            digest = digest_of_file(self.path)
        except OSError:
            digest = ""
        if not digest or self._now() != self._version:
            raise CheckpointError(
                f"{self.path} has been written anew since it was loaded, as by a training or `avpea calibrate`; give "
                "the command again when that has ended."
            )
        return digest


@dataclass(frozen=True)
class CheckpointInfo:
    """Description of a checkpoint, stored with it.

    Attributes:
        experiment: Experiment that was trained.
        labels: Labels that the head predicts, such as class names.
        backbone: Name of the frozen backbone.
        fingerprint: SHA-256 of the backbone's weights.
        other_fingerprints: SHA-256 of other frozen weights, by the option that names their file.
        results: Metrics at the time of saving, and `epoch` and `selected_on`.
        version: Version of avpea that wrote the checkpoint.
        data: What it was trained on, as `avpea.data.identity` says it; empty in files of version 0.1.0.
        calibration: What was fitted after training; None before, for tasks without it, and in files of version 0.1.0.
            As read without the tensors, it does not say what training inputs look like.
        own: Whether this user wrote it, on this machine or on one with the same configuration folder.
        loaded: The file that the weights were loaded from; None if they were not.
    """

    experiment: Experiment
    labels: Labels
    backbone: str
    fingerprint: str
    other_fingerprints: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    own: bool = False
    loaded: "LoadedFile | None" = field(default=None, compare=False)

    @property
    def model(self) -> str:
        """`fingerprint_of` the file that the weights were loaded from; empty if they were not.

        Raises:
            CheckpointError: It has been written anew since.
        """
        return "" if self.loaded is None else self.loaded.digest

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of all frozen weights, by the option that names their file."""
        return {"backbone.weights": self.fingerprint, **self.other_fingerprints}


def described(info: CheckpointInfo) -> dict[str, str]:
    """The description as the metadata of a file, for `read_description`."""
    return {
        "format": FORMATS[0],
        "version": info.version or __version__,
        "experiment": json.dumps(info.experiment.to_dict()),
        "labels": json.dumps(info.labels.to_dict()),
        "backbone": info.backbone,
        "fingerprint": info.fingerprint,
        "other_fingerprints": json.dumps(info.other_fingerprints),
        "results": json.dumps(info.results),
        "data": json.dumps(info.data),
    }


def read_description(metadata: Mapping[str, str], source: str, *, own: bool = False) -> CheckpointInfo:
    """Check a file's metadata and read what they say.

    Args:
        metadata: Text by key.
        source: The file, with which an error begins.
        own: Whether this user wrote them.

    Raises:
        CheckpointError: Something is missing, of a wrong type, or does not fit the rest.
        ExperimentError: The experiment names an extension or option that this installation does not have.
    """
    with _in_a_sentence(source):
        return _Reader(metadata, source).info(own)


def read_calibration(
    metadata: Mapping[str, str], source: str, tensors: Mapping[str, Tensor] | None = None
) -> Calibration | None:
    """What was fitted after training; None if nothing was.

    Args:
        metadata: Text by key.
        source: The file, with which an error begins.
        tensors: The file's tensors, for what training inputs look like.

    Raises:
        CheckpointError: As `read_description`.
    """
    with _in_a_sentence(source):
        return _Reader(metadata, source).calibration(tensors or {})


@contextmanager
def _in_a_sentence(source: str) -> Iterator[None]:
    try:
        yield
    except _Wrong as error:
        raise CheckpointError(
            f"{source}: the description in it cannot be used ({error}); copy it anew, or train again."
        ) from None


class _Wrong(Exception):
    """Something in a description is not as avpea writes it; the text says what."""


class _Reader:
    """The metadata of a file, value by value."""

    def __init__(self, metadata: Mapping[str, str], source: str) -> None:
        self.metadata = metadata
        self.source = source

    def info(self, own: bool) -> CheckpointInfo:
        experiment = self.experiment()
        others = self.mapping("other_fingerprints", "{}")  # older files have no others
        for option, digest in others.items():
            _require_digest(f"other_fingerprints, {option}", digest)
        fingerprint = self.text("fingerprint")
        _require_digest("fingerprint", fingerprint)
        return CheckpointInfo(
            experiment=experiment,
            labels=self.labels(registry.load("task", experiment.task.name).needs),
            backbone=self.text("backbone"),
            fingerprint=fingerprint,
            other_fingerprints=others,
            results=self.results(),
            version=self.text("version"),
            data=self.data(),
            calibration=self.calibration({}),
            own=own,
        )

    def text(self, key: str, default: str | None = None) -> str:
        found = self.metadata.get(key, default)
        if not found:
            raise _Wrong(f"'{key}' is {'missing' if found is None else 'empty'}")
        return found

    def json(self, key: str, default: str | None = None) -> Any:
        return parse_json(self.text(key, default), f"{self.source}: '{key}' in its description")

    def mapping(self, key: str, default: str | None = None) -> dict[str, Any]:
        found = self.json(key, default)
        if not isinstance(found, dict):
            raise _Wrong(f"'{key}' is {_shown(found)}; expected names and values")
        return found

    def experiment(self) -> Experiment:
        return read_experiment(self.mapping("experiment"), self.source)

    def labels(self, kind: type[Labels]) -> Labels:
        try:
            return kind.from_dict(self.values_of_labels())
        except ValueError as error:
            if isinstance(error, CheckpointError | ExperimentError):
                raise
            raise _Wrong(f"the labels are no {kind.kind}: {error}") from None

    def values_of_labels(self) -> dict[str, Any]:
        if "labels" in self.metadata:
            return self.mapping("labels")
        # Up to version 0.1.0 files held class names and, for questions, a vocabulary.
        if self.json("questions", "null") is not None:
            return self.mapping("questions")
        names = self.json("class_names")
        return {"class_names": names} if names else {}

    def results(self) -> dict[str, Any]:
        found = self.mapping("results")
        epoch, chosen = found.get("epoch"), found.get("selected_on")
        if epoch is not None and (not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0):
            raise _Wrong(f"'results' has the epoch {_shown(epoch)}; expected a count")
        if chosen is not None and not isinstance(chosen, str):
            raise _Wrong(f"'results' has selected_on {_shown(chosen)}; expected the name of a split")
        if "kept" in found and found["kept"] != "last":
            raise _Wrong(f"'results' has {_shown(found['kept'])} for kept; expected 'last'")
        words = ("selected_on", "kept")
        wrong = [name for name, value in found.items() if isinstance(value, bool | str) and name not in words]
        if wrong:
            raise _Wrong(f"'results' has {_shown(found[wrong[0]])} for {wrong[0]}; expected a number")
        return found

    def data(self) -> dict[str, Any]:
        found = self.mapping("data", "{}")  # older files do not say it
        if found:
            _require_digest("data, fingerprint", found.get("fingerprint"))
        return found

    def calibration(self, tensors: Mapping[str, Tensor]) -> Calibration | None:
        if CALIBRATION not in self.metadata:
            return None
        found, known = self.mapping(CALIBRATION), {item.name for item in fields(Calibration)} - {"means"}
        if unknown := sorted(found.keys() - known):
            raise _Wrong(f"'calibration' has {_shown(unknown[0])}, which is unknown")
        counts, chosen = (found.get("samples"), found.get("answers")), found.get("chosen", {})
        temperature = found.get("temperature", 1.0)
        if not (isinstance(found.get("split"), str) and isinstance(found.get("remark", ""), str)):
            raise _Wrong("'calibration' does not name its split, or has a remark that is no text")
        if not all(type(count) is int and count >= 0 for count in counts):
            raise _Wrong(f"'calibration' is of {_shown(counts)} samples and answers; expected counts")
        if not _is_number(temperature) or temperature <= 0:
            raise _Wrong(f"'calibration' has the temperature {_shown(temperature)}; expected a number above 0")
        if not isinstance(chosen, dict) or not all(_is_number(value) for value in chosen.values()):
            raise _Wrong(f"'calibration' has chosen {_shown(chosen)}; expected names and numbers")
        start = f"{CALIBRATION}."
        own = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        means = own.get("means")
        if means is not None and (means.ndim != 2 or means.dtype != torch.float32 or not means.isfinite().all()):
            raise _Wrong("the means of 'calibration' are no table of finite numbers")
        return Calibration.from_dict(found, own)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_digest(what: str, found: Any) -> None:
    # A frozen network of another package may have another fingerprint than a SHA-256.
    if not isinstance(found, str) or not re.fullmatch(r"[\w:.+-]{8,200}", found):
        raise _Wrong(f"'{what}' is {_shown(found)}; expected 64 hexadecimal digits")


def _shown(value: Any) -> str:
    return shown if len(shown := repr(value)) <= 80 else f"{shown[:80]}…"
