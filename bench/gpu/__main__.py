"""One part of the check, in this process: a JSON line for each finding.

python -m bench.gpu PART --device DEVICE [--quick]
"""

import argparse
import importlib
import json

from bench.gpu import PARTS

parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="One part of the check of a device.")
parser.add_argument("part", choices=[part.name for part in PARTS])
parser.add_argument("--device", default="cuda")
parser.add_argument("--quick", action="store_true")

if __name__ == "__main__":
    options = parser.parse_args()
    module, _, more = options.part.partition("-")
    from avpea.device import choose_device

    given = (more,) if more else ()
    device = choose_device(options.device)
    for row in importlib.import_module(f"bench.gpu.{module}").rows(device, options.quick, *given):
        print(json.dumps(row), flush=True)
