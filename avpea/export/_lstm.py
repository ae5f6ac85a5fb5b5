"""ONNX's own LSTM in the place of torch's, which torch.export would unroll for one number of steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["as_onnx", "has_lstm"]


class _OnnxLSTM(nn.Module):
    """A batch-first LSTM of one layer, as ONNX defines it: gates are input, output, forget, cell, and time comes first.

    Args:
        lstm: The LSTM of torch, whose gates are input, forget, cell, output.
    """

    inputs: Tensor
    states: Tensor
    biases: Tensor

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        directions = [""] + ["_reverse"] * lstm.bidirectional
        parts = [
            [getattr(lstm, f"{name}_l0{way}").detach() for way in directions] for name in ("weight_ih", "weight_hh")
        ]
        biases = [
            torch.cat([_reordered(getattr(lstm, f"{name}_l0{way}").detach()) for name in ("bias_ih", "bias_hh")])
            for way in directions
        ]
        self.register_buffer("inputs", torch.stack([_reordered(one) for one in parts[0]]))
        self.register_buffer("states", torch.stack([_reordered(one) for one in parts[1]]))
        self.register_buffer("biases", torch.stack(biases))
        self.hidden, self.directions = lstm.hidden_size, len(directions)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        steps = x.transpose(0, 1)
        (found,) = torch.onnx.ops.symbolic_multi_out(
            "LSTM",
            (steps, self.inputs, self.states, self.biases),
            {"hidden_size": self.hidden, "direction": "bidirectional" if self.directions == 2 else "forward"},
            dtypes=(x.dtype,),
            shapes=((steps.shape[0], self.directions, steps.shape[1], self.hidden),),
            version=14,
        )
        return found.permute(2, 0, 1, 3).flatten(2), None


def _reordered(weights: Tensor) -> Tensor:
    entering, forgetting, cell, leaving = weights.chunk(4)
    return torch.cat((entering, leaving, forgetting, cell))


def has_lstm(module: nn.Module) -> bool:
    """Whether a module holds an LSTM."""
    return any(isinstance(one, nn.LSTM) for one in module.modules())


@contextmanager
def as_onnx(module: nn.Module) -> Iterator[None]:
    """Let each LSTM in a module be ONNX's during the block, in which the module can only be exported to ONNX."""
    places: list[tuple[Any, str, nn.LSTM]] = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.LSTM) and child.batch_first and child.num_layers == 1 and not child.proj_size
    ]
    try:
        for parent, name, child in places:
            setattr(parent, name, _OnnxLSTM(child))
        yield
    finally:
        for parent, name, child in places:
            setattr(parent, name, child)
