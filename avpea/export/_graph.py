"""The graph that is exported: from frames and log-mels, as a sample cache holds them, to the task's output."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from avpea.errors import AvpeaError
from avpea.export._lstm import as_onnx, has_lstm
from avpea.exported import HEARD, SEEN, named
from avpea.model import AVModel
from avpea.tasks import Encoded

__all__ = ["Graph", "Traced", "traced"]

BATCH = 2  # of the example; torch.export takes a size of 1 for fixed


class Graph(nn.Module):
    """The model as a function from tensors to a tuple of tensors.

    Args:
        model: The model, in evaluation mode.
    """

    def __init__(self, model: AVModel) -> None:
        super().__init__()
        self.model = model

    def outputs(self, frames: Tensor, log_mel: Tensor) -> dict[str, Tensor]:
        """What the graph returns, by name: the task's output, and the CLS tokens of both streams."""
        encoded = self.model.encode(frames, log_mel)
        found = named(self.model.task.forward(encoded))  # not its hook, which looks at values
        if clash := found.keys() & {SEEN, HEARD}:
            raise AvpeaError(
                f"The model's output has the field '{min(clash)}', which an exported graph has for itself."
            )
        return {**found, SEEN: encoded.visual_cls, HEARD: encoded.audio_cls}

    def forward(self, frames: Tensor, log_mel: Tensor) -> tuple[Tensor, ...]:
        """The values of `outputs`."""
        return tuple(self.outputs(frames, log_mel).values())


@dataclass(frozen=True)
class Traced:
    """A traced graph.

    Attributes:
        program: What torch.export made.
        outputs: The example's outputs by name.
        encoded: The example's tokens.
        example: Number of windows of the example, and of their segments.
        segments: Number of segments that a window must have; None if any number will do.
    """

    program: Any
    outputs: dict[str, Tensor]
    encoded: Encoded
    example: tuple[int, int]
    segments: int | None


def traced(graph: Graph, frames: Tensor, log_mel: Tensor, to: str) -> Traced:
    """Trace a graph for batches and windows of any size.

    Args:
        graph: The graph.
        frames: Frames of an example of at least two windows of at least two segments.
        log_mel: Its log-mels.
        to: What it is traced for: `onnx`, or `torch`, where an LSTM fixes the number of segments.

    Raises:
        AvpeaError: torch cannot trace it.
    """
    fixed = to == "torch" and has_lstm(graph)
    # What turns out to be fixed is found when the graph is run: torch proves less of named sizes than holds.
    free = torch.export.Dim.AUTO
    sizes: dict[int, Any] = {0: free} if fixed else {0: free, 1: free}
    # The slices of a whole sound are as many as they are, however many seconds a window has.
    per_second = log_mel.shape[1] == frames.shape[1]
    shapes = (sizes, sizes if per_second else {0: free})
    with torch.no_grad(), _without_fused_attention(), _portable(graph.model):
        outputs = graph.outputs(frames, log_mel)  # fills what the backbone computes once per size, as constants
        encoded = graph.model.encode(frames, log_mel)
        try:
            with as_onnx(graph) if to == "onnx" else nullcontext():
                program = torch.export.export(graph, (frames, log_mel), dynamic_shapes=shapes, strict=False)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise AvpeaError(f"torch cannot export this model ({reason[0][:200]}); use the run itself.") from None
    return Traced(program, outputs, encoded, (frames.shape[0], frames.shape[1]), frames.shape[1] if fixed else None)


@contextmanager
def _portable(model: AVModel) -> Iterator[None]:
    """Only with what every runtime computes alike."""
    model.portable = True
    try:
        yield
    finally:
        model.portable = False


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Without torch's fused transformer layers, which no other runtime has."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch deprecates in itself
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
