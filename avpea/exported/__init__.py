"""Exported models: folders with a graph for another runtime, and all that answers need beside it.

    model.onnx, or model.xml and model.bin, or model.pt2   the graph: encoder, adapters and head
    export.json                                            labels, preprocessing, inputs, outputs, checksums
    calibration.safetensors                                how training inputs look, if the run knows it

Nothing here is unpickled, and the frozen weights' own files are not needed.
"""

from avpea.exported._folder import (
    ABOUT_FILE,
    CALIBRATION_FILE,
    FILES,
    FORMAT,
    Export,
    digest_of_folder,
    is_export,
    read_export,
    sealed,
)
from avpea.exported._model import HEARD, SEEN, ExportedModel, find_export, open_export
from avpea.exported._output import named, restored
from avpea.exported._sessions import RUNTIMES, Runtime, Session, open_session, require_runtime

__all__ = [
    "ABOUT_FILE",
    "CALIBRATION_FILE",
    "FILES",
    "FORMAT",
    "HEARD",
    "RUNTIMES",
    "SEEN",
    "Export",
    "ExportedModel",
    "Runtime",
    "Session",
    "digest_of_folder",
    "find_export",
    "is_export",
    "named",
    "open_export",
    "open_session",
    "read_export",
    "require_runtime",
    "restored",
    "sealed",
]
