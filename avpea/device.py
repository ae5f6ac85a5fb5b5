"""Choosing the device and the precision, and what is said when the memory of a device is too small."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from avpea.errors import DeviceMemoryError, ExperimentError
from avpea.options import require_choice
from avpea.sections import require_device_name
from avpea.shortage import short_of_memory

__all__ = [
    "Precision",
    "choose_device",
    "choose_precision",
    "cpu_threads",
    "enough_memory",
    "float32_products",
    "kept_random_state",
    "named",
    "own_precision",
    "placed",
]

Precision = Literal["auto", "fp32", "bf16"]
_TRIED = re.compile(r"ried to allocate (\d[\d.]*) ?(bytes|[KMGT]i?B)")


def choose_device(wanted: str | torch.device, option: str = "device") -> torch.device:
    """The device that is wanted.

    Args:
        wanted: `auto`, which is the first available one of CUDA, MPS and the CPU; `cpu`, `cuda`, `cuda:N` or `mps`; or
            a `torch.device`.
        option: Name of the option, for the error.

    Raises:
        ExperimentError: There is no such device, or it is not available here.
    """
    require_device_name(wanted, option)
    wanted = str(wanted)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, usable in available.items() if usable))
    kind, _, index = wanted.partition(":")
    if not available[kind]:
        usable = ", ".join(["auto", *(name for name, found in available.items() if found)])
        raise ExperimentError(
            f"{option} is '{wanted}', and torch finds no such device here{_lack(kind)}; expected {usable}."
        )
    if index and int(index) >= (count := torch.cuda.device_count()):
        last = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ExperimentError(f"{option} is '{wanted}', but this machine has {last} only; expected one of these.")
    return torch.device(wanted)


def placed(device: torch.device, local_rank: int, processes: int) -> torch.device:
    """The device of one of several processes of a machine: on CUDA, each has its own.

    Raises:
        ExperimentError: There is no such device for it, or its kind cannot be shared.
    """
    if processes == 1 or device.type == "cpu":
        return device
    if str(device) != "cuda":
        raise ExperimentError(
            f"{processes} processes cannot train together on '{device}'; expected cuda, of which each takes a card of "
            "its own, or cpu (--device)."
        )
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise ExperimentError(
            f"Process {local_rank} of this machine needs a GPU of its own, and torch finds {found}; start {found}."
        )
    return torch.device("cuda", local_rank)


def _lack(kind: str) -> str:
    return f" (torch {torch.__version__} was built without CUDA)" if kind == "cuda" and not _built_for_gpus() else ""


def _built_for_gpus() -> bool:
    return torch.version.cuda is not None or torch.version.hip is not None


def named(device: torch.device) -> str:
    """The device with the name of the card, for people."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def choose_precision(wanted: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """The precision that is wanted; `auto` is `bf16` if the device computes in bfloat16 natively, else `fp32`.

    Raises:
        ExperimentError: There is no such precision.
    """
    require_choice("precision", wanted, Precision)
    if wanted != "auto":
        return wanted
    native = _cuda_has_bf16(device) if device.type == "cuda" else device.type == "cpu" and _cpu_has_bf16()
    return "bf16" if native else "fp32"


def _cuda_has_bf16(device: torch.device) -> bool:
    """Whether a card has bfloat16 instructions (NVIDIA's since Ampere); torch emulates them on older ones, slowly."""
    if torch.version.hip is not None:
        return bool(torch.cuda.is_bf16_supported())
    return torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _cpu_has_bf16() -> bool:
    """Whether the processor has bfloat16 instructions; emulated, bfloat16 is slower than float32."""
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return False
    words = set(flags.read_text(encoding="utf-8", errors="replace").split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


@contextmanager
def float32_products(device: torch.device, tf32: bool) -> Iterator[None]:
    """In this block, compute float32 matrix products and convolutions in full, or with TF32's 10 bits of mantissa.

    Only CUDA cards have TF32 (NVIDIA's since Ampere). By default torch uses it for convolutions, but not for products.
    """
    if device.type != "cuda":
        yield
        return
    flags: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = tf32
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


@contextmanager
def own_precision() -> Iterator[None]:
    """In this block, autocast is off: the caller's would change what a model's own precision makes of it."""
    with ExitStack() as held:
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                held.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Whatever is drawn or seeded in this block, torch's random state is the caller's again after it."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cards = range(torch.cuda.device_count()) if used else ()
    with torch.random.fork_rng(devices=cards):
        yield


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """In this block, compute with that many CPU threads; 0 leaves the number as it is."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count:
            torch.set_num_threads(before)


@contextmanager
def enough_memory(device: torch.device, remedy: str, about: str | Path = "") -> Iterator[None]:
    """Answer the end of a device's memory, or of the computer's, with a sentence.

    Args:
        device: The device that is computed on.
        remedy: What helps, as an imperative.
        about: The file that is computed on, if it is one.

    Raises:
        DeviceMemoryError: The memory was too small for what is done inside.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if not short_of_memory(error):
            raise
        ours = isinstance(error, MemoryError) or "CPUAllocator" in said or device.type == "cpu"
        wanted = _TRIED.search(said)
        more = f" for {_amount(*wanted.groups())} more" if wanted else ""
        place = "this computer" if ours else str(device)
        named = f"{about}: " if about else ""
        raise DeviceMemoryError(f"{named}The memory of {place} is too small{more}; {remedy}.") from None


def _amount(number: str, unit: str) -> str:
    return f"{int(number) / 2**30:.1f} GiB" if unit == "bytes" else f"{number} {unit}"
