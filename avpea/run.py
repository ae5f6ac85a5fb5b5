"""A run's folder: experiment, metrics, skipped videos, TensorBoard events, checkpoint and training state."""

import json
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from avpea.checkpoint import MODEL_FILE, STATE_FILE
from avpea.errors import CheckpointError, ExperimentError
from avpea.experiment import Experiment
from avpea.files import write_json, write_text
from avpea.history import read_experiment
from avpea.measure import environment

__all__ = ["RunFolder", "StopRequest", "differences"]


class RunFolder:
    """The files of one training run.

        experiment.yaml     all options of the experiment
        metrics.jsonl       one line for each epoch
        skipped.json        videos that were left out, with the reason
        environment.json    versions, commit and machine; several entries if they changed between sessions
        tensorboard/        the metrics for TensorBoard
        model.safetensors   adapters and head of the best epoch
        state.safetensors   training state, to resume from

    Args:
        path: The folder; `open` creates it.
        experiment: The experiment to run in it.

    Raises:
        CheckpointError: The folder holds a run of another experiment, or something else.
    """

    def __init__(self, path: Path, experiment: Experiment) -> None:
        self.path = path
        self.model = path / MODEL_FILE
        self.state = path / STATE_FILE
        self._metrics = path / "metrics.jsonl"
        known = path / "experiment.yaml"
        if known.is_file():
            changed = differences(_settings(known), experiment.to_dict(), experiment.harmless())
            if changed:
                raise CheckpointError(
                    f"{path} holds a run with other settings ({'; '.join(changed[:4])}); choose another folder with "
                    f"--run, or remove this one."
                )
        elif path.exists() and (not path.is_dir() or any(not p.name.startswith(".") for p in path.iterdir())):
            raise CheckpointError(f"{path} is not empty and not a run folder; choose another one with --run.")
        self._experiment = experiment

    def open(self, broken: Mapping[str, str]) -> None:
        """Create the folder; write the experiment, and the videos that were left out with the reasons."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be made ({error.strerror}); choose another --run.") from None
        write_text(self.path / "experiment.yaml", self._experiment.to_yaml())
        write_json(self.path / "skipped.json", dict(broken))

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
        kept = []
        for line in self._metrics.read_text(encoding="utf-8").splitlines() if self._metrics.is_file() else []:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                break  # a line cut short by the interruption
            if record["epoch"] <= epochs:
                kept.append(line)
        write_text(self._metrics, "".join(f"{line}\n" for line in kept))

    def log(self, record: Mapping[str, Any]) -> None:
        """Append an epoch's metrics to `metrics.jsonl` and to TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter

        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record)) + "\n")
        with SummaryWriter(str(self.path / "tensorboard")) as writer:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "epoch":
                    writer.add_scalar(name, value, record["epoch"])


def _settings(path: Path) -> Any:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        # Options added since the run was made get their defaults, which is how it ran.
        return read_experiment(values, str(path)).to_dict() if isinstance(values, dict) else values
    except ExperimentError:
        return values
    except (yaml.YAMLError, UnicodeDecodeError):
        raise CheckpointError(f"{path} cannot be read as YAML; remove it, or choose another folder.") from None


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


class StopRequest:
    """Turns the first Ctrl-C into a request to stop after the current step; the second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> "StopRequest":
        # Only the main thread can handle signals; in other threads the caller decides how to stop.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def obey(self) -> None:
        """Stop here if that was requested.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self.requested:
            raise KeyboardInterrupt
