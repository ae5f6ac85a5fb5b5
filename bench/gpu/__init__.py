"""A check of a device, in parts: first whether it computes what the CPU does, then how fast and in how much memory.

    python -m bench gpu [--device cuda] [--quick] [--out FOLDER]      (make gpu-check)

Each part is a process of its own with its own limit of time, so that one that fails or hangs ends no other. A part
writes a line for each finding, and after each part `gpu.json` is written and the table printed, so that a visit that
ends early has most of it. It needs no network, no videos, and nothing of PyAV; pydantic and platformdirs come with
`make gpu-bundle` to machines that lack them.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from avpea.files import write_json

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / ".gpu"  # of `make gpu-bundle`
BUNDLED = ("pydantic", "pydantic_core", "platformdirs")
WHOLE_SECONDS = 345.0  # of all parts together: under 6 minutes
CORES_FOR_TWO = 8


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        name: Its name; `bench.gpu.NAME`, up to the first hyphen, has the function `rows`.
        seconds: Its limit of time.
        beside: Whether it is run beside the part before it: neither of the two takes a time.
    """

    name: str
    seconds: float
    beside: bool = False


# Correctness first, then the figures that are most wanted.
PARTS = (
    Part("about", 30),
    Part("same", 110),
    Part("training", 70, beside=True),
    Part("speed-base", 70),
    Part("speed-ways", 70),
    Part("inference", 50),
    Part("batch", 75),
    Part("speed-large", 60),
)
QUICK_SECONDS = 280.0  # for a busy machine without a card


def check(device: str, quick: bool, out: Path, parts: Iterable[Part] = PARTS) -> dict[str, Any]:
    """Run the parts and return the results, which `OUT/gpu.json` has too.

    Raises:
        SystemExit: A library is missing; says how to bring it.
    """
    if missing := [name for name in BUNDLED if not _is_there(name)]:
        sys.exit(
            f"{' and '.join(missing)} cannot be imported here; run `make gpu-bundle` on a machine with a network, and "
            f"bring the folder {BUNDLE.name} along in the checkout."
        )
    began = time.monotonic()
    whole: dict[str, Any] = {
        "what": __doc__,
        "command": f"python -m bench gpu --device {device}" + (" --quick" if quick else ""),
        "machine": {},
        "parts": {},
    }
    for some in _rounds(parts):
        left = WHOLE_SECONDS - (time.monotonic() - began)
        with ThreadPoolExecutor(len(some)) as running:
            limits = [QUICK_SECONDS if quick else min(part.seconds, left) for part in some]
            ended = [
                running.submit(run_part, part.name, device, quick, limit)
                for part, limit in zip(some, limits, strict=True)
            ]
            for part, one in zip(some, ended, strict=True):
                whole["parts"][part.name] = found = one.result()
                if part.name == "about":
                    whole["machine"] = found["rows"][0] if found["rows"] else {}
                whole["seconds"] = round(time.monotonic() - began, 1)
                whole["ok"] = all(each["ok"] for each in whole["parts"].values())
                write_json(out / "gpu.json", whole, indent=1)
                print(table(part.name, found), flush=True)
    return whole


def _rounds(parts: Iterable[Part]) -> list[list[Part]]:
    """Parts that run beside each other; on few cores, each alone."""
    rounds: list[list[Part]] = []
    for part in parts:
        if part.beside and rounds and (os.cpu_count() or 1) >= CORES_FOR_TWO:
            rounds[-1].append(part)
        else:
            rounds.append([part])
    return rounds


def run_part(name: str, device: str, quick: bool, seconds: float) -> dict[str, Any]:
    """Run a part in a process of its own: its rows, and how it ended.

    Args:
        name: Name of the part.
        device: The device.
        quick: Whether small models will do.
        seconds: Its limit of time; with less than a second left it is not begun.
    """
    if seconds < 1:
        return {"ok": False, "ended": "not begun: the time for all parts was up", "seconds": 0.0, "rows": []}
    began = time.monotonic()
    with _text_file() as lines, _text_file() as said:
        words = [sys.executable, "-m", "bench.gpu", name, "--device", device, *(["--quick"] if quick else [])]
        process = subprocess.Popen(words, stdout=lines, stderr=said, cwd=ROOT, env=_environment())
        try:
            code = process.wait(timeout=seconds)
            ended = "" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ended = f"stopped after its {seconds:.0f} s"
        lines.seek(0)
        said.seek(0)
        rows = [row for line in lines if (row := _row(line)) is not None]
        last = [line.strip() for line in said if line.strip()][-1:]
    wrong = [row["what"] for row in rows if row.get("ok") is False]
    return {
        "ok": not ended and not wrong,
        "ended": ": ".join([ended, *last]) if ended else "",
        "wrong": wrong,
        "seconds": round(time.monotonic() - began, 1),
        "rows": rows,
    }


def _text_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None or (BUNDLE / name).is_dir()


def _environment() -> dict[str, str]:
    # What is installed goes first: the bundle is for another version of Python, or another machine.
    site = [one for one in (os.environ.get("PYTHONPATH"),) if one]
    lacking = [str(BUNDLE)] if any(importlib.util.find_spec(name) is None for name in BUNDLED) else []
    path = os.pathsep.join([str(ROOT), *site, *lacking])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def _row(line: str) -> dict[str, Any] | None:
    """A line that the part has finished; the last one may have been cut short."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "what" in found else None


def table(name: str, found: dict[str, Any]) -> str:
    """The part's rows as text for a terminal."""
    state = "ok" if found["ok"] else "NOT OK"
    head = f"== {name}: {state}, {found['seconds']} s" + (f" ({found['ended']})" if found["ended"] else "")
    lines = [head]
    for row in found["rows"]:
        mark = {True: "ok    ", False: "WRONG ", None: ""}[row.get("ok")]
        rest = ", ".join(f"{key} {value}" for key, value in row.items() if key not in ("what", "ok", "experiment"))
        lines.append(f"   {mark}{row['what']}: {rest}")
    return "\n".join(lines)
