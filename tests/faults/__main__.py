"""python -m tests.faults [PART ...] [--long] [--out FILE]: run parts of the harness and keep their figures."""

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
OUT = HERE.parents[1] / "results" / "faults.json"
LIBRARIES = ("av", "numpy", "safetensors", "timm")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts one after another; the figures of each replace only its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults made on purpose, with figures.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--long", action="store_true", help="hours instead of minutes")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="default: results/faults.json")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    for name in options.parts or PARTS:
        part = importlib.import_module(f"tests.faults.{name}")
        started = time.monotonic()
        figures = part.run(options.long)
        keep(options.out, name, figures, time.monotonic() - started, options.long)
        print(json.dumps({name: figures}, indent=1))


def keep(out: Path, name: str, figures: dict[str, Any], seconds: float, long: bool) -> None:
    """Replace the figures of one part in the file."""
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    words = ["python -m tests.faults", name, *(["--long"] if long else [])]
    kept[name] = {
        "command": " ".join(words),
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
