"""How well the recipe `own` does on small sets, beside a constant and the frozen linear probe.

python -m bench.own_videos AVE_LAYOUT CLIPS [--work FOLDER] [--only SET ...] [--report]

The sets: 5, 10 and 20 training clips of each class of a data set in AVE's layout (three draws, one a seed; its whole
test split), and natural clips (a folder with `natural.csv`) in three folds, so that each clip is tested once a seed.
Manifests, runs and caches go to the folder `--work`; a run that is there is not run again. What a run reached goes to
`results/own/SET/ROW-SEED.json`, with each clip's score, and the table to `results/own/table.md`.
"""

import argparse
import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avpea import load_recipe
from avpea.compare.statistics import mean_and_std, paired_bootstrap
from avpea.evaluate import evaluate
from avpea.files import write_json, write_text
from avpea.train import train

OUT = Path(__file__).parents[1] / "results" / "own"
SEEDS = (0, 1, 2)
FOLDS = 3
# Training and validation clips of each class.
SIZES = {"5 a class": (5, 2), "10 a class": (10, 2), "20 a class": (20, 4)}
NATURAL = "natural"
# The labels of natural.csv, put together to classes of at least four clips; a clip belongs to the first that fits.
GROUPS = {
    "drums": ("drum kit", "bass drum", "drumming", "congas", "tabla"),
    "guitar": ("guitar", "ukulele"),
    "bowed or plucked strings": ("erhu", "cello", "double bass", "harp"),
    "stick hits": ("with a drumstick",),
    "dog": ("dog ",),
    "vehicle": ("vehicle", "buses", "race car", "train passing", "police car", "engine knocking"),
    "bang": ("fireworks", "gun", "thunder"),
    "water": ("waves", "waterfall", "underwater", "toilet", "stream", "scuba"),
    "blow": ("chopping", "hammer"),
    "voice": ("singing choir", "male singing", "female speech", "cheering"),
}
ALONE = ("playing piano", "synthesizer", "hammond organ")  # fewer than four clips of keyboards
# The probe gets more epochs, the best and the last of them, and the better of both on test.
PROBE = {
    "encoder.keep_frozen": True,
    "train.epochs": 60,
    "train.batch_size": 16,
    "train.clip_norm": 0,
    "train.learning_rate": 1e-3,
}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "own": ("own", {}),
    "linear probe, best epoch": ("mini/avel-linear-probe", PROBE),
    "linear probe, last epoch": ("mini/avel-linear-probe", {**PROBE, "train.keep": "last"}),
}
Row = tuple[Path, float, float, str, str]  # video, start, end, label, split


def drawn(root: Path, train: int, val: int, seed: int) -> Iterator[Row]:
    """Clips of each class of a data set in AVE's layout, drawn at random; all of its test split."""
    for split, count in (("train", train), ("val", val), ("test", 0)):
        of_class = defaultdict(list)
        for line in (root / f"{split}Set.txt").read_text(encoding="utf-8").splitlines():
            label, video, _, start, end = line.split("&")
            of_class[label].append((root / "AVE" / f"{video}.mp4", float(start), float(end), label, split))
        generator = random.Random(f"{train}/{seed}/{split}")
        for _, clips in sorted(of_class.items()):
            yield from generator.sample(clips, count) if count else clips


def folded(root: Path, fold: int, seed: int) -> Iterator[Row]:
    """The natural clips: a third of each class to test, one other to val, the rest to train."""
    of_class = defaultdict(list)
    for row in csv.DictReader((root / "natural.csv").open(encoding="utf-8")):
        label = row["label"].lower()
        fitting = [name for name, words in GROUPS.items() if any(word in label for word in words)]
        if fitting and not label.startswith(ALONE):
            start, end = (row["start"], row["end"]) if row["start"] else (0, row["duration"])
            of_class[fitting[0]].append((root / row["file"], float(start), float(end), fitting[0]))
    for number, (_, clips) in enumerate(sorted(of_class.items())):
        random.Random(seed).shuffle(clips)
        tested = [clip for i, clip in enumerate(clips) if (i + number) % FOLDS == fold]
        rest = [clip for clip in clips if clip not in tested]
        for split, some in (("test", tested), ("val", rest[:1]), ("train", rest[1:])):
            yield from ((*clip, split) for clip in some)


def manifest(path: Path, rows: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("video", "start_seconds", "end_seconds", "label", "split"))
        writer.writerows((video.resolve(), *rest) for video, *rest in rows)
    return path


def parts(name: str, seed: int, data: argparse.Namespace) -> list[Path]:
    """The manifests of a set for a seed: one, or one a fold."""
    if name == NATURAL:
        return [
            manifest(data.work / f"{name}-{seed}-{fold}.csv", folded(data.clips, fold, seed)) for fold in range(FOLDS)
        ]
    return [manifest(data.work / f"{name.split()[0]}-{seed}.csv", drawn(data.ave, *SIZES[name], seed))]


def measured(name: str, row: str, seed: int, data: argparse.Namespace) -> dict[str, Any]:
    """What a row reaches on a set with a seed; trained if it was not."""
    recipe, changes = ROWS[row]
    found: dict[str, Any] = {"set": name, "row": row, "recipe": recipe, "changes": changes, "seed": seed, "parts": []}
    for part in parts(name, seed, data):
        where = {"data.name": "own", "data.root": str(part), "data.cache": str(data.work / "cache")}
        more = {"train.seed": seed, "train.threads": 1, "data.workers": 0}
        run = data.work / "runs" / f"{part.stem}-{row.replace(' ', '-').replace(',', '')}"
        result = train(load_recipe(recipe).override({**where, **more, **changes}), run, progress=False)
        test = evaluate(run, "test", progress=False)
        shares = {
            sample.video.name: correct / asked
            for sample, (correct, asked) in zip(test.samples, test.scores, strict=True)
        }
        found["parts"].append(
            {
                "accuracy": test.metrics["segment_accuracy"],
                "references": test.metrics["references"],
                "best_epoch": result.best["epoch"],
                "epochs": len(result.epochs),
                "seconds": result.epochs[-1]["seconds"],
                "training_clips": sum(line.endswith(",train") for line in part.read_text().splitlines()),
                "shares": shares,
                "environment": json.loads((run / "environment.json").read_text())[0],
            }
        )
    return found


def by_clip(results: list[dict[str, Any]]) -> tuple[np.ndarray, list[str]]:
    """Share of correct seconds of each test clip, one line a seed, and the clips' names."""
    lines = [{k: v for part in result["parts"] for k, v in part["shares"].items()} for result in results]
    names = sorted(lines[0])
    return np.array([[line[name] for name in names] for line in lines]), names


def constant(results: list[dict[str, Any]]) -> float:
    """Accuracy of the better of the two constants, mean over seeds, and over test clips where there are folds."""
    return float(
        np.mean([np.average([max(part["references"].values()) for part in one["parts"]],
                            weights=[len(part["shares"]) for part in one["parts"]]) for one in results])
    )  # fmt: skip


def table(out: Path) -> str:
    """Accuracy of each row on each set, and the difference to `own` with a 95 % interval."""
    lines = [
        "| set | training clips | best constant | " + " | ".join(ROWS) + " | own less probe [95 %] | own's epochs |",
        "| --- | ---: | ---: |" + " ---: |" * (len(ROWS) + 2),
    ]
    for name in [*SIZES, NATURAL]:
        found = {row: stored(out, name, row) for row in ROWS}
        if not all(found.values()):
            continue
        shares = {row: by_clip(results)[0] for row, results in found.items()}
        figures = {row: mean_and_std([100 * float(line.mean()) for line in some]) for row, some in shares.items()}
        probe = max((row for row in ROWS if row != "own"), key=lambda row: figures[row][0])
        low, high = paired_bootstrap(shares["own"], shares[probe])
        clips = sorted({part["training_clips"] for one in found["own"] for part in one["parts"]})
        epochs = [part["epochs"] for one in found["own"] for part in one["parts"]]
        cells = [
            name,
            "-".join(map(str, dict.fromkeys((clips[0], clips[-1])))),
            f"{100 * constant(found['own']):.1f}",
            *(f"{mean:.1f} ± {std:.1f}" for mean, std in figures.values()),
            f"{figures['own'][0] - figures[probe][0]:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
            f"{min(epochs)}-{max(epochs)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def stored(out: Path, name: str, row: str) -> list[dict[str, Any]]:
    """The results of a row on a set, if there is one for each seed."""
    paths = [place(out, name, row, seed) for seed in SEEDS]
    return [json.loads(path.read_text()) for path in paths] if all(path.is_file() for path in paths) else []


def place(out: Path, name: str, row: str, seed: int) -> Path:
    return out / name.replace(" ", "-") / f"{row.replace(' ', '-').replace(',', '')}-{seed}.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.own_videos", description=__doc__)
    parser.add_argument("ave", type=Path, help="folder of a data set in AVE's layout")
    parser.add_argument("clips", type=Path, help="folder of natural.csv")
    parser.add_argument("--work", type=Path, default=Path("own-videos"), help="folder of manifests, runs and caches")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", nargs="+", choices=[*SIZES, NATURAL], default=[NATURAL, *SIZES])
    parser.add_argument("--report", action="store_true", help="run nothing, print the table of what is stored")
    data = parser.parse_args()
    for row in () if data.report else ROWS:
        for seed in SEEDS:
            for name in data.only:
                path = place(data.out, name, row, seed)
                if not path.is_file():
                    write_json(path, measured(name, row, seed, data), indent=1)
                    print(path, flush=True)
    write_text(data.out / "table.md", table(data.out))
    print(table(data.out))


if __name__ == "__main__":
    main()
