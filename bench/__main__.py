"""python -m bench [NAME ...] [--quick] [--out FOLDER]; `--help` lists the names.

python -m bench gpu [--device cuda] checks a device instead (`bench/gpu`).
"""

import argparse
import importlib
import sys
from pathlib import Path

from avpea.errors import AvpeaError
from avpea.files import write_json

NAMES = (
    "cache",
    "adapters",
    "search",
    "export",
    "indexing",
    "startup",
    "long_video",
    "decoding",
    "checksums",
    "boxed",
    "processes",
    "threads",
    "processor",
    "prefix",
    "time_to_accuracy",
    "serve",
)

parser = argparse.ArgumentParser(prog="python -m bench", description="Time and memory, as ratios within one run.")
parser.add_argument("names", nargs="*", help=f"which: {', '.join(NAMES)} (default: all); or gpu")
parser.add_argument("--device", default="cuda", help="for gpu: the device to check (default: cuda)")
parser.add_argument("--quick", action="store_true", help="few rounds, small batches: does it run at all")
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")

if __name__ == "__main__":
    options = parser.parse_args()
    if options.names == ["gpu"]:
        from bench.gpu import check

        sys.exit(0 if check(options.device, options.quick, options.out)["ok"] else 1)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    for name in options.names or NAMES:
        try:
            result = importlib.import_module(f"bench.{name}").run(options.quick)
            write_json(options.out / f"{name}.json", result, indent=1)
        except AvpeaError as error:  # such as that of a program or a package that is missing
            sys.exit(f"python -m bench {name}: {error}")
        print(options.out / f"{name}.json")
