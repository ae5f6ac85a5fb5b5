"""A run's folder: experiment, data, metrics, skipped videos, checkpoint and training state."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from avpea.checkpoint import (
    MODEL_FILE,
    NAMED_WEIGHTS,
    STATE_FILE,
    Origin,
    read_info,
    read_origin,
    read_position,
    require_whole,
)
from avpea.data.identity import DATA_FILE, DataIdentity
from avpea.device import choose_precision, named
from avpea.errors import CheckpointError
from avpea.experiment import Experiment
from avpea.files import finite, unwritable, write_json, write_text
from avpea.labels import Labels
from avpea.measure import environment
from avpea.parsing import json_lines, read_json
from avpea.progress import note
from avpea.run._data import require_same_data, require_same_videos
from avpea.run._settings import (
    differences,
    extended,
    option_of,
    other_start,
    other_weights,
    read_settings,
)

__all__ = ["RunFolder"]


class RunFolder:
    """The files of one training run.

        experiment.yaml     all options of the experiment
        data.json           what it is trained on: every sample with its labels, and what its video file was
        metrics.jsonl       one line for each epoch
        skipped.json        videos that were left out, with the reason
        environment.json    versions, commit, machine, device, precision; several entries if these changed meanwhile
        tensorboard/        the metrics for TensorBoard, unless `train.trackers` is without it
        trackers.json       the runs of other trackers, with the epochs that they were told (`avpea.trackers`)
        model.safetensors   adapters and head of the best epoch
        state.safetensors   training state, to resume from

    Args:
        path: The folder; `open` creates it.
        experiment: The experiment to run in it.
        extend: Number of epochs to train beyond those of `experiment`, once these are finished.

    Attributes:
        experiment: The experiment, with the epochs of the extension.
        position: The position in the saved state, as plain values; empty if there is none.
        origin: The weights that the saved state began with, as far as they are known.
        moved: Options that name other files of weights than the run's own do, each with what they were and are.
        lost_model: Why the best model cannot be read, if its weights are those in the saved state; else empty.

    Raises:
        CheckpointError: The folder holds a run of another experiment, or something else; its model is gone; or there
            is nothing to extend.
    """

    def __init__(self, path: Path, experiment: Experiment, extend: int = 0) -> None:
        self.path = path
        self.model = path / MODEL_FILE
        self.state = path / STATE_FILE
        self._metrics = path / "metrics.jsonl"
        self.experiment = extended(experiment, extend)
        self._require_regular()
        self.position: dict[str, Any] = read_position(self.state) if self.state.is_file() else {}
        self.origin = read_origin(self.state) if self.position else Origin()
        self.moved: dict[str, tuple[str, str]] = {}
        known = path / "experiment.yaml"
        if known.is_file():
            old = read_settings(known)
            self._require_same_settings(old, experiment, extend)
            self._require_same_start(option_of(old, "train.start_from"))
            named = {name: (option_of(old, name), option_of(self.experiment.to_dict(), name)) for name in NAMED_WEIGHTS}
            self.moved = {name: pair for name, pair in named.items() if pair[0] != pair[1]}
        elif path.exists() and (not path.is_dir() or any(not p.name.startswith(".") for p in path.iterdir())):
            raise CheckpointError(f"{path} is not empty and not a run folder; choose another one with --run.")
        elif extend:
            raise CheckpointError(f"There is no run {path} to extend; train it first, without --extend.")
        self.lost_model = self._lost_model() if self.position.get("best") else ""
        if self.position and self.model.is_file() and not self.lost_model:
            self._require_unedited(known)
        if not self.position.get("best") and self._holds_another_model():
            raise CheckpointError(
                f"{path} holds a model that was not trained there, such as an imported one, and training would replace "
                f"it; choose another --run, and start from the model with --train.start_from {path}."
            )

    def _require_regular(self) -> None:
        """Refuse a folder, or a link to nothing, in the place of a file; training would end where it is written.

        Raises:
            CheckpointError: There is one.
        """
        names = (self._metrics.name, DATA_FILE, "experiment.yaml", "skipped.json", "environment.json")
        for path in (self.model, self.state, *(self.path / name for name in names)):
            if os.path.lexists(path) and not path.is_file():
                what = "a folder" if path.is_dir() else "no regular file"
                raise CheckpointError(
                    f"{path} is {what}, where a run has a file; move it away, or choose another --run."
                )

    @property
    def finished(self) -> bool:
        """Whether everything is trained that the experiment asks for."""
        epochs = self.experiment.train.epochs
        # States of version 0.1.0 do not say for how many epochs they are finished.
        return bool(self.position) and self.position.get("finished", self.position["epoch"]) >= epochs

    def require_writable(self) -> None:
        """Refuse, before any work, a place that cannot be written to.

        Raises:
            CheckpointError: It cannot.
        """
        if obstacle := unwritable(self.path):
            done = "written to" if self.path.is_dir() else "made"
            raise CheckpointError(f"{self.path} cannot be {done} ({obstacle}); choose another --run.")

    def _require_same_settings(self, old: Any, experiment: Experiment, extend: int) -> None:
        changed = differences(old, self.experiment.to_dict(), experiment.harmless())
        if not changed:
            return
        remedy = "choose another folder with --run, or remove this one"
        wanted, train = self.experiment.train.epochs, old.get("train") if isinstance(old, dict) else None
        epochs = train.get("epochs") if isinstance(train, dict) else None
        if isinstance(epochs, int) and epochs != wanted and len(changed) == 1:
            if extend and epochs < wanted:
                self._require_finished(epochs)
                return
            more = "trains it further" if epochs < wanted else "goes on with it"
            remedy = f"--extend {abs(epochs - wanted)} beside --train.epochs {min(epochs, wanted)} {more}, or {remedy}"
        raise CheckpointError(f"{self.path} holds a run with other settings ({'; '.join(changed[:4])}); {remedy}.")

    def _require_same_start(self, before: str) -> None:
        """Refuse another `train.start_from` than the run began with, which only a training from the start would take.

        Raises:
            CheckpointError: It holds other weights; by its name, where they are not known.
        """
        if not self.position:
            return  # nothing has been trained yet
        for phrase in other_start(self.origin.start, before, self.experiment.train.start_from):
            raise CheckpointError(
                f"{self.path} was started from other weights ({phrase}); give those that it was started from, choose "
                "another folder with --run, or remove this one to train anew."
            )

    def require_same_weights(self, now: Mapping[str, str]) -> None:
        """Refuse other frozen weights than the run was trained on; the file with them may have moved.

        Args:
            now: Fingerprints of the frozen weights, by the option that names their file.

        Raises:
            CheckpointError: They are others.
        """
        if not self.position:
            return  # nothing has been trained yet
        before = self.origin.frozen
        if not before and self.model.is_file() and not self.lost_model:
            before = read_info(self.model).fingerprints
        if changed := other_weights(before, now, self.moved):
            options = " and ".join(f"--{phrase.partition(' ')[0]} FILE" for phrase in changed)
            raise CheckpointError(
                f"{self.path} was trained on other frozen weights ({'; '.join(changed)}); give those that it was "
                f"trained on with {options}, or choose another folder with --run."
            )

    def _require_unedited(self, known: Path) -> None:
        """Refuse options that were edited in the run's file since its model was trained.

        Raises:
            CheckpointError: They differ from those in the model.
        """
        trained = read_info(self.model).experiment.to_dict()
        free = self.experiment.harmless() | {"train.epochs"}  # the model may be of before an extension
        if changed := differences(trained, self.experiment.to_dict(), free):
            raise CheckpointError(
                f"{known} was edited since this run began: its model was trained with other settings "
                f"({'; '.join(changed[:4])}); put them back, or choose another folder with --run."
            )

    def _require_finished(self, epochs: int) -> None:
        if self.position.get("finished", self.position.get("epoch", 0)) < epochs:
            raise CheckpointError(
                f"{self.path} has not finished its {epochs} epochs yet, so it cannot be extended; finish it first with "
                f"the same command without --extend."
            )

    def _holds_another_model(self) -> bool:
        return self.model.is_file() and not self.position and not (self.path / "skipped.json").is_file()

    def _lost_model(self) -> str:
        """Why the best model cannot be read, if it is that of the state and can be written again; else empty.

        Raises:
            CheckpointError: It cannot be read, and the weights in the state are those of a later epoch.
        """
        best = self.position["best"]
        try:
            require_whole(self.model)
        except CheckpointError as error:
            if best.get("epoch") == self.position["epoch"] and not self.position.get("batch"):
                return str(error)
            state = "finished" if self.finished else "begun"
            raise CheckpointError(
                f"This run has {state}, but its model is gone: {error} Or remove {self.path} and train again."
            ) from None
        return ""

    def require_same_data(self, now: DataIdentity, labels: Labels) -> list[str]:
        """Refuse data that is not what the run was trained on.

        Args:
            now: The data set as it is now.
            labels: Its labels.

        Returns:
            Sentences about what cannot be known.

        Raises:
            CheckpointError: Samples, labels, names or video files have changed; says which, and what to do.
        """
        if not self.position:
            return []  # nothing has been trained yet
        info = read_info(self.model) if self.model.is_file() and not self.lost_model else None
        used = ["train", self.experiment.train.select_on]
        return require_same_data(self.path, info, now, labels, used, self.finished)

    def open(self, broken: Mapping[str, str], data: DataIdentity) -> None:
        """Create the folder; write the experiment, the data, and the videos that were left out with the reasons.

        Raises:
            CheckpointError: Other videos were left out when the run began.
            WriteError: The folder cannot be made or written to.
        """
        skipped = self.path / "skipped.json"
        if self.position and skipped.is_file():
            require_same_videos(self.path, _reasons(skipped), broken)
        write_text(self.path / "experiment.yaml", self.experiment.to_yaml())
        if not self.position or not (self.path / DATA_FILE).is_file():
            data.write(self.path)
        write_json(skipped, dict(broken))

    def add_environment(self, device: torch.device) -> None:
        """Record the versions, commit, machine, device and precision of the training that starts now."""
        precision = choose_precision(self.experiment.train.precision, device)
        here = environment() | {"device": named(device), "precision": precision}
        before = self.environments()
        if here not in before:
            write_json(self.path / "environment.json", [*before, here])

    def environments(self) -> list[dict[str, Any]]:
        """What the run was trained on, in order: one entry, or several if it was resumed somewhere else.

        Raises:
            CheckpointError: The file is damaged.
        """
        path = self.path / "environment.json"
        remedy = "remove it, and nothing else is lost"
        found: list[dict[str, Any]] = read_json(path, remedy=remedy) if path.is_file() else []
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise CheckpointError(f"{path} is no list of trainings; {remedy}.")
        return found

    def metrics(self) -> list[dict[str, Any]]:
        """The lines written so far, one for each finished epoch."""
        return [record for _, record in json_lines(self._metrics)] if self._metrics.is_file() else []

    def restore_metrics(self) -> None:
        """Let `metrics.jsonl` hold the epochs of the saved state.

        Lines of later epochs are dropped, as these will be trained again; damaged or missing ones are written again.

        Raises:
            CheckpointError: Lines are missing, and the state is one of version 0.1.0, which does not know them.
        """
        epochs, known = self.position.get("epoch", 0), self.position.get("metrics")
        found = self._metrics.read_bytes() if self._metrics.is_file() else None
        before = [line for line in _records(self._metrics) if line["epoch"] <= epochs] if found else []
        if known is None and len(before) != epochs:
            raise CheckpointError(
                f"{self._metrics} has {len(before)} of the {epochs} epochs that {self.path} has finished; put it back "
                f"as it was, or remove {self.path} to train anew."
            )
        kept = _lines(before if known is None else known).encode()
        if known is not None and before != known:
            note(f"{self._metrics} was damaged or gone; it is written again from the training state.")
        if found != kept and (found is not None or kept or not self.position):
            write_text(self._metrics, kept.decode())

    def log(self, record: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Write an epoch's metrics after those before it to `metrics.jsonl`.

        Returns:
            The line as it can be read again: numbers that are not finite are None, as JSON has none.

        Raises:
            WriteError: They cannot be written.
        """
        kept: dict[str, Any] = finite(record)
        write_text(self._metrics, _lines([*before, kept]))
        return kept


def _reasons(path: Path) -> dict[str, str]:
    """The videos that were left out, with the reasons."""
    found: dict[str, str] = read_json(path, remedy="copy the run anew", paths=True)
    if not isinstance(found, dict) or not all(isinstance(reason, str) for reason in found.values()):
        raise CheckpointError(f"{path} is no table of videos with reasons; copy the run anew.")
    return found


def _lines(records: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def _records(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of metrics, up to one that is damaged or was cut short by an interruption."""
    found: list[dict[str, Any]] = []
    with suppress(CheckpointError):
        for _, record in json_lines(path):
            if not isinstance(record, dict) or type(record.get("epoch")) is not int:
                break
            found.append(record)
    return found
