"""The table of costs in docs/scale.md: python docs/costs.py [--reached TFLOPS]

Each figure is that of `avpea plan … --no-measure` for a number of samples and GPUs; `--reached` is what a measured plan
of this computer reports as `tflops`.
"""

import argparse
import dataclasses
from dataclasses import dataclass

import torch

from avpea.experiment import load_recipe
from avpea.plan import ASSUMED, Plan, plan
from avpea.plan import amounts as told


@dataclass(frozen=True)
class Row:
    """A data set: its recipe, its samples to train, to select and to test on, and its videos."""

    name: str
    recipe: str
    samples: tuple[int, ...]
    videos: int = 0
    changes: tuple[tuple[str, int], ...] = ()


ROWS = (
    Row("AVE", "paper/avel-vit-b16", (3339, 402, 402)),
    Row("MUSIC-AVQA", "paper/avqa-vit-b16", (31927, 4568, 9129), 9288),
    Row("VALOR-32K", "paper/avc-vit-b16", (25000, 3500, 3500)),
    Row("VGGSound", "paper/avel-vit-b16", (183730, 0, 15446)),
    Row("a million hours, once", "paper/avel-vit-b16", (360_000_000,), changes=(("train.epochs", 1),)),
)
GPUS = (1, 8, 64)
WORKERS = 8  # that decode, for each GPU


def planned(row: Row, gpus: int, reached: float) -> Plan:
    """The plan of a row on this computer (without GPUs) or on some GPUs."""
    recipe = load_recipe(row.recipe).override(dict(row.changes))
    if not gpus:
        peak = plan(recipe, samples=(8,), measure=False, device="cpu").tflops / ASSUMED.cpu_reached
        assumed = dataclasses.replace(ASSUMED, utilisation=reached / peak)
        return plan(recipe, samples=row.samples, videos=row.videos, measure=False, device="cpu", assumed=assumed)
    # As many videos on each GPU as the recipe has on one, from 8 GPUs on.
    batch = recipe.train.batch_size if gpus == 1 else gpus * max(8, recipe.train.batch_size // gpus)
    changes = {"train.devices": gpus, "train.batch_size": batch, "data.workers": WORKERS, "train.readers": 4}
    return plan(recipe.override(changes), samples=row.samples, videos=row.videos, measure=False, device="cuda")


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="python docs/costs.py")
    parser.add_argument("--reached", type=float, default=0.1, help="TFLOP/s of this computer in training")
    reached = parser.parse_args().reached
    print("| set | GPUs | decoding | training and selecting | memory of a GPU | cache | run |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in ROWS:
        for gpus in (0, *GPUS):
            found = planned(row, gpus, reached)
            needs = {need.part: need.amount for need in (*found.times, *found.memory, *found.disk)}
            training = found.seconds - needs["decode"]
            card = told.in_bytes(needs["memory of a GPU"]) if gpus else "–"
            cells = [row.name if not gpus else "", str(gpus or "this computer"), told.in_hours(needs["decode"])]
            cells += [told.in_hours(training), card, told.in_bytes(needs["sample cache"]), told.in_bytes(needs["run"])]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
