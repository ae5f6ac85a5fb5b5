"""Exported models against the run itself: ONNX Runtime and OpenVINO in float32, OpenVINO in bfloat16, 8-bit weights.

    python -m bench export [--quick]
    python -m bench.export RECIPE ...      # these alone, printed

A window of ten seconds through encoder, adapters and head, one thread, in turns; eager is what `avpea predict` runs.
`over` is the time over that of eager float32. The 8-bit graph is ONNX Runtime's dynamic quantisation of all matrix
products; `agrees` is the share of seconds with the same decision as eager float32, on made-up windows of a model that
was never trained, where decisions are close: a hard case.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from avpea import measure, registry
from avpea.checkpoint import load_model, save_model
from avpea.device import choose_precision
from avpea.experiment import load_recipe
from avpea.export import export
from avpea.export._about import inputs_of
from avpea.exported import open_export
from avpea.exported._sessions import RUNTIMES, require_runtime
from avpea.model import build
from bench.eight_bit import quantised


def run(quick: bool) -> dict[str, Any]:
    return measured(_recipes(quick), 1 if quick else 8)


def measured(recipes: Sequence[str], rounds: int, batch: int = 1) -> dict[str, Any]:
    """A row for each recipe."""
    for runtime in RUNTIMES:
        require_runtime(runtime)  # before minutes of work
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="avpea-bench-"))
    try:
        rows = [_row(recipe, folder / recipe.replace("/", "-"), rounds, batch) for recipe in recipes]
    finally:
        shutil.rmtree(folder)
    return {"what": __doc__, "command": "python -m bench export", "machine": measure.machine(), "rows": rows}


def _recipes(quick: bool) -> tuple[str, ...]:
    return ("mini/avel-linear",) if quick else ("mini/avel-linear", "paper/avel-vit-b16")


def _row(recipe: str, folder: Path, rounds: int, batch: int) -> dict[str, Any]:
    experiment = load_recipe(recipe).override({"backbone.weights": "random"})
    labels = registry.load("task", experiment.task.name).needs.typical()
    torch.manual_seed(0)
    made = build(experiment, labels)
    for name, value in made.trained_state().items():
        if value.ndim == 0 and name.endswith("gate"):
            value.fill_(0.3)
    save_model(folder / "model.safetensors", made, experiment, labels, {"epoch": 1, "selected_on": "val"})
    reports = {to: export(folder, to) for to in ("onnx", "openvino")}
    models = _models(folder)
    frames, log_mel = inputs_of(experiment, models["eager fp32"].image_size, batch, experiment.data.segments)
    with torch.inference_mode():
        ways = {name: partial(model, frames, log_mel) for name, model in models.items()}
        times = measure.interleaved(ways, rounds)
        wanted = made.task.head.decide(models["eager fp32"](frames, log_mel))
        agrees = {
            name: round(float((made.task.head.decide(model(frames, log_mel)) == wanted).float().mean()), 3)
            for name, model in models.items()
        }
    return {
        "recipe": recipe,
        "seconds_in_a_batch": batch * experiment.data.segments,
        "difference": {to: report.difference for to, report in reports.items()},
        "megabytes": {to: round(report.megabytes, 1) for to, report in reports.items()},
        "ms": {name: round(1e3 * min(some), 1) for name, some in times.items()},
        "over": {name: measure.ratio(some, times["eager fp32"]) for name, some in times.items()},
        "agrees": agrees,
    }


def _models(folder: Path) -> dict[str, Any]:
    models: dict[str, Any] = {
        "eager fp32": load_model(folder, precision="fp32", device="cpu")[0].folded(),
        "onnx fp32": open_export(folder / "onnx", precision="fp32"),
        "openvino fp32": open_export(folder / "openvino", precision="fp32"),
        "onnx int8": quantised(folder / "onnx", folder / "int8.onnx"),
    }
    if choose_precision("auto", torch.device("cpu")) == "bf16":
        models["eager bf16"] = load_model(folder, precision="bf16", device="cpu")[0].folded()
        models["openvino bf16"] = open_export(folder / "openvino", precision="bf16")
    return models


if __name__ == "__main__":
    print(
        json.dumps(
            measured(sys.argv[1:], 8) | {"command": f"python -m bench.export {' '.join(sys.argv[1:])}"}, indent=1
        )
    )
