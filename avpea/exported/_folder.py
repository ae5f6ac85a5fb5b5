"""The folder of an exported model: how it is described, and how that is checked before anything is loaded."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from avpea.description import CheckpointInfo, read_calibration, read_description
from avpea.errors import AvpeaError, CheckpointError
from avpea.files import digest_of_file
from avpea.parsing import read_json
from avpea.tensors import Unreadable, read_tensors

__all__ = [
    "ABOUT_FILE",
    "CALIBRATION_FILE",
    "FILES",
    "FORMAT",
    "Export",
    "digest_of_folder",
    "is_export",
    "read_export",
    "sealed",
]

FORMAT = "avpea-export-1"
ABOUT_FILE = "export.json"
CALIBRATION_FILE = "calibration.safetensors"
# The files of each kind of graph, the first of which is the one to open.
FILES = {"onnx": ("model.onnx",), "openvino": ("model.xml", "model.bin"), "torch": ("model.pt2",)}
_REMEDY = "export the run again"
_DIGEST = "sha256"  # of the rest of the description


@dataclass(frozen=True)
class Export:
    """A checked description of an exported model.

    Attributes:
        folder: Its folder.
        to: What it was exported to.
        info: Description of the run, with its calibration.
        checkpoint: SHA-256 of the checkpoint that it was made from.
        outputs: Names of the graph's outputs, in order.
        shapes: Shapes of its inputs and outputs by name, with None where any size will do.
        tokens: Number and width of the tokens that the head reads, of both streams and of stages, and what they are.
        frame_size: Side of the frames in pixels.
        segments: Number of segments that a window must have; None if any number will do.
    """

    folder: Path
    to: Literal["onnx", "openvino", "torch"]
    info: CheckpointInfo
    checkpoint: str
    outputs: tuple[str, ...]
    shapes: dict[str, tuple[int | None, ...]]
    tokens: dict[str, Any]
    frame_size: int
    segments: int | None

    @property
    def graph(self) -> Path:
        """The file to open."""
        return self.folder / FILES[self.to][0]


def is_export(place: str | Path) -> bool:
    """Whether a folder is an exported model."""
    return (Path(place) / ABOUT_FILE).is_file()


def digest_of_folder(folder: Path) -> str:
    """SHA-256 of the description of an exported model, which holds those of its files."""
    return digest_of_file(folder / ABOUT_FILE)


def sealed(about: Mapping[str, Any]) -> dict[str, Any]:
    """A description with a checksum of all that is in it."""
    return {**about, _DIGEST: _digest(about)}


def _digest(about: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in about.items() if name != _DIGEST}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_export(folder: Path) -> Export:
    """Read the description of an exported model, and compare its files with it.

    Raises:
        CheckpointError: A file is missing, damaged or not as avpea writes it.
        ExperimentError: The run's experiment names an extension that this installation does not have.
    """
    source = folder / ABOUT_FILE
    about = read_json(source, remedy=_REMEDY)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(f"{source} does not describe an exported model (format {FORMAT}); {_REMEDY}.")
    if about.get(_DIGEST, digest := _digest(about)) != digest:  # earlier versions wrote none
        raise CheckpointError(
            f"{source} is damaged or was edited: it does not have the checksum that was written with it; copy the "
            f"folder anew, or {_REMEDY}."
        )
    try:
        found = _read(folder, about)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, AvpeaError):
            raise
        raise CheckpointError(f"{source} is damaged ({type(error).__name__}: {error}); {_REMEDY}.") from None
    return found


def _read(folder: Path, about: Mapping[str, Any]) -> Export:
    source = str(folder / ABOUT_FILE)
    to = about["to"]
    known = {*FILES[to], *([CALIBRATION_FILE] if CALIBRATION_FILE in about["files"] else [])}
    if about["files"].keys() != known:
        raise CheckpointError(
            f"{source} names the files {sorted(about['files'])}; expected {sorted(known)}; {_REMEDY}."
        )
    for name, of in about["files"].items():
        _require_same(folder / name, of)
    metadata = {str(key): str(value) for key, value in about["description"].items()}
    info = read_description(metadata, source)
    if CALIBRATION_FILE in about["files"]:
        try:
            tensors = read_tensors(folder / CALIBRATION_FILE).tensors
        except Unreadable as error:
            raise CheckpointError(f"{folder / CALIBRATION_FILE} {error}; {_REMEDY}.") from None
        info = replace(info, calibration=read_calibration(metadata, source, tensors))
    segments, side = about["segments"], _count(about["frame_size"])
    shapes = {str(one["name"]): _shape(one["shape"]) for one in (*about["inputs"], *about["outputs"])}
    return Export(
        folder=folder,
        to=to,
        info=info,
        checkpoint=str(about["checkpoint"]),
        outputs=tuple(str(one["name"]) for one in about["outputs"]),
        shapes=shapes | {"frames": (None, None, side, side, 3)},
        tokens=_tokens(about["tokens"]),
        frame_size=side,
        segments=None if segments is None else _count(segments),
    )


def _tokens(about: Mapping[str, Any]) -> dict[str, Any]:
    """Number and width of tokens, bounded, as a head of that width is built."""
    visual, audio, *stages = (
        (_count(count), _count(width)) for count, width in (about["visual"], about["audio"], *about["stages"])
    )
    prefix, has_cls = _count(about["prefix"], 0), bool(about["has_cls"])
    return {"visual": visual, "audio": audio, "stages": stages, "prefix": prefix, "has_cls": has_cls}


def _shape(sizes: Any) -> tuple[int | None, ...]:
    """A shape, in which a word such as `batch` stands for any size."""
    return tuple(None if isinstance(size, str) else _count(size, 0) for size in sizes)


def _count(value: Any, least: int = 1) -> int:
    if type(value) is not int or not least <= value <= 1_000_000:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def _require_same(path: Path, of: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing from the exported model; copy the folder anew, or {_REMEDY}.")
    size = path.stat().st_size
    if size != of["bytes"]:
        raise CheckpointError(
            f"{path} has {size:,} bytes, and {of['bytes']:,} were written; copy the folder anew, or {_REMEDY}."
        )
    if digest_of_file(path) != of["sha256"]:
        raise CheckpointError(
            f"{path} is damaged: it does not have the checksum that was written with it; copy the folder anew, or "
            f"{_REMEDY}."
        )
