"""How long a command takes before it does anything, and how long until the first answer.

python -m bench startup [--quick]

`help` imports nothing heavy. `recipe` reads one recipe, and with it the classes that own its options. `torch` imports
torch and does nothing, which is the floor of what computes. `predict` finds the events in a clip of ten seconds, and
`search` finds windows for a sentence, each in a process of its own: the starter backbone with AV-PEA, not trained. The
files are in the page cache, and modules are compiled, as they are after an installation or a first run. `again` answers
about the clip once more in the same process. Seconds by the clock, and of CPU time, which other work on the machine
changes less; that of the process that decodes is included.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from avpea import measure
from avpea.checkpoint import MODEL_FILE, save_model
from avpea.data import samples
from avpea.experiment import load_recipe
from avpea.labels import CaptionLabels, EventLabels, Labels
from avpea.media import media_below
from avpea.model import build
from avpea.search import index

COMMAND = "import sys; from avpea.cli import script; sys.exit(script())"
AGAIN = """
import sys, time
from avpea.media import boxed
from avpea.threads import settle
settle()
from avpea.predict import load
with boxed():
    predictor = load(sys.argv[1])
    for _ in range(int(sys.argv[3])):
        began = time.perf_counter()
        predictor.predict(sys.argv[2])
        print(time.perf_counter() - began)
"""


def run(quick: bool) -> dict[str, Any]:
    spent: dict[str, list[float]] = {}
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}

    def start(name: str, code: str, *words: object) -> Callable[[], None]:
        def started() -> None:
            before = cpu_seconds()
            command = [sys.executable, "-c", code, *map(str, words)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            spent.setdefault(name, []).append(cpu_seconds() - before)

        return started

    with tempfile.TemporaryDirectory(prefix="avpea-bench-") as name:
        folder = Path(name)
        clip = make(folder)
        words: dict[str, list[object]] = {"help": ["--help"], "recipe": ["recipes", "mini/avel"]}
        words["predict"] = ["predict", folder / "avel", clip, "--json"]
        words["search"] = ["search", folder / "library", "a dog barks", "--json"]
        bare = {"python": start("python", "pass"), "torch": start("torch", "import torch")}
        commands = {one: start(one, COMMAND, *each) for one, each in words.items()}
        times = measure.interleaved({**bare, **commands}, 1 if quick else 9)
        again = [sys.executable, "-c", AGAIN, str(folder / "avel"), str(clip), "2" if quick else "20"]
        answers = subprocess.run(again, check=True, capture_output=True, text=True).stdout.split()
    return {
        "what": __doc__,
        "command": "python -m bench startup",
        "machine": measure.machine(),
        "ms": {name: round(1e3 * min(each)) for name, each in times.items()},
        "cpu_ms": {name: round(1e3 * min(each)) for name, each in spent.items()},
        "again_ms": round(1e3 * min(map(float, answers[1:]))),
        "help_over_python": measure.ratio(times["help"], times["python"]),
        "recipe_over_python": measure.ratio(times["recipe"], times["python"]),
        "predict_over_torch": measure.ratio(times["predict"], times["torch"]),
        "search_over_torch": measure.ratio(times["search"], times["torch"]),
    }


def cpu_seconds() -> float:
    """CPU time of all processes so far that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make(folder: Path) -> Path:
    """Write a run of events, a library and the run that made it; return one of the clips in it."""
    samples.make("av-digits", folder / "videos", train=4, val=1, test=1, seed=0)
    kinds: dict[str, Labels] = {"avel": EventLabels(tuple("abcdefghij")), "avr": CaptionLabels()}
    for task, labels in kinds.items():
        recipe = load_recipe(f"mini/{task}")
        torch.manual_seed(0)
        (folder / task).mkdir()
        model = build(recipe, labels)
        save_model(folder / task / MODEL_FILE, model, recipe, labels, {"epoch": 0, "selected_on": None})
    index(folder / "avr", folder / "videos", str(folder / "library"), progress=False)
    return Path(media_below(folder / "videos").files[0])
