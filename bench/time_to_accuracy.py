"""Seconds of training until the validation accuracy that faithful AV-PEA reaches at its best, and what it is worth.

    python -m bench time_to_accuracy [--quick]
    python -m bench.time_to_accuracy ROOT [--seeds 5] [--work FOLDER] [--sources JSONL] [--out JSON] [--plot PNG]

The first is a small run on a few clips of av-digits. The second trains each row on a data set in AVE's layout, seed by
seed, one row after the other, so that other load affects all alike; one thread. What has been trained is not trained
again, an interrupted run goes on, and what each reached goes to FOLDER/results.

`seconds` are those of training and of the evaluation after each epoch, and of the frozen layers where these are
computed once (`once`; without them in `seconds_again`, as for a second run on the same clips). Decoding is left out: it
is the same for all. The target is the mean over seeds of the best validation accuracy of AV-PEA; `to` has the seconds
to lower ones, `once` included, of the rows that reach these with each seed, and `to_of_lavish` what they are of
LAVISH's. Differences in test accuracy have intervals over clips, classes and, if `--sources` names them, source
recordings, all drawn anew.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avpea import data, measure
from avpea.activations import kept_activations
from avpea.compare.statistics import mean_and_std, paired_bootstrap
from avpea.data import samples
from avpea.evaluate import evaluate, prepare
from avpea.experiment import Experiment, load_recipe
from avpea.files import write_json
from avpea.model import build
from avpea.plot import style
from avpea.train import train

Rows = dict[str, tuple[str, dict[str, Any]]]
REFERENCE, AGAINST = "AV-PEA", "LAVISH"
LOWER = (0.7, 0.75, 0.8, 0.825, 0.85)  # accuracies on val
ROWS: Rows = {
    "LAVISH, float32": ("mini/avel-lavish", {"train.precision": "fp32"}),
    AGAINST: ("mini/avel-lavish", {}),
    REFERENCE: ("mini/avel", {}),
    "LoRA": ("mini/avel-lora", {}),
    "fast": ("mini/avel-fast", {}),
    "fast, last 6": ("mini/avel-fast", {"adapter.blocks": "last 6"}),
}
DIGITS: Rows = {
    AGAINST: ("mini/av-digits", {"adapter.name": "lavish"}),
    REFERENCE: ("mini/av-digits", {}),
    "LoRA": ("mini/av-digits", {"adapter.name": "lora", "adapter.rank": 16}),
    "fast": ("mini/av-digits-fast", {}),
}


def trained(name: str, experiment: Experiment, work: Path) -> dict[str, Any]:
    """What a row reached with a seed: from its file, by training it, or going on with it; each recipe has its own."""
    recipe = hashlib.sha256(json.dumps(experiment.to_dict(), sort_keys=True).encode()).hexdigest()[:8]
    file = work / "results" / f"{name.replace(', ', '-')}-seed{experiment.train.seed}-{recipe}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    torch.set_num_threads(1)
    once, run = keep(experiment, work), work / "runs" / file.stem
    result = train(experiment, run, progress=False)
    tested = evaluate(run, "test", progress=False)
    labels: Any = data.read(experiment.data).labels
    metric, background = tested.task.figure.metric, labels.background
    found = {
        "row": name,
        "seed": experiment.train.seed,
        "epochs": [[line["seconds"], line[f"val/{metric}"]] for line in result.epochs],
        "once": once,
        "test": tested.metrics[metric],
        "clips": [sample.video_id for sample in tested.samples],
        "categories": [_category(sample, background) for sample in tested.samples],
        "scores": [score / of for score, of in tested.scores],
        "machine": measure.machine(),
        "experiment": experiment.to_dict(),
    }
    write_json(file, found, indent=1)
    print(f"{file.stem}: {found['test']:.4f} on test, {found['epochs'][-1][0]} s, {once} s once", file=sys.stderr)
    return found


def _category(sample: Any, background: int) -> int:
    """The class of most seconds that are no background."""
    seconds: tuple[int, ...] = sample.labels
    return max((one for one in seconds if one != background), key=seconds.count, default=background)


def keep(experiment: Experiment, work: Path) -> float:
    """Decode the clips, and compute and keep the outputs of frozen layers; how many seconds the latter took."""
    annotations = data.read(experiment.data)
    cache, usable, _ = prepare(experiment, annotations, ["train", "val", "test"], progress=False)
    torch.manual_seed(0)
    model, _ = build(experiment, annotations.labels).to_train(experiment.train, torch.device("cpu"))
    kept = kept_activations(model.eval(), cache)
    if kept is None:
        return 0.0
    noted = work / "once" / f"{kept.folder.name}.json"
    if not noted.is_file():
        shutil.rmtree(kept.folder, ignore_errors=True)  # of an interrupted call, which had no time to note
        began = time.perf_counter()
        kept.fill([*usable["train"], *usable["val"]], progress=False)
        write_json(noted, round(time.perf_counter() - began, 1))
    seconds: float = json.loads(noted.read_text(encoding="utf-8"))
    return seconds


def table(found: Sequence[dict[str, Any]], sources: dict[str, str]) -> dict[str, Any]:
    """A row for each method: seconds to the target, ratio to LAVISH's, and test accuracy with its interval."""
    of_row: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        of_row.setdefault(one["row"], []).append(one)
    target = statistics.fmean(max(value for _, value in one["epochs"]) for one in of_row[REFERENCE])
    first = found[0]
    groups = [first["categories"], *([[sources[clip] for clip in first["clips"]]] if sources else [])]
    against = np.array([one["scores"] for one in of_row[AGAINST]])
    rows = []
    for name, some in of_row.items():
        reached = [_reached(one, target) for one in some]
        seconds = [one["once"] + own for one, own in zip(some, reached, strict=True) if own is not None]
        mean, deviation = mean_and_std([one["test"] for one in some])
        scores = np.array([one["scores"] for one in some])
        row: dict[str, Any] = {"row": name, "reached": f"{len(seconds)} of {len(some)}"}
        row |= {"seconds": [round(one, 1) for one in seconds], "once": some[0]["once"]}
        row |= {"seconds_again": [round(own, 1) for own in reached if own is not None]}
        row["to"] = {f"{level:.3f}": spent for level in LOWER if (spent := _mean_seconds(some, level)) is not None}
        row |= {"test": round(mean, 4), "test_std": None if len(some) < 2 else round(deviation, 4)}
        if name != AGAINST:
            row["over_clips"] = [round(x, 4) for x in paired_bootstrap(scores, against)]
            row["over_classes_and_sources"] = [round(x, 4) for x in paired_bootstrap(scores, against, groups=groups)]
        rows.append(row)
    slowest = next(row["to"] for row in rows if row["row"] == AGAINST)
    for row in rows:
        row["to_of_lavish"] = {one: round(row["to"][one] / slowest[one], 3) for one in slowest if one in row["to"]}
    times = {row["row"]: statistics.fmean(row["seconds"]) for row in rows if row["seconds"]}
    for row in rows:
        if row["row"] in times and AGAINST in times:
            row["of_lavish"] = round(times[row["row"]] / times[AGAINST], 3)
    return {
        "target": round(target, 4),
        "rows": rows,
        "curves": [[one["row"], one["seed"], one["once"], one["epochs"]] for one in found],
    }


def _reached(one: dict[str, Any], target: float) -> float | None:
    return next((seconds for seconds, value in one["epochs"] if value >= target), None)


def _mean_seconds(some: Sequence[dict[str, Any]], level: float) -> float | None:
    """Seconds to an accuracy, those of frozen layers included; None if a seed does not reach it."""
    seconds = [(one["once"], _reached(one, level)) for one in some]
    if any(own is None for _, own in seconds):
        return None
    return round(statistics.fmean(once + (own or 0.0) for once, own in seconds), 1)


def draw(answer: dict[str, Any], picture: Path) -> None:
    """Accuracy on val over seconds, a line for each row and seed, and the target."""
    figure = style.new_figure(7.2, 3.9, "Accuracy over seconds of training")
    axes = figure.add_axes((0.07, 0.13, 0.72, 0.7))
    colours = dict(zip([row["row"] for row in answer["rows"]], (style.INK, *style.COLOURS), strict=False))
    lines: dict[str, Any] = {}
    for name, _, once, epochs in answer["curves"]:
        seconds, values = [once + each for each, _ in epochs], [100 * value for _, value in epochs]
        (lines[name],) = axes.plot(seconds, values, "o-", ms=3, lw=1.3, color=colours[name])
    axes.axhline(100 * answer["target"], color=style.INK, lw=0.8, ls=":")
    axes.set_xlim(left=0)
    style.quiet(axes)
    style.write(axes, 0, style.above(axes, 0.12), "val accuracy, %; dotted: mean of AV-PEA's best", size=8.5)
    style.write(axes, 1, -0.16, "seconds of training", size=8.5, ha="right")
    style.legend(figure, lines, 0.81, 8)
    figure.savefig(picture, dpi=110, metadata={"Software": None})


def measured(rows: Rows, root: str, seeds: int, work: Path, sources: dict[str, str], changes: Any) -> dict[str, Any]:
    """Train all rows, seed by seed, and tabulate."""
    found = []
    for seed in range(seeds):
        for name, (recipe, own) in rows.items():
            more = {"data.root": root, "data.cache": str(work / "cache"), "train.threads": 1, "train.seed": seed}
            found.append(trained(name, load_recipe(recipe).override({**own, **more, **changes}), work))
    about = {"what": __doc__, "command": "python -m bench time_to_accuracy", "machine": found[0]["machine"]}
    about["commits"] = list(dict.fromkeys(one["machine"]["commit"] for one in found))
    return about | table(found, sources)


def run(quick: bool) -> dict[str, Any]:
    """The small run."""
    with tempfile.TemporaryDirectory() as folder:
        counts = {"train": 4, "val": 2, "test": 4} if quick else {"train": 60, "val": 20, "test": 30}
        samples.make("av-digits", f"{folder}/digits", **counts, progress=False)
        changes = {"train.epochs": 1, "train.trackers": ()} if quick else {"train.trackers": ()}
        return measured(DIGITS, f"{folder}/digits", 1 if quick else 2, Path(folder), {}, changes)


def sources_of(file: Path) -> dict[str, str]:
    """The first recording of each clip, from a JSONL file with `video_id` and `audio_sources`."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["video_id"]: min(map(str, line["audio_sources"].values()), default="") for line in lines}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.time_to_accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("root", help="data set in AVE's layout")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("time-to-accuracy"), help="folder for runs and results")
    parser.add_argument("--sources", type=Path, help="JSONL with video_id and audio_sources")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="only these, and AV-PEA and LAVISH")
    parser.add_argument("--out", type=Path, help="file for the answer (default: time_to_accuracy.json in --work)")
    parser.add_argument("--plot", type=Path, help="picture of accuracy over seconds")
    options = parser.parse_args()
    chosen = {name: ROWS[name] for name in ROWS if name in {*options.rows, REFERENCE, AGAINST}}
    levels = sources_of(options.sources) if options.sources else {}
    answer = measured(chosen, options.root, options.seeds, options.work, levels, {"train.trackers": ()})
    rows = " ".join(f'"{name}"' if " " in name else name for name in chosen)
    sourced = f" --sources DIR/{options.sources.name}" if options.sources else ""
    answer["command"] = f"python -m bench.time_to_accuracy DIR --seeds {options.seeds} --rows {rows}{sourced}"
    write_json(options.out or options.work / "time_to_accuracy.json", answer, indent=1)
    if options.plot:
        draw(answer, options.plot)
    print(json.dumps(answer["rows"], indent=1))
