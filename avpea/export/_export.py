"""`avpea export`: a run as a folder for another runtime, which computes the same or is not written."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from avpea.checkpoint import CheckpointInfo, load_model
from avpea.description import CALIBRATION, described
from avpea.errors import AvpeaError
from avpea.experiment import Experiment
from avpea.export._about import inputs_of, preprocessing
from avpea.export._graph import BATCH, Graph, Traced, traced
from avpea.export._write import require_writer, runner, write_graph
from avpea.exported import ABOUT_FILE, CALIBRATION_FILE, FILES, FORMAT, is_export, sealed
from avpea.files import digest_of_file, folder_aside, remove_folders_aside, write_json, writing
from avpea.locks import locked
from avpea.model import AVModel
from avpea.sharing import resolve
from avpea.tables import how_many
from avpea.tensors import write_tensors
from avpea.version import __version__

__all__ = ["ExportReport", "export"]

TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportReport:
    """The result of exporting.

    Attributes:
        folder: The folder.
        to: What was exported to.
        megabytes: Size of its files.
        difference: Largest difference of an output to PyTorch's in float32, as a share of the output where that is
            above 1.
        segments: Number of seconds that a window must have; None if any number will do.
    """

    folder: Path
    to: str
    megabytes: float
    difference: float
    segments: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"folder": str(self.folder)}

    def lines(self) -> Iterator[str]:
        """Sentences for the terminal."""
        yield (
            f"{self.folder}: {self.megabytes:.1f} MB for {self.to}; its outputs differ from PyTorch's by at most "
            f"{self.difference:.1e}."
        )
        if self.segments is not None:
            yield f"It takes windows of {self.segments} seconds only, since the head has an LSTM."
        elif self.to == "torch":
            yield "It takes windows of two seconds and more."


def export(
    run: str | Path,
    to: Literal["onnx", "openvino", "torch"],
    folder: str | Path | None = None,
    *,
    overwrite: bool = False,
    weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
    trust: bool = False,
) -> ExportReport:
    """Write a run's encoder, adapters and head as one graph, with all that answers need beside it.

    The graph takes batches of any size, of windows of any number of seconds. It is run in float32 before the folder
    gets its name, and is not written if its outputs are not PyTorch's.

    Args:
        run: Run folder, checkpoint file or hub repository.
        to: `onnx`, `openvino`, or `torch` (an archive of torch.export).
        folder: Folder to write; None means a folder of that name in the run's.
        overwrite: Whether to replace an export that is there.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        trust: Whether to open and to download what the run names although somebody else made it.

    Raises:
        AvpeaError: The task or the model cannot be exported, a library is missing, the folder exists, or the graph
            computes something else.
        CheckpointError, WeightsError: The run cannot be loaded, or is written anew meanwhile.
        WriteError: The folder cannot be written.
    """
    if to not in FILES:
        raise AvpeaError(f"to is '{to}'; expected {', '.join(FILES)}.")
    file = resolve(run, network=weights is None)
    named = file.parent / to if folder is None else Path(os.path.expanduser(folder))
    target = _place(named)
    require_writer(to)
    _require_free(target, overwrite)
    model, info = load_model(
        file, weights=weights, audio_weights=audio_weights, precision="fp32", device="cpu", trust=trust
    )
    if reason := model.task.unexported:
        use = model.task.use.format(run=run)
        raise AvpeaError(f"A run of the task '{info.experiment.task.name}' cannot be exported: {reason}; use `{use}`.")
    with _new_folder(target, overwrite) as aside:
        about = _write(model, info, to, aside)
        about["files"] = {one.name: _file(one) for one in sorted(aside.iterdir())}
        write_json(aside / ABOUT_FILE, sealed(about))
    size = sum(one["bytes"] for one in about["files"].values()) / 1e6
    return ExportReport(named, to, size, about["parity"]["difference"], about["segments"])


def _write(model: AVModel, info: CheckpointInfo, to: str, folder: Path) -> dict[str, Any]:
    """Write the graph, see that it computes the same, and describe it."""
    graph, experiment = Graph(model.folded()), info.experiment
    example = inputs_of(experiment, model.image_size, BATCH, max(2, experiment.data.segments))
    found = traced(graph, *example, to="torch" if to == "torch" else "onnx")
    about: dict[str, Any] = {
        "format": FORMAT,
        "to": to,
        "version": __version__,
        "task": experiment.task.name,
        "labels": info.labels.to_dict(),
        "inputs": preprocessing(experiment, model, example),
        "outputs": _outputs(graph, found, experiment),
        "segments": found.segments,
        "frame_size": model.image_size,
        "tokens": _tokens(found),
        "checkpoint": info.model,
        "description": _description(info),
    }
    names = list(found.outputs)
    write_graph(found.program, to, folder, names, about)
    about["parity"] = _parity(graph, runner(to, folder, names), experiment, found, to)
    tensors = {} if info.calibration is None else info.calibration.tensors()
    if tensors:
        by_key = {f"{CALIBRATION}.{key}": value for key, value in tensors.items()}
        write_tensors(folder / CALIBRATION_FILE, by_key, {"format": FORMAT})
    return about


def _description(info: CheckpointInfo) -> dict[str, str]:
    """What the checkpoint says of itself, without places, and with what was fitted after training."""
    found = described(dataclasses.replace(info, experiment=_without_places(info.experiment), data={}))
    fitted = info.calibration
    return found if fitted is None else found | {CALIBRATION: json.dumps(fitted.to_dict())}


def _outputs(graph: Graph, found: Traced, experiment: Experiment) -> list[dict[str, Any]]:
    """The outputs of a graph: names, types and shapes, of which an example of other sizes shows what varies."""
    frames, log_mel = inputs_of(experiment, graph.model.image_size, 3, max(2, experiment.data.segments) + 2)
    with torch.no_grad():
        other = graph.outputs(frames, log_mel)
    sizes = {(BATCH, 3): "batch", (found.example[1], frames.shape[1]): "segments"}
    sizes |= {(BATCH * found.example[1], 3 * frames.shape[1]): "batch*segments"}
    return [
        {
            "name": name,
            "type": str(value.dtype).removeprefix("torch."),
            "shape": [sizes.get(pair, pair[0]) for pair in zip(value.shape, other[name].shape, strict=True)],
        }
        for name, value in found.outputs.items()
    ]


def _tokens(found: Traced) -> dict[str, Any]:
    encoded = found.encoded
    assert encoded.visual is not None
    assert encoded.audio is not None
    return {
        "visual": list(encoded.visual.shape[1:]),
        "audio": list(encoded.audio.shape[1:]),
        "stages": [list(one.shape[1:]) for one in encoded.stages],
        "prefix": encoded.num_prefix_tokens,
        "has_cls": encoded.has_cls,
    }


def _parity(graph: Graph, run: Any, experiment: Experiment, found: Traced, to: str) -> dict[str, Any]:
    """The largest difference between the written graph and the model, for batches and windows of several sizes.

    Raises:
        AvpeaError: It is too large.
    """
    length, least = experiment.data.segments, _least(to)
    windows = [found.segments] if found.segments else sorted({least, max(least, length - 1), max(least, length)})
    sizes = [(batch, segments) for batch in (1, 3) for segments in windows]
    worst = 0.0
    for number, (batch, segments) in enumerate(sizes):
        frames, log_mel = inputs_of(experiment, graph.model.image_size, batch, segments, seed=number + 1)
        with torch.no_grad():
            wanted = graph.outputs(frames, log_mel)
        try:
            given = run({"frames": frames, "log_mel": log_mel})
        except Exception as error:  # each runtime has errors of its own, which share no class
            reason = " ".join(str(error).split())[:160]
            raise AvpeaError(
                f"The graph for {to} does not take {how_many(batch, 'window')} of {how_many(segments, 'second')} "
                f"({reason}); nothing was written. The run itself can be used, or another format if it has one."
            ) from None
        for name, value in wanted.items():
            worst = max(worst, _difference(given[name], value, name, to))
    if not worst <= TOLERANCE:
        raise AvpeaError(
            f"The graph for {to} computes something else than PyTorch: its outputs differ by {worst:.2g}, and at most "
            f"{TOLERANCE:g} is rounding; nothing was written, and the run itself can be used."
        )
    return {"difference": worst, "tolerance": TOLERANCE, "batches_of_windows_of": [list(size) for size in sizes]}


def _least(to: str) -> int:
    """The fewest segments of a window: torch.export takes a size of 1 for another graph."""
    return 2 if to == "torch" else 1


def _difference(given: Tensor, wanted: Tensor, name: str, to: str) -> float:
    if given.shape != wanted.shape:
        raise AvpeaError(
            f"The graph for {to} gives {name} of shape {tuple(given.shape)}, and PyTorch {tuple(wanted.shape)}; "
            "nothing was written, and the run itself can be used."
        )
    apart = (given.double() - wanted.double()).abs() / wanted.double().abs().clamp_min(1)
    return float(apart.nan_to_num(torch.inf).max()) if apart.numel() else 0.0


def _without_places(experiment: Experiment) -> Experiment:
    """The experiment without the files and folders of the machine that it was trained on."""
    changes = {}
    for name in experiment.locations():
        section, option = name.split(".")
        fields = {item.name: item for item in dataclasses.fields(getattr(experiment, section))}
        changes[name] = fields[option].default
    return experiment.override(changes)


def _file(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": digest_of_file(path)}


def _require_free(folder: Path, overwrite: bool) -> None:
    """Refuse, before any work, to replace what is there.

    Raises:
        AvpeaError: Something is there, and is not to be replaced, or is no export.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_export(folder):
        raise AvpeaError(f"{folder} exists and is no exported model; name another place with --out.")
    if not overwrite:
        raise AvpeaError(f"{folder} exists; --overwrite replaces it, and --out DIR names another place.")


def _place(folder: Path) -> Path:
    """Where a folder is, links followed, so that a link to it stays one.

    Raises:
        AvpeaError: It cannot be made or replaced, as the command runs in it or below it.
    """
    real = Path(os.path.realpath(folder))
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it is gone
        return real
    if here.is_relative_to(real):
        raise AvpeaError(f"{folder} is the folder that the command runs in, or above it; name a new one with --out.")
    return real


@contextmanager
def _new_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that gets its name when it is complete; what a killed process left of one is removed."""
    with writing(target), locked(target.absolute().parent, f"gets {target.name}", f".{target.name}.lock"):
        remove_folders_aside(target)
        aside = folder_aside(target)
        aside.mkdir(parents=True)
        try:
            yield aside
            _require_free(target, overwrite)
            before = folder_aside(target)
            if target.exists():
                target.rename(before)
            try:
                aside.rename(target)
            except BaseException:
                if before.exists() and not target.exists():
                    before.rename(target)
                raise
            shutil.rmtree(before, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
