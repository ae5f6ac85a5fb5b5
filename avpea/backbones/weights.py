"""Files of weights: tables of named tensors, read without running what is in them, and put into a model."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avpea.errors import WeightsError

__all__ = ["fill", "read_table"]

# What torch.load answers to files that are no checkpoint.
_UNREADABLE = (
    pickle.UnpicklingError,
    SafetensorError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
)


def read_table(path: Path, what: str) -> dict[str, Tensor]:
    """Named tensors of a checkpoint file.

    Args:
        path: A .safetensors file, or a .pth, .pt or .bin file, of which only tensors are unpickled.
        what: What the file should be the `state_dict` of, for the error.

    Raises:
        WeightsError: It cannot be read, or holds something else.
    """
    try:
        safe = path.suffix == ".safetensors"
        loaded: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise WeightsError(
            f"{path} cannot be read as weights ({reason}); expected a .safetensors file, or a .pth, .pt or "
            ".bin file that opens with torch.load(weights_only=True)."
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds no table of named tensors; expected the state_dict of {what}.")
    return dict(loaded)


def fill(
    model: nn.Module,
    wanted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    what: str = "backbone.name",
    remedy: str = "name the timm model that the file was made for",
) -> None:
    """Put a checkpoint into the model, in float32, or say what does not fit.

    Args:
        model: Takes the tensors themselves, wherever it was before.
        wanted: What it needs, by name.
        state: What the checkpoint has.
        source: What to call the checkpoint in errors.
        what: What it should fit.
        remedy: What helps where it does not.

    Raises:
        WeightsError: A shape differs, or tensors are missing or unknown.
    """
    # Positions last: they follow the patch size, which tells more about the file.
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
    # In float32 whatever the file holds: it is what fingerprints are taken of, and the model is cast later.
    model.load_state_dict({key: value.float() for key, value in state.items()}, strict=False, assign=True)
