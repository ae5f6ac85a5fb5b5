"""Files of weights: read as tables of named tensors, without executing any code in them, and loaded into a model."""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avpea.errors import WeightsError
from avpea.tensors import all_finite

__all__ = ["fill", "read_table"]

# Errors of torch.load for files that are no checkpoint, or are damaged.
_UNREADABLE = (
    pickle.UnpicklingError,
    SafetensorError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
    struct.error,
    AssertionError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)


def read_table(path: Path, what: str) -> dict[str, Tensor]:
    """Named tensors of a checkpoint file.

    Args:
        path: A .safetensors file, or a .pth, .pt or .bin file, from which only tensors are unpickled.
        what: The model whose `state_dict` is expected, for the error.

    Raises:
        WeightsError: The file cannot be read, or holds something else.
    """
    try:
        safe = path.suffix == ".safetensors"
        if not safe:
            _require_stored(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd files, which are refused in a sentence if they are bad
            loaded: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0][:120]
        raise WeightsError(
            f"{path} cannot be read as weights ({reason}); expected a .safetensors file, or a .pth, .pt or "
            ".bin file that opens with torch.load(weights_only=True)."
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds no table of named tensors; expected the state_dict of {what}.")
    for key, value in loaded.items():
        # A few bytes can be expanded to any size, and would fill the memory when they are copied.
        plain = value.layout is torch.strided and not value.is_quantized and not value.is_meta
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsError(
                f"{path} has a tensor '{key}' of shape {tuple(value.shape)} that is not stored as such; expected plain "
                f"tensors, as in the state_dict of {what}."
            )
    return {str(key): value for key, value in loaded.items()}


def _require_stored(path: Path) -> None:
    """Refuse a zip file that becomes bigger when it is unpacked, which torch's never do."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            return
    try:
        with zipfile.ZipFile(path) as packed:
            unpacked = sum(one.file_size for one in packed.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"no zip file: {error}") from None
    if unpacked > path.stat().st_size:
        raise ValueError(f"it unpacks to {unpacked:,} bytes")


def _require_numbers(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str, what: str, remedy: str
) -> None:
    """Refuse other numbers than finite floating-point ones, of any width; whole ones where the model has such.

    Raises:
        WeightsError: The message names the first tensor that has others.
    """
    for key in wanted:
        kind = state[key].dtype
        if kind.is_floating_point != wanted[key].dtype.is_floating_point or kind.is_complex:
            raise WeightsError(f"{source} does not fit {what}: '{key}' has numbers of type {kind}; {remedy}.")
        if kind.is_floating_point and not all_finite(state[key]):
            raise WeightsError(f"{source} is damaged: '{key}' has values that are no finite numbers; get it anew.")


def fill(
    model: nn.Module,
    wanted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    what: str = "backbone.name",
    remedy: str = "name the timm model that the file was made for",
) -> None:
    """Load a checkpoint into a model, in float32.

    Args:
        model: The model, which may be on the meta device.
        wanted: Tensors that the model needs, by key.
        state: Tensors of the checkpoint, by key.
        source: Name of the checkpoint, for errors.
        what: Name of the model, for errors.
        remedy: Remedy if the checkpoint does not fit, for errors.

    Raises:
        WeightsError: A shape differs, tensors are missing or unknown, or they hold no finite floating-point numbers.
    """
    # Positions last: their shape follows from the patch size, which is the more helpful error.
    for key in sorted(wanted, key=lambda key: key == "pos_embed"):
        if key in state and state[key].shape != wanted[key].shape:
            raise WeightsError(
                f"{source} does not fit {what}: '{key}' has shape {tuple(state[key].shape)}, expected "
                f"{tuple(wanted[key].shape)}; {remedy}."
            )
    missing, unknown = ([k for k in one if k not in other] for one, other in ((wanted, state), (state, wanted)))
    for verb, keys in (("lacks", missing), ("has unknown", unknown)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise WeightsError(f"{source} does not fit {what}: it {verb} {', '.join(keys[:3])}{more}; {remedy}.")
    _require_numbers(wanted, state, source, what, remedy)
    # In float32, of which fingerprints are computed; the model is cast later.
    model.load_state_dict({key: value.float() for key, value in state.items()}, strict=False, assign=True)
