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

    Of an output that is part of another one the names are `part.name`.

    Raises:
        AvpeaError: It is no tensor, and has no fields that are.
    """
    if isinstance(output, Tensor):
        return {ONLY: output}
    tensors = _tensors(output)
    if not tensors:
        raise AvpeaError(
            f"The model's output is a {type(output).__name__}, which cannot be exported; expected a tensor, or a "
            "dataclass or named tuple of tensors."
        )
    return tensors


def restored(like: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The output that `named` took apart, of the same class as `like`.

    Raises:
        AvpeaError: `like` has no tensors.
    """
    named(like)
    return tensors[ONLY] if isinstance(like, Tensor) else _restored(like, tensors, "")


def _parts(output: Any) -> dict[str, Any]:
    """Fields by name; none if it has no fields."""
    is_one = is_dataclass(output) and not isinstance(output, type)
    names = [item.name for item in fields(output)] if is_one else getattr(output, "_fields", ())
    return {name: getattr(output, name) for name in names}


def _tensors(output: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in _parts(output).items():
        if isinstance(value, Tensor):
            found[name] = value
        else:
            found |= {f"{name}.{below}": tensor for below, tensor in _tensors(value).items()}
    return found


def _restored(like: Any, tensors: Mapping[str, Tensor], path: str) -> Any:
    own = {
        name: tensors[path + name] if isinstance(value, Tensor) else _restored(value, tensors, f"{path}{name}.")
        for name, value in _parts(like).items()
        if isinstance(value, Tensor) or _tensors(value)
    }
    return replace(like, **own) if is_dataclass(like) and not isinstance(like, type) else like._replace(**own)
