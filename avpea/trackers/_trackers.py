"""All trackers of a run: started, told each epoch, and ended; none of their errors reaches the training."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from types import TracebackType
from typing import Any

from avpea.errors import AvpeaError
from avpea.files import write_json, writing
from avpea.parsing import read_json
from avpea.progress import note
from avpea.trackers._base import About, Outcome, Tracker, as_text
from avpea.trackers._mlflow import MLflow
from avpea.trackers._tensorboard import TensorBoard
from avpea.trackers._wandb import WeightsAndBiases

__all__ = ["Trackers", "tracked"]

_FILE = "trackers.json"
_KINDS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
_NONE: dict[str, Any] = {"run": "", "epochs": 0, "failed": ""}
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REST = 10  # after an error, this many times as long as it took, a tracker is not tried again


@dataclass
class _State:
    """A tracker that was started: its run's identifier, the epochs it was told, and its last error."""

    tracker: Tracker
    identifier: str
    epochs: int
    failed: str = ""
    not_before: float = 0.0


class Trackers:
    """The trackers of a training, as a context: they start when it is entered, and end with it.

    `trackers.json` in the run's folder holds, for each that does not remember itself, the identifier of its run, the
    number of epochs that it was told, and why it does not know more. So a resumed training goes on with the same run,
    and whatever a tracker has missed is told later.

    Args:
        names: Values of `train.trackers`.
        about: The run; its folder is there already.
        records: Lines of `metrics.jsonl`, to which training appends.
        quiet: Whether to say nothing of trackers that work.
    """

    def __init__(
        self, names: Sequence[str], about: About, records: Sequence[Mapping[str, Any]], quiet: bool = False
    ) -> None:
        self._names, self._about, self._records, self._quiet = tuple(dict.fromkeys(names)), about, records, quiet
        self._path = about.folder / _FILE
        self._known = tracked(self._about.folder)
        self._states: dict[str, _State] = {}
        self.best: Mapping[str, Any] = {}

    @property
    def behind(self) -> bool:
        """Whether a tracker has not been told all epochs."""
        asked = [name for name in self._names if _KINDS[name].remembers or name in self._known]
        told = [self._known.get(name, _NONE)["epochs"] for name in asked]
        return any(epochs < len(self._records) for epochs in told)

    def __enter__(self) -> "Trackers":
        for name in self._names:
            self._start(name)
        self.catch_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome: Outcome = "finished" if kind is None else "failed" if issubclass(kind, Exception) else "stopped"
        for state in self._states.values():
            state.not_before = 0.0
        self.catch_up()
        best = _numbers(self.best, "epoch")
        for state in self._states.values():
            try:
                state.tracker.end(best, outcome)
            except Exception as reason:
                self._failed(state, reason)
        self._write()

    def catch_up(self) -> None:
        """Tell each tracker the epochs that it does not know yet."""
        for state in self._states.values():
            missing = self._records[state.epochs :]
            if not missing or time.monotonic() < state.not_before:
                continue
            began = time.monotonic()
            try:
                for record in missing:
                    state.tracker.log(int(record["epoch"]), _numbers(record))
                    state.epochs, state.failed = state.epochs + 1, ""
            except Exception as reason:
                state.not_before = time.monotonic() + _REST * (time.monotonic() - began)
                self._failed(state, reason)
        self._write()

    def _start(self, name: str) -> None:
        kind, known = _KINDS[name], self._known.get(name, _NONE)
        if find_spec(kind.package) is None:
            note(
                f"{self._about.folder} gets no {kind.title}, since the package {kind.package} is missing "
                f"(pip install 'avpea[{kind.extra}]')."
            )
            return
        tracker = kind()
        try:
            identifier, epochs, said = tracker.start(self._about, known["run"], known["epochs"])
        except Exception as reason:
            note(f"{kind.title} cannot follow {self._about.folder}, which is trained without it: {_sentence(reason)}")
            self._known[name] = {**known, "failed": _sentence(reason)}
            return
        self._states[name] = _State(tracker, identifier, min(epochs, len(self._records)))
        if said and not self._quiet:
            note(said)

    def _failed(self, state: _State, reason: Exception) -> None:
        if not state.failed:
            note(
                f"{state.tracker.title} has {state.epochs} epochs of {self._about.folder}; training goes on, and it "
                f"is told the others later: {_sentence(reason)}"
            )
        state.failed = _sentence(reason)

    def _write(self) -> None:
        """Keep what is known of the trackers; without it, a later session begins new runs."""
        for name, state in self._states.items():
            self._known[name] = {"run": state.identifier, "epochs": state.epochs, "failed": state.failed}
            if not (state.tracker.remembers or state.failed):
                del self._known[name]
        try:
            if self._known and self._known != tracked(self._about.folder):
                write_json(self._path, self._known)
            elif not self._known:  # all is told, as in a training without any trouble
                with writing(self._path):
                    self._path.unlink(missing_ok=True)
        except AvpeaError as reason:
            note(str(reason))


def _numbers(record: Mapping[str, Any], *also: str) -> dict[str, float]:
    """The numbers of a record, without the epoch."""
    return {
        as_text(name): value
        for name, value in record.items()
        if type(value) in (int, float) and (name != "epoch" or name in also)
    }


def _sentence(reason: Exception) -> str:
    """An error in one sentence: trackers have long ones, of several lines."""
    text = shorten(str(reason), 300, placeholder=" …") or type(reason).__name__
    return f"{text.rstrip('.')}."


def tracked(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known of a run's trackers by name: `run`, `epochs`, and `failed`, which is why they are not all.

    A file that is damaged, or is not as it is written, counts as none.
    """
    path = folder / _FILE
    try:
        found = read_json(path) if path.is_file() else {}
    except AvpeaError:
        return {}
    kept = {}
    for name, one in found.items() if isinstance(found, dict) else ():
        if name in _KINDS and isinstance(one, dict):
            run, epochs, failed = one.get("run"), one.get("epochs"), one.get("failed", "")
            valid = isinstance(run, str) and (not run or _IDENTIFIER.fullmatch(run)) and isinstance(failed, str)
            if valid and type(epochs) is int and epochs >= 0:
                kept[name] = _NONE | {"run": run, "epochs": epochs, "failed": failed}
    return kept
