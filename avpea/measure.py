"""Interleaved timing, peak memory, and a description of the machine, for benchmarks and comparisons."""

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from avpea.version import __version__

__all__ = ["environment", "forget_peak", "interleaved", "machine", "peak_mb", "ratio", "resident_peak_mb"]


def interleaved(
    actions: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each action, run in turns so that other load affects all equally; the first round is dropped."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            started = clock()
            action()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(clock() - started)
    return {name: values[1:] for name, values in times.items()}


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of the pairwise ratios, and the ratio of the two minima."""
    pairs = [a / b for a, b in zip(over, under, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
    return {
        "median": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "best": round(min(over) / min(under), 3),
    }


def peak_mb(module: str, *words: str) -> float:
    """Run `python -m MODULE WORDS` and read the last line it prints: its peak memory, in MB.

    Raises:
        RuntimeError: The process failed, with the last line that it wrote.
    """
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return float(done.stdout.split()[-1])


def forget_peak(on_card: bool = False) -> None:
    """Reset the peak memory to what is in use now (Linux, and a CUDA card)."""
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    marks = Path("/proc/self/clear_refs")
    if marks.exists():
        marks.write_text("5")


def resident_peak_mb(on_card: bool = False) -> float:
    """Peak memory since `forget_peak`, in MB: of the CUDA card, or the resident size of this process."""
    if on_card:
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():
        return float(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    import resource  # without /proc: the peak since the process started

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def machine() -> dict[str, Any]:
    """The `environment`, and threads, load and date."""
    import timm

    return {
        **environment(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "timm": timm.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def environment() -> dict[str, Any]:
    """What a result depends on besides its experiment and device: versions, commit and processor."""
    return {
        "avpea": __version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


@cache
def _commit() -> str | None:
    """The commit of the checkout that this code is in, with `-dirty` if it has changes; None outside a checkout."""
    # Unlike `git describe`, it writes nothing, so that no kill and no full disk leaves a lock in the checkout.
    words = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), "status", "--porcelain=v2", "--branch"]
    words += ["--untracked-files=no"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return None
    # This package may be installed inside another project's checkout, whose commit is not meant.
    inside = (Path(__file__).parents[1] / ".git").exists()
    found = re.match(r"# branch\.oid ([0-9a-f]+)$", done.stdout, re.MULTILINE)
    if not (inside and found and done.returncode == 0):
        return None
    changed = any(not line.startswith("#") for line in done.stdout.splitlines())
    return f"{found[1]}-dirty" if changed else found[1]


@cache
def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8", errors="replace").splitlines() if about.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())
