"""Interleaved timing, peak memory, and what machine this was."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


def interleaved(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each action, taken in turns so that a busy machine disturbs all alike; the first round is dropped."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - started)
    return {name: values[1:] for name, values in times.items()}


def ratio(over: list[float], under: list[float]) -> dict[str, float]:
    """Median of the ratios of neighbours, with quartiles, and the fastest over the fastest."""
    pairs = [a / b for a, b in zip(over, under, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
    return {
        "median": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "best": round(min(over) / min(under), 3),
    }


def peak_mb(module: str, *words: str) -> float:
    """Peak resident memory of `python -m MODULE WORDS` above what it had after building, as it prints it."""
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def forget_peak() -> None:
    """Let the highest resident memory start anew from what is resident now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_peak_mb() -> float:
    """Highest resident memory of this process since `forget_peak` (Linux)."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


def machine() -> dict[str, Any]:
    """Processor, cores, threads, versions, commit, date."""
    import timm

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    processor = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
    }


def write(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
