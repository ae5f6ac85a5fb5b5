"""An epoch of training by two processes against one, a thread each; and how long training waits for its data.

python -m bench processes [--quick]

Beside them, what the machine itself allows: two trainings that know nothing of each other, each of half the videos in
batches of half the size, at once.
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

CLIPS, BATCH = 48, 8


def run(quick: bool) -> dict[str, Any]:
    epochs, rounds = (2, 1) if quick else (3, 2)
    clips = 16 if quick else CLIPS
    seconds: dict[str, list[float]] = {"1": [], "2": [], "2 apart": []}
    waited: list[float] = []
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, count in {"whole": clips, "half": clips // 2}.items():
            samples.make("av-digits", folder / part, train=count, val=2, test=2, progress=False)
        for number in range(rounds):
            for ways, some in seconds.items():
                runs = [folder / f"{number}-{ways}-{one}".replace(" ", "-") for one in range(1 + (ways == "2 apart"))]
                data = "half" if len(runs) == 2 else "whole"
                devices = 2 if ways == "2" else 1
                started = [_training(folder, data, run, devices, BATCH // len(runs), epochs) for run in runs]
                for one in started:
                    if one.wait():
                        raise RuntimeError(f"a training ended with exit code {one.returncode}")
                for run in runs:
                    ends, share = _epochs(run)
                    some += [after - before for before, after in itertools.pairwise(ends)]  # the first warms up
                    waited += [share] if data == "whole" else []
    medians = {ways: statistics.median(some) for ways, some in seconds.items()}
    return {
        "what": __doc__,
        "command": "python -m bench processes",
        "machine": measure.machine(),
        "load_before": load,
        "recipe": f"mini/av-digits, batches of {BATCH}, without validation time to speak of",
        "clips": clips,
        "epoch_seconds": {ways: round(median, 2) for ways, median in medians.items()},
        "one_over_two": round(medians["1"] / medians["2"], 3),
        "one_over_two_apart": round(medians["1"] / medians["2 apart"], 3),
        "waited_share": round(statistics.median(waited), 4),
    }


def _training(folder: Path, data: str, run: Path, devices: int, batch: int, epochs: int) -> subprocess.Popen[bytes]:
    words = [
        *("train", "mini/av-digits", "--run", str(run), "--quiet"),
        *("--data.root", str(folder / data), "--data.cache", str(folder / "cache")),
        *("--train.epochs", str(epochs), "--train.batch_size", str(batch), "--train.devices", str(devices)),
        *("--train.threads", "1"),
    ]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "avpea", *words], env=alone, stdout=subprocess.DEVNULL)


def _epochs(run: Path) -> tuple[list[float], float]:
    """Seconds at the end of each epoch, and the share of them that training waited for its data."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ends = [line["seconds"] for line in lines]
    whole = ends[-1] - ends[0]
    return ends, sum(line["waited_seconds"] for line in lines[1:]) / whole if whole else 0.0
