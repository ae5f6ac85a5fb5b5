"""Checkpoints: adapters and head only, as safetensors, with what is needed to rebuild the rest of the model.

A checkpoint names its backbone and holds fingerprints of all frozen weights; it is not loaded with other ones. After
training, what was fitted on the selection split (`Calibration`) is added to it. The training state (optimiser, random
state, position) is a second file beside it. Nothing is pickled.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from avpea import backbones
from avpea.description import (
    CALIBRATION,
    FORMATS,
    CheckpointInfo,
    LoadedFile,
    described,
    read_calibration,
    read_description,
)
from avpea.device import Precision, choose_device, choose_precision, enough_memory, kept_random_state
from avpea.errors import CheckpointError, WeightsError
from avpea.experiment import Experiment
from avpea.files import closed, digest_of_file
from avpea.fit import REMEDY, require_finite, require_same
from avpea.labels import Labels
from avpea.model import AVModel, build
from avpea.options import require_choice
from avpea.parsing import parse_json
from avpea.tasks import Calibration
from avpea.tensors import Shape, TensorFile, Unreadable, digest_of, read_tensors, write_tensors
from avpea.trust import lies_inside, nothing_fetched

__all__ = [
    "BACKBONE_FILE",
    "MODEL_FILE",
    "NAMED_WEIGHTS",
    "STATE_FILE",
    "CheckpointInfo",
    "Origin",
    "add_calibration",
    "find",
    "fingerprint_of",
    "fingerprint_of_weights",
    "load_model",
    "load_state",
    "network_of",
    "read_info",
    "read_origin",
    "read_position",
    "require_whole",
    "restore",
    "save_model",
    "save_state",
    "take_over",
    "weights_fingerprint",
]

V = TypeVar("V")

MODEL_FILE = "model.safetensors"
BACKBONE_FILE = "backbone.safetensors"  # beside it, where a run brings its own image network
STATE_FILE = "state.safetensors"
_STATES = tuple(f"{form}-state" for form in FORMATS)
_ANEW = "remove it to train from the start"  # the remedy for a state
NAMED_WEIGHTS = ("backbone.weights", "encoder.audio_weights")  # options of the commands that load a run
# Backbones of random weights are for tests; a stranger's that is bigger would only fill the memory.
_RANDOM_PARAMETERS = 100_000_000


@dataclass(frozen=True)
class Origin:
    """The weights that a training began with, which its state names.

    Attributes:
        frozen: SHA-256 of the frozen weights, by the option that names their file; empty in states of version 0.1.0.
        start: `weights_fingerprint` of `train.start_from`, empty without one; None where it is not known.
    """

    frozen: Mapping[str, str] = field(default_factory=dict)
    start: str | None = None


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
    info = CheckpointInfo(
        experiment, labels, frozen.name, frozen.fingerprint(), model.encoder.other_fingerprints(), dict(results),
        data=dict(data or {}),
    )  # fmt: skip
    write_tensors(path, model.trained_state(), described(info), signed=True)


def add_calibration(path: Path, calibration: Calibration) -> None:
    """Write what was fitted after training into a checkpoint, in place of what it held; its weights stay as they are.

    A checkpoint of somebody else's does not become one of this user's.

    Raises:
        CheckpointError: The file cannot be read or written.
    """
    found = _open(path, FORMATS)
    added = {f"{CALIBRATION}.{key}": value for key, value in calibration.tensors().items()}
    about = {**found.metadata, CALIBRATION: json.dumps(calibration.to_dict())}
    write_tensors(path, {**_weights(found.tensors), **added}, about, signed=found.own)


def find(run: str | Path) -> Path:
    """The checkpoint file of a run folder, or the file itself.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(os.path.expanduser(run))
    if reason := closed(path):
        raise CheckpointError(f"{reason}; get permission for it, or name another run.")
    if os.path.isdir(path):  # unlike `Path.is_dir`, it is false for a name that is too long for a file
        if (path / MODEL_FILE).is_file():
            return path / MODEL_FILE
        if (path / "export.json").is_file():
            raise CheckpointError(
                f"{path} is an exported model, which only answers about videos; name the run that it was made from."
            )
        if os.path.lexists(model := path / MODEL_FILE):
            what = "a folder" if os.path.isdir(model) else "a pipe, a device or a link that leads nowhere"
            raise CheckpointError(f"{model} is {what}; expected a checkpoint file; copy the run anew.")
        raise CheckpointError(
            f"{path} holds no {MODEL_FILE}: it is not a run folder, or its training has not reached the end of "
            f"an epoch; `avpea train` with the same --run resumes it."
        )
    if not os.path.isfile(path):
        raise CheckpointError(f"There is no run folder or checkpoint '{run}'.")
    return path


def fingerprint_of(run: str | Path) -> str:
    """SHA-256 of a checkpoint file; it covers trained weights and the fingerprints of frozen ones.

    Raises:
        CheckpointError: There is none.
    """
    return digest_of_file(find(run))


def weights_fingerprint(run: str | Path) -> str:
    """SHA-256 of the trained weights in a checkpoint, whatever else the file says.

    Raises:
        CheckpointError: There is none, or it is unreadable.
    """
    return digest_of(_weights(_open(find(run), FORMATS).tensors))


def fingerprint_of_weights(model: AVModel) -> str:
    """The `weights_fingerprint` that a checkpoint of the model has, whatever became of its file since."""
    return digest_of({key: value.detach().cpu().contiguous() for key, value in model.trained_state().items()})


def read_info(path: str | Path) -> CheckpointInfo:
    """Read a checkpoint's description without its tensors.

    Raises:
        CheckpointError: Missing, truncated, or not written by avpea.
    """
    file = find(path)
    return _info(file, _open(file, FORMATS, values=False))


def require_whole(path: Path) -> None:
    """Read all of a checkpoint, and compare it with its checksums.

    Raises:
        CheckpointError: It is missing, unreadable or damaged.
    """
    _info(path, _open(find(path), FORMATS))


def _info(file: Path, found: TensorFile) -> CheckpointInfo:
    return read_description(found.metadata, str(file), own=found.own)


@kept_random_state()  # building the model draws weights, which the file's replace
def load_model(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
    backbone: Any = None,
    precision: Precision | None = None,
    device: str | torch.device = "auto",
    trust: bool = False,
) -> tuple[AVModel, CheckpointInfo]:
    """Rebuild a trained model, in evaluation mode, on a device.

    Args:
        path: Run folder or checkpoint file.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        backbone: A backbone to share, instead of building one.
        precision: `train.precision` to compute in; None means that of training.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; see `avpea.device.choose_device`.
        trust: Whether to open and to download what the checkpoint names although somebody else wrote it.

    Raises:
        CheckpointError: The checkpoint is unreadable or damaged, was trained on other frozen weights, or is somebody
            else's and names files, folders or downloads.
        ExperimentError: There is no such device here, or no such precision.
        DeviceMemoryError: The model does not fit into its memory.
        WeightsError: The frozen weights cannot be loaded.
    """
    place = choose_device(device)
    if precision is not None:
        require_choice("precision", precision, Precision)
    file = find(path)
    loaded = LoadedFile(file)  # before it is opened, since a training may put the next one in its place
    found = _open(file, FORMATS)
    info = dataclasses.replace(_info(file, found), loaded=loaded)
    known = info.experiment.locations()
    named = {"backbone.weights": weights, "encoder.audio_weights": audio_weights}
    given = {name: os.fspath(value) for name, value in named.items() if value is not None and name in known}
    experiment = info.experiment.override(given).rebuilt()
    if "backbone.weights" not in given:
        experiment = _beside(experiment, file, not info.own and not trust)
    stranger = f"{file} is not a run of yours" if not info.own and not trust else ""
    if stranger:
        _require_inside(experiment, given, file)
        with nothing_fetched(stranger):
            _require_fit(experiment, info.labels, found, file)
    with nothing_fetched("" if "backbone.weights" in given else stranger):
        frozen = backbone if backbone is not None else _network(experiment, file)
    with nothing_fetched(stranger):
        model = _built(experiment, info, frozen, path)
    info = dataclasses.replace(info, calibration=_restored(found, model, str(file)))
    if choose_precision(precision or experiment.train.precision, place) == "bf16":
        model.half_precision()
    with enough_memory(place, 'choose another device, such as device="cpu"'):
        return model.to(place).eval(), info


def network_of(run: str | Path) -> Path | None:
    """The file of the run's own image network, as an import writes it, if one lies in the run's folder.

    Raises:
        CheckpointError: There is no checkpoint, or it is unreadable.
    """
    file = find(run)
    named = _weights_named(_beside(read_info(file).experiment, file, True))
    whole = named is not None and named.suffix == ".safetensors" and named.is_file()
    return named if named and whole and _is_in_folder_of(file, str(named)) else None


def _beside(experiment: Experiment, file: Path, inside_only: bool) -> Experiment:
    """With the image network beside the checkpoint, unless the file that it names is there and in the same folder.

    After a move another run may have one in the place that is named. With `inside_only`, for a stranger's run, the one
    beside it must not be a link that leads out of the folder. Whether it is the network of the training is told by its
    fingerprint.
    """
    named, found = _weights_named(experiment), file.parent / BACKBONE_FILE
    if named is None or not os.path.isfile(found):
        return experiment
    if os.path.isfile(named) and _is_in_folder_of(file, str(named)):
        return experiment
    if inside_only and not _is_in_folder_of(file, str(found)):
        return experiment
    return experiment.override({"backbone.weights": str(found)})


def _weights_named(experiment: Experiment) -> Path | None:
    """The file that `backbone.weights` names; None for weights of a known name."""
    place = experiment.outside().get("backbone.weights")
    return None if place is None else Path(os.path.expanduser(place))


def _is_in_folder_of(file: Path, place: str) -> bool:
    return lies_inside(place, file.resolve().parent)


def _network(experiment: Experiment, file: Path) -> Any:
    """The frozen network.

    Raises:
        WeightsError: It cannot be loaded; if its file is gone, the error names where else it may be.
    """
    try:
        return backbones.build(experiment.backbone)
    except WeightsError as error:
        named = _weights_named(experiment)
        if named is None or os.path.isfile(named):
            raise
        raise WeightsError(f"{str(error).removesuffix('.')}; or put it beside {file} as {BACKBONE_FILE}.") from None


def _built(experiment: Experiment, info: CheckpointInfo, frozen: Any, path: str | Path) -> AVModel:
    """The model, on the frozen weights that it was trained on.

    Raises:
        CheckpointError: These are others.
    """
    if frozen.fingerprint() != info.fingerprint:
        raise CheckpointError(
            f"{path} was trained on {info.backbone} with fingerprint {info.fingerprint[:16]}, but this backbone is "
            f"{frozen.name} with fingerprint {frozen.fingerprint()[:16]}; give the weights it was trained on with "
            f"--backbone.weights FILE."
        )
    model = build(experiment, info.labels, frozen)
    for option, digest in model.encoder.other_fingerprints().items():
        if (wanted := info.other_fingerprints.get(option, "none")) != digest:
            raise CheckpointError(
                f"{path} was trained with {option} of fingerprint {wanted[:16]}, but these weights have fingerprint "
                f"{digest[:16]}; give the weights it was trained with as --{option} FILE."
            )
    return model


def _require_inside(experiment: Experiment, given: Mapping[str, str], file: Path) -> None:
    """Refuse files and folders outside of a stranger's run that only its description names.

    Raises:
        CheckpointError: It names one.
    """
    for option, place in experiment.outside().items():
        if option not in given and not _is_in_folder_of(file, place):
            by_hand = f"name a file yourself with --{option} FILE, or add " if option in NAMED_WEIGHTS else "add "
            raise CheckpointError(
                f"{file} wants to open '{place:.200}' ({option}), but it is not a run of yours; {by_hand}trust=True if "
                "you trust whoever made it."
            )


def _require_fit(experiment: Experiment, labels: Labels, found: TensorFile, file: Path) -> None:
    """Refuse a stranger's run whose tensors are not those of its model, before anything of that size is made.

    Raises:
        CheckpointError: They are not, or the model has a big backbone of random weights.
    """
    frozen = backbones.shape_only(experiment.backbone)
    parameters = sum(weight.numel() for weight in frozen.parameters())
    if experiment.backbone.weights == "random" and parameters > _RANDOM_PARAMETERS:
        raise CheckpointError(
            f"{file} wants a backbone of {parameters:,} random weights, but it is not a run of yours; expected at most "
            f"{_RANDOM_PARAMETERS:,}, or add trust=True."
        )
    with torch.device("meta"), backbones.WithoutValues():
        model = build(experiment, labels, frozen)
    require_same(model.trained_state(), _weights(found.shapes), str(file))


def restore(path: Path, model: AVModel) -> Calibration | None:
    """Put a checkpoint's weights and calibration into a model, and return the calibration.

    Raises:
        CheckpointError: The file is unreadable or damaged, or of another model.
    """
    return _restored(_open(path, FORMATS), model, str(path))


def _restored(found: TensorFile, model: AVModel, source: str) -> Calibration | None:
    _fill(model, _weights(found.shapes), _weights(found.tensors), source)
    model.task.calibration = read_calibration(found.metadata, source, found.tensors)
    return model.task.calibration


def _weights(tensors: Mapping[str, V]) -> dict[str, V]:
    """What of a checkpoint's tensors belongs to the model."""
    return {key: value for key, value in tensors.items() if not key.startswith(f"{CALIBRATION}.")}


def take_over(run: str | Path, model: AVModel) -> tuple[list[str], str]:
    """Initialise a model's trained weights from another run, wherever name and shape match.

    Returns:
        Names of the copied tensors, and the `weights_fingerprint` of the file that they were read from: it may be
        another one soon, if a training writes it.

    Raises:
        CheckpointError: There is no checkpoint, or nothing in it fits.
    """
    file = find(run)
    tensors, own = _open(file, FORMATS).tensors, model.trained_state()
    require_finite(tensors, str(file))
    taken = [
        key
        for key, value in own.items()
        if key in tensors and (tensors[key].shape, tensors[key].dtype) == (value.shape, value.dtype)
    ]
    if not taken:
        raise CheckpointError(f"{run} (train.start_from) has no weights whose name and shape this model has.")
    for key in taken:
        own[key].copy_(tensors[key])
    return taken, digest_of(_weights(tensors))


def save_state(
    path: Path,
    model: AVModel,
    optimizer: torch.optim.Optimizer,
    position: Mapping[str, Any],
    start: str | None = None,
) -> None:
    """Write the training state, from which training resumes as if never interrupted, atomically.

    Args:
        path: The file.
        model: The model; the state has its trained weights, and the fingerprints of the frozen ones.
        optimizer: The optimiser.
        position: How far the training has come.
        start: `weights_fingerprint` of what it started from, empty if from nothing; None where that is not known.
    """
    tensors = {f"model.{key}": value for key, value in model.trained_state().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    origin = json.dumps({"frozen": model.encoder.fingerprints(), "start": start})
    write_tensors(path, tensors, {"format": _STATES[0], "position": json.dumps(dict(position)), "origin": origin})


def load_state(path: Path, model: AVModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore model, optimiser and random state as saved by `save_state`, and return the position.

    Raises:
        CheckpointError: The file is unreadable or damaged, or of another model.
    """
    found = _open(path, _STATES, remedy=_ANEW)
    shapes = {key[6:]: value for key, value in found.shapes.items() if key.startswith("model.")}
    tensors = {key[6:]: value for key, value in found.tensors.items() if key.startswith("model.")}
    _fill(model, shapes, tensors, str(path))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in found.tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    position = _position(found, path)
    try:
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(found.tensors["random.cpu"])
        if "random.cuda" in found.tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(found.tensors["random.cuda"])
        return position
    except (LookupError, TypeError, ValueError, RuntimeError):
        raise CheckpointError(f"{path} is no training state of this model; {_ANEW}.") from None


def read_position(path: Path) -> dict[str, Any]:
    """The position in a training state, without its tensors.

    Raises:
        CheckpointError: The file is unreadable or damaged.
    """
    return _position(_open(path, _STATES, values=False, remedy=_ANEW), path)


def read_origin(path: Path) -> Origin:
    """The weights that the training of a state began with, as far as it names them.

    Raises:
        CheckpointError: The file is unreadable or damaged.
    """
    text = _open(path, _STATES, values=False, remedy=_ANEW).metadata.get("origin", "{}")
    found = parse_json(text, f"{path}: 'origin' in its description", remedy=_ANEW)
    frozen, start = (found.get("frozen", {}), found.get("start")) if isinstance(found, dict) else (None, None)
    if not isinstance(frozen, dict) or not all(isinstance(one, str) for one in (*frozen.values(), start or "")):
        raise CheckpointError(f"{path} does not say which weights the training began with; {_ANEW}.")
    return Origin(frozen, start)


def _position(found: TensorFile, path: Path) -> dict[str, Any]:
    position = parse_json(found.metadata.get("position", ""), f"{path}: 'position' in its description", remedy=_ANEW)
    epoch, best = (position.get("epoch"), position.get("best")) if isinstance(position, dict) else (None, None)
    if type(epoch) is not int or epoch < 0 or not isinstance(best, dict):
        raise CheckpointError(f"{path} does not say how far the training has come; {_ANEW}.")
    known: dict[str, Any] = position
    return known


def _open(file: Path, formats: Sequence[str], *, values: bool = True, remedy: str = REMEDY) -> TensorFile:
    """Read a file of one of these formats; the first has checksums.

    Raises:
        CheckpointError: It is none, or is damaged.
    """
    try:
        found = read_tensors(file, values=values)
    except Unreadable as error:
        raise CheckpointError(f"{file} {error}; {remedy}.") from None
    form = found.metadata.get("format")
    if form not in formats or (form == formats[0] and not found.checked):
        what = "a training state" if formats is _STATES else "a checkpoint"
        lacking = ", since its checksums are missing" if form in formats else ""
        raise CheckpointError(
            f"{file} is a safetensors file, but not {what} of avpea (format {formats[0]}){lacking}; {remedy}."
        )
    return found


def _fill(model: AVModel, shapes: Mapping[str, Shape], tensors: Mapping[str, Tensor], source: str) -> None:
    own = model.trained_state()
    require_same(own, shapes, source)
    require_finite(tensors, source)
    for key, value in own.items():
        value.copy_(tensors[key])
