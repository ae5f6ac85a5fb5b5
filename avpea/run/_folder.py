"""A run's folder: experiment, data, metrics, skipped videos, TensorBoard events, checkpoint and training state."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from avpea.checkpoint import MODEL_FILE, STATE_FILE, read_info, read_position
from avpea.data.identity import DATA_FILE, DataIdentity
from avpea.errors import CheckpointError
from avpea.experiment import Experiment
from avpea.files import unwritable, write_json, write_text
from avpea.labels import Labels
from avpea.measure import environment
from avpea.progress import note
from avpea.run._data import require_same_data, require_same_videos
from avpea.run._settings import differences, extended, read_settings

__all__ = ["RunFolder"]


class RunFolder:
    """The files of one training run.

        experiment.yaml     all options of the experiment
        data.json           what it is trained on: every sample with its labels, and what its video file was
        metrics.jsonl       one line for each epoch
        skipped.json        videos that were left out, with the reason
        environment.json    versions, commit and machine; several entries if they changed between sessions
        tensorboard/        the metrics for TensorBoard, if that is installed
        model.safetensors   adapters and head of the best epoch
        state.safetensors   training state, to resume from

    Args:
        path: The folder; `open` creates it.
        experiment: The experiment to run in it.
        extend: Number of epochs to train beyond those of `experiment`, once these are finished.

    Attributes:
        experiment: The experiment, with the epochs of the extension.
        position: The position in the saved state, as plain values; empty if there is none.

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
        self.position: dict[str, Any] = read_position(self.state) if self.state.is_file() else {}
        known = path / "experiment.yaml"
        if known.is_file():
            self._require_same_settings(read_settings(known), experiment, extend)
        elif path.exists() and (not path.is_dir() or any(not p.name.startswith(".") for p in path.iterdir())):
            raise CheckpointError(f"{path} is not empty and not a run folder; choose another one with --run.")
        elif extend:
            raise CheckpointError(f"There is no run {path} to extend; train it first, without --extend.")
        if self.position.get("best"):
            self._require_model()
        elif self.model.is_file() and not self.position and not (path / "skipped.json").is_file():
            raise CheckpointError(
                f"{path} holds a model that was not trained there, such as an imported one, and training would replace "
                f"it; choose another --run, and start from the model with --train.start_from {path}."
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

    def _require_finished(self, epochs: int) -> None:
        if self.position.get("finished", self.position.get("epoch", 0)) < epochs:
            raise CheckpointError(
                f"{self.path} has not finished its {epochs} epochs yet, so it cannot be extended; finish it first with "
                f"the same command without --extend."
            )

    def _require_model(self) -> None:
        try:
            read_info(self.model)
        except CheckpointError as error:
            state = "finished" if self.finished else "begun"
            raise CheckpointError(
                f"This run has {state}, but its model is gone: {error} Or remove {self.path} and train again."
            ) from None

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
        info = read_info(self.model) if self.model.is_file() else None
        used = ["train", self.experiment.train.select_on]
        return require_same_data(self.path, info, now, labels, used, self.finished)

    def open(self, broken: Mapping[str, str], data: DataIdentity) -> None:
        """Create the folder; write the experiment, the data, and the videos that were left out with the reasons.

        Raises:
            CheckpointError: The folder cannot be made or written to; or other videos were left out when the run began.
        """
        skipped = self.path / "skipped.json"
        if self.position and skipped.is_file():
            require_same_videos(self.path, json.loads(skipped.read_text(encoding="utf-8")), broken)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / "experiment.yaml", self.experiment.to_yaml())
            if not self.position or not (self.path / DATA_FILE).is_file():
                data.write(self.path)
            write_json(skipped, dict(broken))
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be made ({error.strerror}); choose another --run.") from None
        if not writes_tensorboard():
            note(f"{self.path} gets no TensorBoard files, since TensorBoard is missing (pip install 'avpea[train]').")

    def add_environment(self) -> None:
        """Record the versions, commit and machine of the training that starts now."""
        here, before = environment(), self.environments()
        if here not in before:
            write_json(self.path / "environment.json", [*before, here])

    def environments(self) -> list[dict[str, Any]]:
        """What the run was trained on, in order: one entry, or several if it was resumed somewhere else."""
        path = self.path / "environment.json"
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        return found

    def metrics(self) -> list[dict[str, Any]]:
        """The lines written so far, one for each finished epoch."""
        if not self._metrics.is_file():
            return []
        return [json.loads(line) for line in self._metrics.read_text(encoding="utf-8").splitlines()]

    def forget_after(self, epochs: int) -> None:
        """Drop metrics of epochs after the saved state; those epochs will be trained again."""
        kept, text = "", self._metrics.read_text(encoding="utf-8") if self._metrics.is_file() else None
        for line in (text or "").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                break  # a line cut short by the interruption
            if record["epoch"] <= epochs:
                kept += f"{line}\n"
        if kept != text:
            write_text(self._metrics, kept)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append an epoch's metrics to `metrics.jsonl` and, where it is installed, to TensorBoard."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record)) + "\n")
        if not writes_tensorboard():
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.path / "tensorboard")) as writer:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "epoch":
                    writer.add_scalar(name, value, record["epoch"])


def writes_tensorboard() -> bool:
    """Whether TensorBoard is installed, so that metrics are written for it too."""
    return find_spec("tensorboard") is not None
