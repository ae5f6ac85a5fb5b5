"""Which device computes, and which precision it computes in natively."""

from functools import cache
from pathlib import Path
from typing import Literal

import torch

from avpea.errors import ExperimentError

__all__ = ["choose_device", "choose_precision"]


def choose_device(wanted: Literal["auto", "cpu", "cuda", "mps"]) -> torch.device:
    """Answer `auto` with the first of CUDA, MPS and the CPU that there is; other answers stand.

    Raises:
        ExperimentError: The device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, usable in there.items() if usable))
    if not there[wanted]:
        raise ExperimentError(f"train.device is '{wanted}', and torch finds no such device here; expected auto or cpu.")
    return torch.device(wanted)


def choose_precision(wanted: Literal["auto", "fp32", "bf16"], device: torch.device) -> Literal["fp32", "bf16"]:
    """Answer `auto` with `bf16` where the device computes in bfloat16 natively, else `fp32`; other answers stand."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


@cache
def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated it is slower than float32."""
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return False
    words = set(flags.read_text(encoding="utf-8", errors="replace").split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
