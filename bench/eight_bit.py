"""Accuracy of runs of event localisation with 8-bit weights, on the videos of their own test split.

    python -m bench.eight_bit RUN [RUN ...] [--split test]

Each run, such as one seed of a recipe, is exported to ONNX; ONNX Runtime's dynamic quantisation makes 8-bit integers of
the weights of all matrix products, one scale for each output channel, and of what enters them while they are computed.
`test` is the metric of the run itself, of the graph in float32 and of the graph in 8 bits; `agrees` the share of
seconds with the decision of the run; `difference` the mean over runs of 8 bits less float32, with its sample standard
deviation, beside `deviation`, that of the run itself over seeds.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from avpea import data, measure
from avpea.checkpoint import load_model
from avpea.evaluate import infer, prepare
from avpea.export import export
from avpea.exported import ExportedModel, open_export, open_session
from avpea.labels import Sample


def quantised(folder: Path, path: Path, per_channel: bool = False) -> ExportedModel:
    """An exported model whose matrix products have 8-bit weights, written to `path`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = open_export(folder)
    products = ["MatMul", "Gemm"]
    quantize_dynamic(
        folder / "model.onnx", path, weight_type=QuantType.QInt8, op_types_to_quantize=products, per_channel=per_channel
    )
    return ExportedModel(whole.about, "onnx", open_session(path, "onnx", whole.about.outputs, "fp32", 1))


def measured(run: Path, split: str) -> dict[str, Any]:
    """What one run reaches in each form."""
    model, info = load_model(run, precision="fp32", device="cpu")
    annotations = data.read(info.experiment.data)
    cache, usable, _ = prepare(info.experiment, annotations, [split], progress=False)
    samples = usable[split]
    metric = model.task.figure.metric
    own = infer(model, cache, samples)
    with tempfile.TemporaryDirectory(prefix="avpea-bench-") as name:
        folder = Path(name)
        report = export(run, "onnx", folder / "onnx")
        small = quantised(folder / "onnx", folder / "small.onnx", per_channel=True)
        forms = {"onnx fp32": open_export(folder / "onnx"), "onnx int8": small}
        answers = {form: _answers(one, cache, samples) for form, one in forms.items()}
        megabytes = {"onnx fp32": report.megabytes, "onnx int8": (folder / "small.onnx").stat().st_size / 1e6}
    return {
        "run": run.name,
        "test": {"run": own.metrics[metric]}
        | {form: model.task.evaluate(samples, some)[metric] for form, some in answers.items()},
        "agrees": {form: _alike(own.answers, some) for form, some in answers.items()},
        "megabytes": {form: round(size, 1) for form, size in megabytes.items()},
    }


def _answers(model: ExportedModel, cache: Any, samples: Sequence[Sample]) -> list[Any]:
    answers: list[Any] = []
    with torch.inference_mode():
        for start in range(0, len(samples), 2):
            batch = cache.batch(samples[start : start + 2])
            answers.extend(model.respond(batch.frames, batch.log_mel))
    return list(model.task.complete(samples, answers))


def _alike(some: Sequence[Any], others: Sequence[Any]) -> float:
    """The share of seconds with the same decision."""
    same = [one.decisions == other.decisions for one, other in zip(some, others, strict=True)]
    return round(float(torch.cat(same).float().mean()), 4)


def main(words: Sequence[str]) -> None:
    """Measure the runs that are named, and print what they reach."""
    parser = argparse.ArgumentParser(prog="python -m bench.eight_bit", description="Accuracy of runs in 8 bits.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs: seeds of one recipe")
    parser.add_argument("--split", default="test", help="the split to answer (default: test)")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = []
    for run in options.runs:
        rows.append(measured(run, options.split))
        print(json.dumps(rows[-1]), file=sys.stderr)
    lost = [row["test"]["onnx int8"] - row["test"]["run"] for row in rows]
    seeds = [row["test"]["run"] for row in rows]
    several = len(rows) > 1
    report = {
        "what": __doc__,
        "command": "python -m bench.eight_bit",
        "machine": measure.machine(),
        "rows": rows,
        "difference": [statistics.fmean(lost), statistics.stdev(lost) if several else None],
        "deviation": statistics.stdev(seeds) if several else None,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
