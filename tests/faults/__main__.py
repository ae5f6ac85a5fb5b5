"""python -m tests.faults [PART ...] [--long] [--share S] [--out FILE]: run parts of the harness, keep their figures."""

import argparse
import importlib
import json
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from avpea.files import write_json
from avpea.measure import environment

HERE = Path(__file__).parent
PARTS = tuple(name for name in ("media", "writes", "kills", "flat", "server") if (HERE / f"{name}.py").exists())
COUNTED = ("writes", "kills", "flat")  # of these a share can be run
OUT = HERE.parents[1] / "results" / "faults.json"
LIBRARIES = ("av", "numpy", "safetensors", "timm")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts one after another; the figures of each replace only its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults made on purpose, with figures.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--long", action="store_true", help="hours instead of minutes")
    about = f"share of the moments, faults or steps, for {', '.join(COUNTED)} (default: all of them)"
    parser.add_argument("--share", type=float, default=1.0, metavar="S", help=about)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="default: results/faults.json")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    if options.share != 1 and not set(options.parts or PARTS) <= set(COUNTED):
        parser.error(f"--share is only for {', '.join(COUNTED)}")
    for name in options.parts or PARTS:
        part = importlib.import_module(f"tests.faults.{name}")
        started = time.monotonic()
        figures = part.run(options.long, options.share) if name in COUNTED else part.run(options.long)
        words = [name, *(["--long"] if options.long else []), *([f"--share {options.share:g}"] * (options.share != 1))]
        keep(options.out, name, figures, time.monotonic() - started, words)
        print(json.dumps({name: figures}, indent=1))


def keep(out: Path, name: str, figures: dict[str, Any], seconds: float, words: Sequence[str]) -> None:
    """Replace the figures of one part in the file."""
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    kept[name] = {
        "command": " ".join(["python -m tests.faults", *words]),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "machine": {**environment(), "system": f"{platform.system()} {platform.machine()}"},
        "versions": {library: version(library) for library in LIBRARIES},
        "figures": figures,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {part: kept[part] for part in sorted(kept)}, indent=1)


if __name__ == "__main__":
    main()
