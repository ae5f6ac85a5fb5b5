"""Files of exported graphs, and running them to see that they compute the same."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea.errors import AvpeaError
from avpea.exported import FILES, Session, open_session, require_runtime
from avpea.files import write_bytes

__all__ = ["require_writer", "runner", "write_graph"]

_ONNX_BYTES = 2**31  # a protobuf message is smaller
_TORCH = (2, 8)  # translates BatchNorm, and has `torch.onnx.ops.symbolic_multi_out`
_LIBRARIES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}


def require_writer(to: str) -> None:
    """Refuse, before any work, if a library is missing or too old.

    Raises:
        AvpeaError: One is.
    """
    import importlib.util

    missing = [name for name in _LIBRARIES[to] if importlib.util.find_spec(name) is None]
    if missing:
        raise AvpeaError(f"Exporting to {to} needs {' and '.join(missing)}: pip install 'avpea[{to}]'")
    have = tuple(int(number) for number in torch.__version__.split(".")[:2])
    if _LIBRARIES[to] and have < _TORCH:
        raise AvpeaError(
            f"Exporting to {to} needs torch {'.'.join(map(str, _TORCH))} or newer, and this is {torch.__version__}: "
            f"pip install -U 'avpea[{to}]'"
        )


def write_graph(program: Any, to: str, folder: Path, outputs: list[str], about: Mapping[str, Any]) -> None:
    """Write a traced graph to a folder.

    Args:
        program: What torch.export made.
        to: `onnx`, `openvino` or `torch`.
        folder: The folder, to which nobody else writes.
        outputs: Names of the outputs.
        about: Description that the file itself holds, under the name `avpea`.

    Raises:
        AvpeaError: It is too big, or cannot be translated.
        WriteError: It cannot be written.
    """
    path = folder / FILES[to][0]
    if to == "torch":
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={"avpea": json.dumps(about)})
        write_bytes(path, file.getvalue())
        return
    content = _onnx(program, outputs, about)
    if to == "onnx":
        write_bytes(path, content)
        return
    openvino = require_runtime("openvino")
    model = openvino.Core().read_model(content, b"")
    model.set_rt_info(json.dumps(about), ["avpea"])
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise AvpeaError(f"{path} cannot be written ({reason}); make room there, or choose another place.") from None


def _onnx(program: Any, outputs: list[str], about: Mapping[str, Any]) -> bytes:
    """A traced graph as an ONNX file of one part."""
    size = sum(one.numel() * one.element_size() for one in program.state_dict.values())
    if size > _ONNX_BYTES * 0.98:
        raise AvpeaError(
            f"The model's weights have {size / 1e9:.1f} GB, and an ONNX file holds at most 2; export to torch."
        )
    try:
        with _quietly(), _without_slow_rule():
            made = torch.onnx.export(
                program, dynamo=True, external_data=False, input_names=["frames", "log_mel"], output_names=outputs,
                verbose=False, custom_translation_table={torch.ops.aten.sort.stable: _stable_sort()},
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        told: BaseException = error
        while told.__cause__ is not None:
            told = told.__cause__
        reason = (str(told).strip().splitlines() or [type(told).__name__])[0][:200]
        raise AvpeaError(f"torch cannot translate this model to ONNX ({reason}); use the run itself.") from None
    assert made is not None
    made.model.metadata_props["avpea"] = json.dumps(about)
    content: bytes = made.model_proto.SerializeToString()
    return content


@contextlib.contextmanager
def _without_slow_rule() -> Iterator[None]:
    """The exporter's optimiser without the rule of onnxscript's that makes one operator of two slices.

    The rule compares each slice with all others and walks over all nodes for it, which takes minutes where a model has
    hundreds. Another onnxscript, which keeps its rules elsewhere, is left as it is and is only slower.
    """
    try:
        from onnxscript import rewriter
        from onnxscript.rewriter import _DEFAULT_REWRITE_RULES
        from onnxscript.rewriter.rules.common import slice_split_rule
    except ImportError:
        yield
        return
    rewriter._DEFAULT_REWRITE_RULES = tuple(rule for rule in _DEFAULT_REWRITE_RULES if rule is not slice_split_rule)
    try:
        yield
    finally:
        rewriter._DEFAULT_REWRITE_RULES = _DEFAULT_REWRITE_RULES


def _stable_sort() -> Callable[..., Any]:
    """A stable sort for torch's exporter, which has only the other one: ONNX's TopK puts the first of equals first."""
    from onnxscript import opset18

    def sort(values: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        size = opset18.Shape(values, start=dim, end=dim + 1 if dim != -1 else None)
        return opset18.TopK(values, size, axis=dim, largest=int(descending), sorted=1)

    return sort


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the remarks of exporters, which are about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def runner(to: str, folder: Path, outputs: list[str]) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """What computes the written graph, in float32."""
    path = folder / FILES[to][0]
    if to != "torch":
        session: Session = open_session(path, "onnx" if to == "onnx" else "openvino", outputs, "fp32", 1)
        return session
    program = torch.export.load(path).module()  # our own file, written a moment ago

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(outputs, program(inputs["frames"], inputs["log_mel"]), strict=True))

    return run
