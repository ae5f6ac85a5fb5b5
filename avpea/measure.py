"""Interleaved timing, peak memory, and what machine this was: shared by benchmarks and comparisons."""

import os
import platform
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


def interleaved(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each action, taken in turns so that a busy machine disturbs all alike; the first round is dropped."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    return {name: values[1:] for name, values in times.items()}


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """Median of the ratios of neighbours, with quartiles, and the fastest over the fastest."""
    pairs = [a / b for a, b in zip(over, under, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
    return {
        "median": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "best": round(min(over) / min(under), 3),
    }


def peak_mb(module: str, *words: str) -> float:
    """What `python -m MODULE WORDS` prints last: its peak memory, in MB.

    Raises:
        RuntimeError: The process failed, with the last line that it wrote.
    """
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return float(done.stdout.split()[-1])


def forget_peak() -> None:
    """Let the highest memory start anew from what is in use now (Linux, CUDA)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    marks = Path("/proc/self/clear_refs")
    if marks.exists():
        marks.write_text("5")


def resident_peak_mb() -> float:
    """Highest memory since `forget_peak`, in MB: of the GPU where there is one, else resident in this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():
        return float(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    import resource  # no /proc: since the process began

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def machine() -> dict[str, Any]:
    """Processor, cores, threads, versions, commit, date."""
    import timm

    return {
        **environment(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "timm": timm.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def environment() -> dict[str, Any]:
    """What a result depends on besides its experiment: versions, commit, processor."""
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
    """Of the checkout that this code is in, `-dirty` where it was changed since; None outside of one."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return None
    # A package that was installed into some other project's checkout is not that project's commit.
    inside = (Path(__file__).parents[1] / ".git").exists()
    return done.stdout.strip() or None if inside and done.returncode == 0 else None


@cache
def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8", errors="replace").splitlines() if about.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())
