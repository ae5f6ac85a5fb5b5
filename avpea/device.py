"""Choosing the device and the precision."""

from functools import cache
from pathlib import Path
from typing import Literal

import torch

from avpea.errors import ExperimentError

__all__ = ["choose_device", "choose_precision", "placed"]


def choose_device(wanted: Literal["auto", "cpu", "cuda", "mps"]) -> torch.device:
    """The device that is wanted; `auto` is the first available one of CUDA, MPS and the CPU.

    Raises:
        ExperimentError: The device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, usable in available.items() if usable))
    if not available[wanted]:
        usable = ", ".join(["auto", *(name for name, found in available.items() if found)])
        raise ExperimentError(f"train.device is '{wanted}', and torch finds no such device here; expected {usable}.")
    return torch.device(wanted)


def placed(device: torch.device, local_rank: int, processes: int) -> torch.device:
    """The device of one of several processes of a machine: on CUDA, each has its own.

    Raises:
        ExperimentError: There is no such device for it, or its kind cannot be shared.
    """
    if processes == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ExperimentError(
            f"{processes} processes cannot train together on '{device}'; expected CUDA or the CPU (--train.device)."
        )
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise ExperimentError(
            f"Process {local_rank} of this machine needs a GPU of its own, and torch finds {found}; start {found}."
        )
    return torch.device("cuda", local_rank)


def choose_precision(wanted: Literal["auto", "fp32", "bf16"], device: torch.device) -> Literal["fp32", "bf16"]:
    """The precision that is wanted; `auto` is `bf16` if the device supports bfloat16 natively, else `fp32`."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


@cache
def _cpu_has_bf16() -> bool:
    """Whether the processor has bfloat16 instructions; emulated, bfloat16 is slower than float32."""
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return False
    words = set(flags.read_text(encoding="utf-8", errors="replace").split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
