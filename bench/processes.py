"""An epoch of training by two processes against one, a thread each; and how long training waits for its data.

python -m bench processes [--quick]
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from avpea import measure
from avpea.data import samples

CLIPS = 48


def run(quick: bool) -> dict[str, Any]:
    epochs, rounds = (2, 1) if quick else (3, 3)
    clips = 8 if quick else CLIPS
    seconds: dict[int, list[float]] = {1: [], 2: []}
    waited: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        samples.make("av-digits", Path(folder) / "digits", train=clips, val=2, test=2, progress=False)
        for number in range(rounds):
            for processes in seconds:
                lines = _trained(Path(folder), f"{number}-{processes}", processes, epochs)
                ends = [line["seconds"] for line in lines]
                # The first epoch warms up.
                seconds[processes] += [after - before for before, after in itertools.pairwise(ends)]
                whole = ends[-1] - ends[0]
                waited.append(sum(line["waited_seconds"] for line in lines[1:]) / whole if whole else 0.0)
    return {
        "what": __doc__,
        "command": "python -m bench processes",
        "machine": measure.machine(),
        "load_before": round(os.getloadavg()[0], 2),
        "recipe": "mini/av-digits, batches of 4, without validation time to speak of",
        "clips": clips,
        "epoch_seconds": {str(n): round(statistics.median(some), 2) for n, some in seconds.items()},
        "one_over_two": round(statistics.median(seconds[1]) / statistics.median(seconds[2]), 3),
        "waited_share": round(statistics.median(waited), 4),
    }


def _trained(folder: Path, name: str, processes: int, epochs: int) -> list[dict[str, Any]]:
    words = [
        *("train", "mini/av-digits", "--run", str(folder / name), "--quiet"),
        *("--data.root", str(folder / "digits"), "--data.cache", str(folder / "cache")),
        *("--train.epochs", str(epochs), "--train.batch_size", "4", "--train.devices", str(processes)),
        *("--train.threads", "1"),
    ]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "avpea", *words], check=True, env=alone, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
