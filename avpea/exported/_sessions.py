"""Graphs that ONNX Runtime or OpenVINO compute, on the CPU."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from avpea.errors import AvpeaError, CheckpointError

__all__ = ["RUNTIMES", "Runtime", "Session", "Shape", "open_session", "require_runtime"]

Runtime = Literal["onnx", "openvino"]
RUNTIMES: tuple[Runtime, ...] = ("onnx", "openvino")
Shape = tuple[int | None, ...]  # None where any size will do
_MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
_NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Session:
    """A loaded graph, which gives its outputs for some inputs, by name, on the CPU.

    Attributes:
        run: Computes them.
        shapes: Shapes of its inputs and outputs by name; one without any sizes is not known.
    """

    run: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    shapes: Mapping[str, Shape]

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs for some inputs."""
        return self.run(inputs)


def require_runtime(runtime: str) -> Any:
    """The library of a runtime.

    Raises:
        AvpeaError: It is not installed.
    """
    try:
        return importlib.import_module(_MODULES[runtime])
    except ImportError:
        raise AvpeaError(f"This needs {_NAMES[runtime]}: pip install 'avpea[{runtime}]'") from None


def open_session(
    path: Path, runtime: Runtime, outputs: Sequence[str], precision: Literal["fp32", "bf16"], threads: int
) -> Session:
    """Load a graph.

    Args:
        path: The file: `.onnx`, which both runtimes read, or OpenVINO's `.xml`.
        runtime: What computes it.
        outputs: Names of its outputs, in order.
        precision: What OpenVINO computes in; ONNX Runtime has no bfloat16 on CPUs, and computes in float32.
        threads: Number of threads.

    Raises:
        AvpeaError: The runtime is not installed.
        CheckpointError: It cannot read the file.
    """
    library = require_runtime(runtime)
    try:
        make = _with_onnxruntime if runtime == "onnx" else _with_openvino
        return make(library, path, outputs, precision, threads)
    except (RuntimeError, ValueError) as error:  # OpenVINO's; those of ONNX Runtime's many classes that are not its own
        raise _unreadable(path, runtime, error) from None
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            raise _unreadable(path, runtime, error) from None
        raise


def _unreadable(path: Path, runtime: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:160]
    return CheckpointError(f"{path} cannot be read by {_NAMES[runtime]} ({reason}); export the run again.")


def _with_onnxruntime(library: Any, path: Path, outputs: Sequence[str], precision: str, threads: int) -> Session:
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors; they are raised, too
    session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = session.run(list(outputs), {name: value.numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(outputs, found, strict=True)}

    ends = [*session.get_inputs(), *session.get_outputs()]
    sizes = {one.name: [size if isinstance(size, int) else None for size in one.shape] for one in ends}
    return Session(run, {name: tuple(shape) for name, shape in sizes.items()})


def _with_openvino(library: Any, path: Path, outputs: Sequence[str], precision: str, threads: int) -> Session:
    kind = {"fp32": library.Type.f32, "bf16": library.Type.bf16}[precision]
    hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": threads}
    # OpenVINO 2026.4 keeps what it compiled for a window of one second and takes it for one of nine, on processors with
    # AVX-512: another answer, without an error. Without this memory the answers are PyTorch's (docs/log.md).
    hints["CPU_RUNTIME_CACHE_CAPACITY"] = 0
    compiled = library.Core().compile_model(library.Core().read_model(str(path)), "CPU", hints)

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = compiled({name: value.numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(np.array(found[name])) for name in outputs}

    return Session(run, {name: _sizes(one) for one in (*compiled.inputs, *compiled.outputs) for name in one.names})


def _sizes(end: Any) -> Shape:
    """The shape of an input or output of OpenVINO's."""
    shape = end.partial_shape
    return () if shape.rank.is_dynamic else tuple(None if one.is_dynamic else one.get_length() for one in shape)
