"""Train and evaluate recipes over seeds, going on after an interruption, and write one JSON file for each recipe.

    python results/run.py --data.root DIR --runs runs/mini mini/avel-none mini/avel-audio mini/avel-visual mini/avel

Several processes may share the work: each takes the runs that no other has claimed. The JSON files hold the
recipe, every seed's figures and their mean and sample standard deviation.
"""

import argparse
import fcntl
import json
import os
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any, TextIO

import torch

from avpea import __version__
from avpea.accounting import count
from avpea.checkpoint import read_info
from avpea.evaluate import evaluate
from avpea.experiment import Experiment, load_recipe, parse_overrides
from avpea.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--collect", action="store_true", help="only write the JSON files of what is finished")
    options, rest = parser.parse_known_args()
    changes = parse_overrides(rest)
    grid = [(recipe, seed) for seed in options.seeds for recipe in options.recipes]
    if not options.collect:
        for recipe, seed in grid:
            one_run(recipe, seed, changes, options.runs)
    for recipe in options.recipes:
        collect(recipe, options.seeds, changes, options.runs, options.out)


def folder(runs: Path, recipe: str, seed: int) -> Path:
    return runs / f"{recipe.replace('/', '-')}-seed{seed}"


def one_run(recipe: str, seed: int, changes: dict[str, Any], runs: Path) -> None:
    run = folder(runs, recipe, seed)
    lock = claim(run.with_suffix(".lock"))
    if lock is None or (run / "result.json").is_file():
        return
    experiment = load_recipe(recipe).override({**changes, "train.seed": seed})
    trained = train(experiment, run, progress=False)
    tested = evaluate(run, "test", progress=False)
    record = {
        "seed": seed,
        "commit": commit(),
        "val_segment_accuracy": trained.best["segment_accuracy"],
        "best_epoch": trained.best["epoch"],
        "test_segment_accuracy": tested.metrics["segment_accuracy"],
        "test_per_class_accuracy": tested.metrics["per_class_accuracy"],
        "train_seconds": trained.epochs[-1]["seconds"],
        "epochs": trained.epochs,
    }
    (run / "result.json").write_text(json.dumps(record), encoding="utf-8")
    print(
        recipe,
        seed,
        f"test {record['test_segment_accuracy']:.4f} val {record['val_segment_accuracy']:.4f}",
        flush=True,
    )


def claim(lock: Path) -> TextIO | None:
    """The locked file for as long as it is held, or None where another process holds it; ends with the process."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return file


def collect(recipe: str, seeds: list[int], changes: dict[str, Any], runs: Path, out: Path) -> None:
    records = [
        json.loads(path.read_text()) for seed in seeds if (path := folder(runs, recipe, seed) / "result.json").is_file()
    ]
    if not records:
        return
    trained = read_info(folder(runs, recipe, records[0]["seed"]))  # what ran, not what the recipe says by now
    experiment, classes = trained.experiment, len(trained.class_names)
    values = [record["test_segment_accuracy"] for record in records]
    options = "".join(f" --{name} {value}" for name, value in changes.items() if not name.startswith("data."))
    document = {
        "recipe": recipe,
        "title": experiment.title,
        "command": f"python results/run.py {recipe} --seeds {' '.join(str(r['seed']) for r in records)} "
        f"--data.root DIR{options}",
        "classes": classes,
        "test_segment_accuracy_mean": statistics.mean(values),
        "test_segment_accuracy_std": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": records,
        "parameters": count(experiment, classes).to_dict(),
        "experiment": described(experiment),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "avpea": __version__,
        },
    }
    path = out / f"{recipe.replace('/', '-')}.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(
        path,
        f"{document['test_segment_accuracy_mean']:.4f} ± {document['test_segment_accuracy_std'] or 0:.4f}",
        flush=True,
    )


def described(experiment: Experiment) -> dict[str, Any]:
    """The experiment without what belongs to one machine."""
    values = experiment.to_dict()
    values["data"] |= {"root": Path(experiment.data.root).name, "cache": ""}
    return values


def commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


if __name__ == "__main__":
    main()
