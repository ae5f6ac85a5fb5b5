"""Seconds of a training step, images a second, and peak memory, of ViT-B/16 and ViT-L/16 with random weights."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from avpea import measure
from avpea.compare.cost import TrainingStep
from avpea.experiment import Experiment, load_recipe

ADAPTERS = ("av_pea", "none", "full", "lavish", "lora")
RECIPES = {"base": "paper/avel-vit-b16", "large": "paper/avel-vit-l16"}
VIDEOS = 4  # of ten seconds: 40 frames and 40 sounds
SMALL = {"backbone.depth": 2, "backbone.image_size": 32, "data.segments": 2, "train.batch_size": 1}
WAYS: dict[str, dict[str, Any]] = {
    "compiled": {"train.compile": True},
    "checkpointed": {"train.checkpointing": True},
    "compiled and checkpointed": {"train.compile": True, "train.checkpointing": True},
    "TF32": {"train.precision": "fp32", "train.tf32": True},
}


def rows(device: torch.device, quick: bool, which: str) -> Iterator[dict[str, Any]]:
    """`base`, `large`: every adapter in bfloat16, for `base` in float32 too; `ways`: compiled and computed again."""
    steps = 2 if quick else 5
    if which == "ways":
        for way, options in WAYS.items():
            for adapter in ("av_pea",) if quick else ("av_pea", "full"):
                experiment = of("base", adapter, device, quick, **options)
                yield row(f"ViT-B/16 {adapter}, {experiment.train.precision}, {way}", experiment, steps)
        return
    # What is built for ViT-L takes longest by far.
    for precision in ("bf16", "fp32") if which == "base" else ("bf16",):
        for adapter in ADAPTERS:
            experiment = of(which, adapter, device, quick, **{"train.precision": precision})
            yield row(f"ViT-{which[0].upper()}/16 {adapter}, {precision}", experiment, steps)


def of(size: str, adapter: str, device: torch.device, quick: bool, **options: Any) -> Experiment:
    """The paper's recipe for AVE with another adapter."""
    chosen = {"adapter.streams": "none"} if adapter == "none" else {"adapter.name": adapter}
    plain = {"backbone.weights": "random", "train.device": str(device), "train.precision": "bf16"}
    recipe = load_recipe(RECIPES[size]).override({**plain, **chosen, "train.batch_size": VIDEOS, "train.accumulate": 1})
    return recipe.override({**(SMALL if quick else {}), **options})


def row(what: str, experiment: Experiment, steps: int) -> dict[str, Any]:
    """Measure an experiment; memory that is too small is a finding too."""
    reasons: list[str] = []
    forget()
    try:
        found = measured(lambda: TrainingStep(experiment, say=reasons.append), experiment.train.device, steps)
    except Exception as error:  # the others come next
        return {"what": what, "ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
    finally:
        forget()
    images = 2 * experiment.train.batch_size * experiment.data.segments
    found |= {"videos": experiment.train.batch_size, "images_per_second": round(images / found["step_seconds"], 1)}
    if experiment.train.compile:
        found["compiled"] = not reasons
        found |= {"why_not": reasons[0]} if reasons else {}
    return {"what": what, **found, "experiment": experiment.to_dict()}  # by which `avpea plan` finds its like


def measured(make: Callable[[], Callable[[], None]], device: str, steps: int) -> dict[str, Any]:
    """The first step's seconds, the median of later ones, and the peak memory of a later one."""
    on_card = torch.device(device).type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if on_card else lambda: None
    step = make()
    times = []
    for number in range(steps + 2):
        if number == 2:
            measure.forget_peak(on_card)
        began = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - began)
    return {
        "step_seconds": float(f"{statistics.median(times[2:]):.4g}"),
        "first_seconds": round(times[0], 2),
        "peak_mb": round(measure.resident_peak_mb(on_card)),
    }


def forget() -> None:
    """Free what the last model held, so that it counts for no other."""
    import torch._dynamo

    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
