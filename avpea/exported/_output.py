"""A task's output as tensors by name, which is what a graph returns, and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from avpea.errors import AvpeaError

__all__ = ["named", "restored"]

ONLY = "output"  # name of an output that is a tensor by itself


def named(output: Any) -> dict[str, Tensor]:
    """The tensors of an output by name; what else it holds, such as lists that only a loss reads, is left out.

    Raises:
        AvpeaError: It is no tensor, and has no fields that are.
    """
    if isinstance(output, Tensor):
        return {ONLY: output}
    names = [item.name for item in fields(output)] if is_dataclass(output) else getattr(output, "_fields", ())
    found = {name: getattr(output, name) for name in names}
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise AvpeaError(
            f"The model's output is a {type(output).__name__}, which cannot be exported; expected a tensor, or a "
            "dataclass or named tuple of tensors."
        )
    return tensors


def restored(like: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The output that `named` took apart, of the same class as `like`."""
    if isinstance(like, Tensor):
        return tensors[ONLY]
    own = {name: tensors[name] for name in named(like)}
    if is_dataclass(like) and not isinstance(like, type):
        return replace(like, **own)
    return like._replace(**own)
