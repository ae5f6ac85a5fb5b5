"""Checkpoints: adapters and head only, as safetensors, with what is needed to rebuild the rest of the model.

A checkpoint names its backbone and holds fingerprints of all frozen weights; it is not loaded with other ones. After
training, what was fitted on the selection split (`Calibration`) is added to it. The training state (optimiser, random
state, position) is a second file beside it. Nothing is pickled.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avpea import backbones, registry
from avpea.device import choose_precision
from avpea.errors import CheckpointError
from avpea.experiment import Experiment
from avpea.files import replacing
from avpea.history import read_experiment
from avpea.labels import Labels
from avpea.model import AVModel, build
from avpea.tasks import Calibration
from avpea.version import __version__

__all__ = [
    "MODEL_FILE",
    "STATE_FILE",
    "CheckpointInfo",
    "add_calibration",
    "find",
    "fingerprint_of",
    "load_model",
    "load_state",
    "read_info",
    "read_position",
    "restore",
    "save_model",
    "save_state",
    "take_over",
    "weights_fingerprint",
    "write_tensors",
]

MODEL_FILE = "model.safetensors"
STATE_FILE = "state.safetensors"
_FORMAT = "avpea-1"
_CALIBRATION = "calibration"  # key in the metadata, and prefix of tensors


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
        data: What it was trained on, as `DataIdentity.summary` says it; empty in files of version 0.1.0.
        calibration: What was fitted after training; None before, for tasks without it, and in files of version 0.1.0.
            As read by `read_info`, it does not say what training inputs look like.
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


def save_model(
    path: Path,
    model: AVModel,
    experiment: Experiment,
    labels: Labels,
    results: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write adapters and head (buffers included) to `path`, atomically; `data` says what they were trained on."""
    frozen = model.encoder.backbone
    metadata = {
        "format": _FORMAT,
        "version": __version__,
        "experiment": json.dumps(experiment.to_dict()),
        "labels": json.dumps(labels.to_dict()),
        "backbone": frozen.name,
        "fingerprint": frozen.fingerprint(),
        "other_fingerprints": json.dumps(model.encoder.other_fingerprints()),
        "results": json.dumps(dict(results)),
        "data": json.dumps(dict(data or {})),
    }
    write_tensors(path, model.trained_state(), metadata)


def add_calibration(path: Path, calibration: Calibration) -> None:
    """Write what was fitted after training into a checkpoint, in place of what it held; its weights stay as they are.

    Raises:
        CheckpointError: The file cannot be read or written.
    """
    metadata, tensors = _open(path)
    kept = {key: value for key, value in tensors.items() if not key.startswith(f"{_CALIBRATION}.")}
    added = {f"{_CALIBRATION}.{key}": value for key, value in calibration.tensors().items()}
    try:
        write_tensors(path, {**kept, **added}, {**metadata, _CALIBRATION: json.dumps(calibration.to_dict())})
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror}), so it cannot hold its calibration; copy it to a place that "
            "you may write to."
        ) from None


def find(run: str | Path) -> Path:
    """The checkpoint file of a run folder, or the file itself.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(run)
    if path.is_dir():
        if (path / MODEL_FILE).is_file():
            return path / MODEL_FILE
        raise CheckpointError(
            f"{path} holds no {MODEL_FILE}: it is not a run folder, or its training has not reached the end of "
            f"an epoch; `avpea train` with the same --run resumes it."
        )
    if not path.is_file():
        raise CheckpointError(f"There is no run folder or checkpoint '{run}'.")
    return path


def fingerprint_of(run: str | Path) -> str:
    """SHA-256 of a checkpoint file; it covers trained weights and the fingerprints of frozen ones.

    Raises:
        CheckpointError: There is none.
    """
    with find(run).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_fingerprint(run: str | Path) -> str:
    """SHA-256 of the trained weights in a checkpoint, whatever else the file says.

    Raises:
        CheckpointError: There is none, or it is unreadable.
    """
    _, tensors = _open(find(run))
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if not name.startswith(f"{_CALIBRATION}.")):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_info(path: str | Path) -> CheckpointInfo:
    """Read a checkpoint's description without its tensors.

    Raises:
        CheckpointError: Missing, truncated, or not written by avpea.
    """
    file = find(path)
    metadata, _ = _open(file, tensors=False)
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{file} is a safetensors file, but not a checkpoint of avpea (format {_FORMAT}).")
    experiment = read_experiment(json.loads(metadata["experiment"]), str(file))
    return CheckpointInfo(
        experiment=experiment,
        labels=_labels(experiment, metadata),
        backbone=metadata["backbone"],
        fingerprint=metadata["fingerprint"],
        other_fingerprints=json.loads(metadata.get("other_fingerprints", "{}")),  # older files have no others
        results=json.loads(metadata["results"]),
        version=metadata["version"],
        data=json.loads(metadata.get("data", "{}")),
        calibration=_calibration(metadata),
    )


def _calibration(metadata: Mapping[str, str], tensors: Mapping[str, Tensor] | None = None) -> Calibration | None:
    if _CALIBRATION not in metadata:
        return None
    own = {
        key.removeprefix(f"{_CALIBRATION}."): value
        for key, value in (tensors or {}).items()
        if key.startswith(f"{_CALIBRATION}.")
    }
    return Calibration.from_dict(json.loads(metadata[_CALIBRATION]), own)


def _labels(experiment: Experiment, metadata: Mapping[str, str]) -> Labels:
    kind: type[Labels] = registry.load("task", experiment.task.name).needs
    if "labels" in metadata:
        return kind.from_dict(json.loads(metadata["labels"]))
    # Up to version 0.1.0 files held class names and, for questions, a vocabulary.
    questions = json.loads(metadata.get("questions", "null"))
    if questions is not None:
        return kind.from_dict(questions)
    names = json.loads(metadata["class_names"])
    return kind.from_dict({"class_names": names} if names else {})


def load_model(
    path: str | Path,
    *,
    weights: str | None = None,
    audio_weights: str | None = None,
    backbone: Any = None,
    precision: Literal["auto", "fp32", "bf16"] | None = None,
) -> tuple[AVModel, CheckpointInfo]:
    """Rebuild a trained model, in evaluation mode.

    Args:
        path: Run folder or checkpoint file.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        backbone: A backbone to share, instead of building one.
        precision: `train.precision` to compute in; None means that of training.

    Raises:
        CheckpointError: The checkpoint is unreadable, or was trained on other frozen weights.
        WeightsError: The frozen weights cannot be loaded.
    """
    info = read_info(path)
    given = {"backbone.weights": weights, "encoder.audio_weights": audio_weights}
    known = info.experiment.locations()
    given = {name: file for name, file in given.items() if file is not None and name in known}
    experiment = info.experiment.override(given).rebuilt()
    frozen = backbone if backbone is not None else backbones.build(experiment.backbone)
    if frozen.fingerprint() != info.fingerprint:
        raise CheckpointError(
            f"{path} was trained on {info.backbone} with fingerprint {info.fingerprint[:16]}, but this backbone is "
            f"{frozen.name} with fingerprint {frozen.fingerprint()[:16]}; give the weights it was trained on with "
            f"--backbone.weights FILE."
        )
    model = build(experiment, info.labels, frozen)
    for option, found in model.encoder.other_fingerprints().items():
        if (wanted := info.other_fingerprints.get(option, "none")) != found:
            raise CheckpointError(
                f"{path} was trained with {option} of fingerprint {wanted[:16]}, but these weights have fingerprint "
                f"{found[:16]}; give the weights it was trained with as --{option} FILE."
            )
    info = dataclasses.replace(info, calibration=restore(find(path), model))
    if choose_precision(precision or experiment.train.precision, torch.device("cpu")) == "bf16":
        model.half_precision()
    return model.eval(), info


def restore(path: Path, model: AVModel) -> Calibration | None:
    """Put a checkpoint's weights and calibration into a model, and return the calibration.

    Raises:
        CheckpointError: The file is unreadable, or of another model.
    """
    metadata, tensors = _open(path)
    weights = {key: value for key, value in tensors.items() if not key.startswith(f"{_CALIBRATION}.")}
    _fill(model, weights, str(path))
    model.task.calibration = _calibration(metadata, tensors)
    return model.task.calibration


def take_over(run: str | Path, model: AVModel) -> list[str]:
    """Initialise a model's trained weights from another run, wherever name and shape match.

    Returns:
        Names of the copied tensors.

    Raises:
        CheckpointError: There is no checkpoint, or nothing in it fits.
    """
    _, tensors = _open(find(run))
    own = model.trained_state()
    taken = [key for key, value in own.items() if key in tensors and tensors[key].shape == value.shape]
    if not taken:
        raise CheckpointError(f"{run} (train.start_from) has no weights whose name and shape this model has.")
    for key in taken:
        own[key].copy_(tensors[key])
    return taken


def save_state(path: Path, model: AVModel, optimizer: torch.optim.Optimizer, position: Mapping[str, Any]) -> None:
    """Write the training state, from which training resumes as if never interrupted, atomically."""
    tensors = {f"model.{key}": value for key, value in model.trained_state().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    write_tensors(path, tensors, {"format": f"{_FORMAT}-state", "position": json.dumps(dict(position))})


def load_state(path: Path, model: AVModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore model, optimiser and random state as saved by `save_state`, and return the position.

    Raises:
        CheckpointError: The file is unreadable, or of another model.
    """
    metadata, tensors = _open(path, remedy="remove it to train from the start")
    _fill(model, {key[6:]: value for key, value in tensors.items() if key.startswith("model.")}, str(path))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    position: dict[str, Any] = json.loads(metadata["position"])
    return position


def read_position(path: Path) -> dict[str, Any]:
    """The position in a training state, without its tensors.

    Raises:
        CheckpointError: The file is unreadable.
    """
    metadata, _ = _open(path, tensors=False, remedy="remove it to train from the start")
    position: dict[str, Any] = json.loads(metadata["position"])
    return position


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, atomically.

    Raises:
        CheckpointError: There is no room for it, or no permission; the file is as it was.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        with replacing(path) as aside:
            save_file(plain, aside, dict(metadata))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written ({error}); what was there before is kept.") from None


def _open(
    file: Path, tensors: bool = True, remedy: str = "copy it anew, or train again"
) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(file, framework="pt") as opened:
            found = {key: opened.get_tensor(key) for key in opened.keys()} if tensors else {}  # noqa: SIM118
            return dict(opened.metadata() or {}), found
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors ({error}); {remedy}.") from None


def _fill(model: AVModel, tensors: Mapping[str, Tensor], source: str) -> None:
    own = model.trained_state()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{source} does not fit the model: {len(missing)} tensors are missing {missing[:3]}, "
            f"{len(unknown)} are unknown {unknown[:3]}."
        )
    for key, value in own.items():
        if value.shape != tensors[key].shape:
            raise CheckpointError(
                f"{source} does not fit the model: {key} has shape {tuple(tensors[key].shape)}, "
                f"expected {tuple(value.shape)}."
            )
        value.copy_(tensors[key])
