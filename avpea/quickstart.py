"""The quickstart: make a small data set, train on it with and without adapters, evaluate, predict for a video.

`make quickstart` runs it. After an interruption the same command, or `python -m avpea.quickstart FOLDER`, resumes it.
"""

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from avpea.errors import AvpeaError
from avpea.experiment import load_recipe
from avpea.labels import EventSample
from avpea.progress import note
from avpea.stopping import Stopped, stoppable
from avpea.tables import Table, show
from avpea.threads import settle

__all__ = ["main"]

_RECIPES = {"frozen ViT, no adapter": "mini/av-digits-none", "with AV-PEA adapters": "mini/av-digits"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps in the folder that the first argument names; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    settle()
    try:
        with stoppable():
            run(Path(words[0]) if words else Path("quickstart"))
    except AvpeaError as error:
        note(f"{error}")
        return 1
    except KeyboardInterrupt as stopped:
        note("stopped; the same command resumes it.")
        return 128 + (stopped.number if isinstance(stopped, Stopped) else signal.SIGINT)
    return 0


def run(folder: Path) -> None:
    """Run all steps: data, two trainings, the comparison, a timeline and an attention map."""
    from avpea.data import samples
    from avpea.evaluate import evaluate
    from avpea.predict import load
    from avpea.train import train

    started = time.monotonic()
    digits = folder / "av-digits"
    _say("1. Making a small data set: handwritten digits seen, spoken digits heard")
    print(samples.make("av-digits", digits))

    rows = []
    for step, (title, recipe) in enumerate(_RECIPES.items(), start=2):
        _say(f"{step}. Training {recipe}: {title}")
        experiment = load_recipe(recipe).override({"data.root": str(digits), "data.cache": str(folder / "cache")})
        run_folder = folder / "runs" / recipe.rpartition("/")[2]
        before = time.monotonic()
        trained = train(experiment, run_folder)
        minutes = (time.monotonic() - before) / 60
        result = evaluate(run_folder, "test", trust=True, progress=False)
        figure = result.task.figure
        accuracies = trained.best[figure.metric], result.metrics[figure.metric]
        rows.append([title, *(f"{100 * a:.1f} %" for a in accuracies), f"{minutes:.1f}"])
        (reference, background), *_ = result.metrics["references"].items()

    _say(f"4. The comparison: {figure.name} (a digit counts where it is seen and spoken in the same second)")
    rows.insert(0, [reference, "", f"{100 * background:.1f} %", ""])
    show([Table(["", "validation", "test", "minutes"], rows)])

    _say("5. What it found in a test video")
    predictor = load(run_folder, trust=True)
    best = max(cast("tuple[EventSample, ...]", result.samples), key=lambda sample: len(set(sample.labels)))
    prediction = predictor.predict(best.video)
    show(prediction.report())
    prediction.plot(folder / "timeline.png")
    predictor.attention(prediction.clip, prediction.surest_second()).plot(folder / "attention.png", best.video.name)
    print(f"Pictures: {folder / 'timeline.png'} and {folder / 'attention.png'}")

    _say(f"Done in {(time.monotonic() - started) / 60:.1f} minutes. What to try next")
    print(
        f"  avpea predict {run_folder} YOUR_VIDEO.mp4 --plot timeline.png   (it knows digits only)\n"
        f"  avpea evaluate {run_folder} --details\n"
        "  avpea recipes                              the paper's experiments and the small ones\n"
        "  avpea data verify manifest --data.root videos.csv     your own labelled videos (docs/data.md)\n"
        "  avpea train mini/avel --data.name manifest --data.root videos.csv"
    )


def _say(line: str) -> None:
    print(f"\n{line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
