"""Importing an official checkpoint: read it safely, translate its names, check every shape, and write a run."""

import dataclasses
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea import backbones, data, registry
from avpea.checkpoint import BACKBONE_FILE, MODEL_FILE, save_model
from avpea.errors import AvpeaError, CheckpointError, WeightsError, WriteError
from avpea.experiment import Experiment, load_recipe
from avpea.files import folder_aside, remove_folders_aside, write_json, write_text, writing
from avpea.labels import Labels
from avpea.locks import LOCK_FILE, locked
from avpea.model import AVModel, build
from avpea.official._base import ImportReport, Official, Piece, Table
from avpea.shortage import short_of_memory
from avpea.tables import how_many
from avpea.tensors import all_finite, write_tensors

__all__ = ["Translation", "fill", "import_checkpoint", "read_official", "translate"]

REPORT_FILE = "import.json"


def import_checkpoint(
    kind: str, file: str | Path, run: str | Path, recipe: str | Path = "", overrides: Mapping[str, Any] | None = None
) -> ImportReport:
    """Make a run from an official checkpoint.

    Args:
        kind: Kind of the checkpoint: a file's name in `avpea/official/`.
        file: The checkpoint, of which only tensors are unpickled.
        run: The run folder to make.
        recipe: Name or file of a recipe of the checkpoint's size and task; empty means the kind's own choice.
        overrides: Options of the recipe to change, by dotted name.

    Raises:
        CheckpointError: The folder holds something or cannot be made; the file is of another kind, lacks tensors, or
            has tensors of another shape than the model.
        WeightsError: The file cannot be read, or other frozen weights cannot.
        ExperimentError: There is no such kind or recipe, or the recipe does not fit the checkpoint.
        DataError: The recipe names a data set that cannot be read.
    """
    official: type[Official] = registry.load("official", kind)
    folder = Path(run)
    _require_free(folder)
    with _making(folder) as aside:
        table = read_official(Path(file), official)
        _require_kind(table, file, kind, official)
        with _as_it_should_be(table, file, official):
            experiment = _experiment(official, table, recipe, dict(overrides or {}), file)
        labels = _labels(official, table, experiment, file)
        given = "backbone.weights" in (overrides or {})
        experiment, backbone, frozen = _with_backbone(official, table, experiment, aside, folder, str(file), given)
        torch.manual_seed(experiment.train.seed)
        model = build(experiment.rebuilt(), labels, backbone)
        with _as_it_should_be(table, file, official):
            found = fill(model, official, table, experiment, str(file), frozen)
        save_model(aside / MODEL_FILE, model, experiment, labels, {"epoch": 0, "selected_on": None})
        write_text(aside / "experiment.yaml", experiment.to_yaml())
        report = ImportReport(
            run=folder,
            kind=kind,
            title=experiment.title,
            taken=tuple(sorted(found.tensors.keys() - set(found.made))),
            made=found.made,
            frozen=tuple(sorted(frozen)),
            missing=found.missing,
            shared=found.shared,
            left_out=found.left_out,
            unknown=found.unknown,
            differences=tuple(official.differences(experiment)),
        )
        write_json(aside / REPORT_FILE, report.to_dict() | {"file": Path(file).name, "code": official.code})
    return report


def read_official(file: Path, official: type[Official]) -> dict[str, Tensor]:
    """Named tensors of a checkpoint, without `module.` (of `DataParallel`) before their names.

    Raises:
        WeightsError: The file cannot be read, or is no table of plain tensors.
        CheckpointError: Two have one name.
    """
    table = backbones.read_table(file, official.code)
    named = {key.removeprefix("module."): value for key, value in table.items()}
    if twice := next((key for key in named if key in table and f"module.{key}" in table), ""):
        raise CheckpointError(
            f"{file} has two tensors for one name, '{twice}' and 'module.{twice}'; expected a state_dict as "
            f"{official.code} writes it."
        )
    return named


def _require_kind(table: Table, file: str | Path, kind: str, official: type[Official]) -> None:
    if official.recognises(table):
        return
    others = {name: one for name, one in registry.usable("official").items() if one.recognises(table)}
    few = ", ".join(f"'{key}'" for key in list(table)[:2])
    if others:
        name, other = next(iter(others.items()))
        raise CheckpointError(
            f"{file} looks like a checkpoint of {other.code}, not of {official.code} (its tensors are {few} and so "
            f"on); import it with `avpea import {name}`."
        )
    raise CheckpointError(
        f"{file} is no checkpoint of {official.code}: its {len(table)} tensors are {few or 'none'} and so on; expected "
        f"a file such as {official.example}."
    )


@contextmanager
def _as_it_should_be(table: Table, file: str | Path, official: type[Official]) -> Iterator[None]:
    """Let what a kind of checkpoints meets in a file without the tensors that it expects be a sentence.

    Raises:
        CheckpointError: A tensor is missing, or has another number of dimensions, or none of a size.
    """
    try:
        yield
    except (LookupError, ArithmeticError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, AvpeaError) or short_of_memory(error):
            raise
        absent = isinstance(error, KeyError) and bool(error.args) and error.args[0] not in table
        reason = f"lacks the tensor {error.args[0]}" if absent else f"has a tensor of a shape that cannot be ({error})"
        raise CheckpointError(
            f"{file} {' '.join(reason.split())}; expected a whole checkpoint of {official.code}, such as "
            f"{official.example}."
        ) from None


def _labels(official: type[Official], table: Table, experiment: Experiment, file: str | Path) -> Labels:
    if experiment.data.root:
        return data.read(experiment.data).labels
    with _as_it_should_be(table, file, official):
        return official.labels(table, experiment)


def _experiment(
    official: type[Official], table: Table, recipe: str | Path, overrides: dict[str, Any], file: str | Path
) -> Experiment:
    experiment = load_recipe(recipe or official.recipe(table))
    if experiment.task.name not in official.tasks:
        raise CheckpointError(
            f"{file} is a checkpoint for {' or '.join(official.tasks)}, but the recipe {recipe} is for "
            f"{experiment.task.name}; leave the recipe out, or name one of {' or '.join(official.tasks)}."
        )
    return experiment.override(official.settings(table, experiment) | overrides)


@dataclasses.dataclass(frozen=True)
class Translation:
    """The tensors of a file under this code's names, and what became of the others."""

    tensors: dict[str, Tensor]
    made: tuple[str, ...]
    missing: tuple[str, ...]
    shared: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]]
    unknown: tuple[str, ...]
    homeless: tuple[str, ...]  # trained tensors that the options leave no place for


def fill(
    model: AVModel,
    official: type[Official],
    table: Table,
    experiment: Experiment,
    source: str,
    frozen: Mapping[str, str] | None = None,
) -> Translation:
    """Load an official checkpoint into a model's adapters and head.

    Args:
        model: The model, which may be on the meta device.
        official: Kind of the checkpoint.
        table: Its tensors by official name.
        experiment: The experiment that the model was built for.
        source: Name of the checkpoint, for errors.
        frozen: Official names that the backbone has loaded.

    Raises:
        CheckpointError: A tensor is missing, has no place or another shape, or is not finite.
    """
    own = model.trained_state()
    # Trained copies of the image network start from the backbone's own file.
    wanted = {name: value for name, value in own.items() if not name.startswith("adapters.tuning.")}
    found = translate(official, table, wanted, experiment, frozen or {})
    lacking = [name for name in found.missing if not official.may_miss(name)]
    if lacking:
        raise CheckpointError(
            f"{source} lacks {how_many(len(lacking), 'tensor')} of this model, such as {lacking[0]}; give the whole "
            "checkpoint, or name a recipe that it was trained for."
        )
    if found.homeless:
        raise CheckpointError(
            f"{source} has {how_many(len(found.homeless), 'trained tensor')} that this model has no place for, such as "
            f"{found.homeless[0]}; leave out the options that it was not trained with, or name a recipe that it was "
            "trained for."
        )
    for name, value in found.tensors.items():
        if wanted[name].shape != value.shape:
            raise CheckpointError(
                f"{source} does not fit: {name} has shape {tuple(value.shape)} there, expected "
                f"{tuple(wanted[name].shape)}; name a recipe (and data set) of its size."
            )
    with torch.no_grad():
        for name, value in found.tensors.items():
            kept = value.to(wanted[name].dtype)  # of float64, what is too large for float32 becomes infinite
            if not value.is_meta and not (all_finite(value) and all_finite(kept)):
                raise CheckpointError(f"{source} has values that are not finite in {name}; get the file anew.")
            wanted[name].copy_(kept)
    return found


def translate(
    official: type[Official], table: Table, wanted: Table, experiment: Experiment, frozen: Mapping[str, str]
) -> Translation:
    """Translate a checkpoint's names to the wanted ones."""
    pieces: dict[str, list[Piece]] = {}
    used: set[str] = set()
    others: dict[str, str] = {}  # what the model does not have, by its official name
    rules = official.rules(table, experiment)
    for key, value in table.items():
        for pattern, make in rules:
            if match := re.fullmatch(pattern, key):
                piece = make(match, value)
                if piece.name in wanted:
                    pieces.setdefault(piece.name, []).append(piece)
                    used.add(key)
                else:
                    others[key] = piece.name
                break
    tensors = {name: _joined(some) for name, some in pieces.items()}
    made = official.made(table, wanted)
    tensors |= made
    rest = sorted(table.keys() - used - frozen.keys())
    shared = [key for key in rest if _is_copy(table, key, [twin for twin in official.twins(key) if twin in used])]
    left_out: dict[str, tuple[str, ...]] = {}
    unknown: list[str] = []
    homeless: list[str] = []
    for key in (key for key in rest if key not in shared):
        reason = next((why for pattern, why in official.left_out if re.fullmatch(pattern, key)), "")
        if not reason and key in others:
            reason = official.elsewhere(others[key], experiment)
        if reason:
            left_out[reason] = (*left_out.get(reason, ()), key)
        else:
            (homeless if key in others else unknown).append(key)
    missing = sorted(wanted.keys() - tensors.keys())
    own = tuple(sorted(made))
    return Translation(tensors, own, tuple(missing), tuple(shared), left_out, tuple(unknown), tuple(homeless))


def _joined(pieces: list[Piece]) -> Tensor:
    if len(pieces) == 1:
        return pieces[0].tensor
    return torch.cat([piece.tensor for piece in sorted(pieces, key=lambda piece: piece.part)])


def _is_copy(table: Table, key: str, twins: list[str]) -> bool:
    one = table[key]
    return any(one.is_meta or torch.equal(one, table[twin]) for twin in twins)


def _with_backbone(
    official: type[Official], table: Table, experiment: Experiment, aside: Path, folder: Path, source: str, given: bool
) -> tuple[Experiment, Any, dict[str, str]]:
    """Write the file's frozen image network, if it has one that the recipe uses, to a file of its own, and load it.

    Raises:
        CheckpointError: It holds two, or `backbone.weights` is `given` although it holds one.
        WeightsError: The network cannot be loaded.
    """
    frozen = official.frozen(table) if experiment.backbone.name != "features" else {}
    if not frozen:
        return experiment, backbones.build(experiment.backbone), {}
    if given or experiment.backbone.weights != "pretrained":
        raise CheckpointError(
            f"{source} brings its own image network, with which it was trained, so backbone.weights "
            f"'{experiment.backbone.weights}' would not be used; leave that option out."
        )
    if len(set(frozen.values())) < len(frozen):
        raise CheckpointError(f"{source} holds two image networks; expected one, as {official.code} writes it.")
    path = aside / BACKBONE_FILE
    write_tensors(path, {name: table[key].float() for key, name in frozen.items()}, {})
    # timm renames the keys of the original codes, and tensors that do not fit are refused.
    try:
        backbone = backbones.build(dataclasses.replace(experiment.backbone, weights=str(path)))
    except WeightsError as error:
        raise WeightsError(str(error).replace(str(path), f"The image network in {source}")) from None
    return experiment.override({"backbone.weights": str((folder / BACKBONE_FILE).absolute())}), backbone, frozen


def _require_free(folder: Path) -> None:
    try:
        if folder.exists() and not folder.is_dir():
            raise CheckpointError(f"{folder} is a file; choose another folder with --run.")
        if folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
            raise CheckpointError(f"{folder} is not empty; choose another folder with --run.")
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror}); choose another --run.") from None


@contextmanager
def _making(folder: Path) -> Iterator[Path]:
    """A folder beside the run, which takes its place at the end; after an error nothing is left."""
    aside = folder_aside(folder)
    try:
        with locked(folder, "is being imported"):
            remove_folders_aside(folder)
            try:
                aside.mkdir(parents=True)
            except OSError as error:
                raise CheckpointError(f"{folder} cannot be made ({error.strerror}); choose another --run.") from None
            yield aside
        with writing(folder):
            aside.replace(folder)
    except WriteError as error:
        raise CheckpointError(f"{folder} cannot be written ({error.strerror}); choose another --run.") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def made_up(experiment: Experiment) -> Labels:
    """Labels of no data set, for tasks that do not use them."""
    kind: Labels = registry.load("task", experiment.task.name).needs.typical()
    return kind
