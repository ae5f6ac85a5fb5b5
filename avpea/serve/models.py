"""The runs of a server: adapters and heads over as few copies of frozen backbones as they need."""

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea import registry
from avpea.checkpoint import find, load_model
from avpea.device import choose_device, choose_precision
from avpea.errors import AvpeaError
from avpea.predict import Predictor
from avpea.serve.problems import Problem
from avpea.sharing import resolve

__all__ = ["Models", "Run", "kinds", "require_useful"]

# What a run does that answers a kind of question.
_DOES = {
    "localize": "finds events",
    "parse": "finds what is seen and what is heard",
    "segment": "masks what sounds",
    "ask": "answers questions",
    "caption": "writes captions",
}


@dataclass(frozen=True)
class Run:
    """A run that is loaded.

    Attributes:
        name: What the API calls it.
        source: Where it was loaded from; never told.
        predictor: The model.
        changed: When its checkpoint was written, as the file system says it.
        trained_bytes: Size of its own weights and buffers in memory.
        seconds: Time that loading it took.
    """

    name: str
    source: str
    predictor: Predictor
    changed: int
    trained_bytes: int
    seconds: float

    @property
    def key(self) -> str:
        """What tells it from other runs, and from itself before more training."""
        return f"{self.name}:{self.changed}"

    @property
    def can(self) -> list[str]:
        """What it can do."""
        task = self.predictor.model.task
        return [kind for kind in [_kind(task)] if kind] + ["search"] * hasattr(task, "embed_text")

    @property
    def classes(self) -> list[str]:
        """What it tells apart."""
        return list(self.predictor.info.labels.names)

    def described(self) -> dict[str, Any]:
        """Plain values for the API."""
        info, model = self.predictor.info, self.predictor.model
        return {
            "run": self.name,
            "task": info.experiment.task.name,
            "title": info.experiment.title,
            "can": self.can,
            "outputs": info.labels.outputs,
            "classes": self.classes,
            "window_seconds": info.experiment.data.segments,
            "threshold": (info.calibration.chosen.get("threshold") if info.calibration else None),
            "attention": any(adapter[2].attends for adapter in model.encoder.beside_attention()),
            "trained_bytes": self.trained_bytes,
            "own": info.own,
        }


class Models:
    """The runs of a server, each with the backbone that it shares with others of the same weights and precision.

    Args:
        device: Device to compute on; see `avpea.load`.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        trust: Whether to open what runs name although somebody else made them.
    """

    def __init__(
        self, device: str = "auto", weights: str | None = None, audio_weights: str | None = None, trust: bool = False
    ) -> None:
        self._device = choose_device(device)
        self._loading: dict[str, Any] = {"weights": weights, "audio_weights": audio_weights, "trust": trust}
        self._backbones: dict[str, Any] = {}
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    @property
    def backbones(self) -> int:
        """Copies of backbones in memory."""
        return len(self._backbones)

    def all(self) -> list[Run]:
        """The runs in the order of loading."""
        return list(self._runs.values())

    def load(self, source: str) -> Run:
        """Load a run.

        Raises:
            AvpeaError: It cannot be loaded.
        """
        path = Path(source)
        stem = path.parent.name if path.is_file() else path.name or path.resolve().name
        name, number = stem, 2
        while name in self._runs:
            name, number = f"{stem}-{number}", number + 1
        self._runs[name] = self._loaded(name, source)
        return self._runs[name]

    def reload(self, name: str) -> Run:
        """Load a run's adapters and head again, as after training further; the backbone stays.

        Requests that have begun end with the weights that they began with.

        Raises:
            Problem: There is no such run.
            AvpeaError: It cannot be loaded; the one before stays.
        """
        with self._lock:
            self._runs[name] = self._loaded(name, self.get(name).source)
            return self._runs[name]

    def get(self, name: str | None, can: str = "") -> Run:
        """The run with a name, or if none is given, the only one that can do something.

        Raises:
            Problem: There is none, or it cannot.
        """
        able = [run for run in self._runs.values() if not can or can in run.can]
        if name is None:
            if len(able) == 1:
                return able[0]
            if not able:
                raise self.none_can(can)
            raise Problem(
                422,
                f"{len(able)} runs of the server can {can or 'do this'}; name one with `run`; GET /v1/runs lists them.",
                "which-run",
            )
        found = self._runs.get(name)
        if found is None:
            raise Problem(404, f"There is no run '{name[:60]}'; GET /v1/runs lists them.", "no-such-run")
        if found not in able:
            what = ", ".join(found.can) or "nothing that a server offers"
            raise Problem(422, f"The run '{name}' cannot {can}; it can {what}.", "cannot")
        return found

    def none_can(self, can: str) -> Problem:
        """The problem of a request for what no run does; it says what the runs are for."""
        runs = ", ".join(f"'{run.name}' has the task {run.predictor.info.experiment.task.name}" for run in self.all())
        return Problem(
            404,
            f"None of the server's runs {_DOES.get(can, f'can {can}')}: {runs}; start it with a run that does.",
            "no-run-can",
        )

    def _loaded(self, name: str, source: str) -> Run:
        begun, path = time.monotonic(), resolve(source, not self._loading.get("weights"))
        changed = find(path).stat().st_mtime_ns
        key = self._key(path)
        model, info = load_model(path, backbone=self._backbones.get(key), device=str(self._device), **self._loading)
        self._backbones.setdefault(key, model.encoder.backbone)
        size = sum(tensor.numel() * tensor.element_size() for tensor in model.trained_state().values())
        return Run(name, source, Predictor(model.folded(), info), changed, size, time.monotonic() - begun)

    def _key(self, path: Path) -> str:
        """What runs have in common that share a backbone: its options and weights, and the precision."""
        from avpea.checkpoint import read_info

        info = read_info(path)
        options = info.experiment.to_dict()["backbone"]
        precision = choose_precision(info.experiment.train.precision, self._device)
        return json.dumps([options, info.fingerprint, precision, self._loading["weights"]], sort_keys=True, default=str)


def kinds() -> list[str]:
    """All kinds of questions about a video that some task answers."""
    return sorted({_kind(task) for task in registry.usable("task").values()} - {""})


def _kind(task: Any) -> str:
    """What a server calls the questions about a video that a task answers; empty if it has no answer for a user."""
    return str(task.serves or task.verb)


def require_useful(runs: list[Run], library: str | None) -> None:
    """Refuse runs that can do nothing here.

    Raises:
        AvpeaError: Some can do nothing.
    """
    for run in runs:
        if not run.can:
            use = run.predictor.model.task.use.format(run=run.source)
            raise AvpeaError(f"{run.source} can do nothing that a server offers; it is for `{use}`.")
        if run.can == ["search"] and library is None:
            raise AvpeaError(f"{run.source} searches a library; name it with --library LIB.")
