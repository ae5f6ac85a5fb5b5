"""What adapters cost: training step and inference over the frozen ViT's own, on the same tokens in the same run.

    python -m bench adapters [--quick]
    python -m bench.adapters MODEL LAYOUT TYPE        # one row, on a machine where others are measured elsewhere

Training step: forward and backward with adapters on both streams, over forward and backward through the
activations of the frozen blocks without any. Inference: forward over forward, with the adapters as they are trained
and folded, which is what predictions are made with. Memory: growth of the peak resident memory in a process of its
own, over the frozen one's. In bfloat16 where the processor has instructions for it: emulated, it is far slower.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import torch

from avpea import backbones, measure
from avpea.device import choose_precision
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.experiment import parse_section
from avpea.model import fold

MODELS = {"ViT-S/16": "vit_small_patch16_224.augreg_in21k", "ViT-B/16": "vit_base_patch16_224.augreg_in21k"}
LAYOUTS = {"image 224x224": (224, 224), "native 102x128": (102, 128)}
COLUMNS = {"adapted inference": "inference", "folded inference": "folded_inference", "adapted step": "step"}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def actions(model: str, layout: str, kind: str, images: int) -> dict[str, Callable[[], object]]:
    """Frozen and adapted, training and inference, over the same pixels."""
    torch.manual_seed(0)
    backbone = backbones.build(parse_section("backbone", name=MODELS[model], weights="random")).to(TYPES[kind])
    frames = torch.randn(images, 3, 224, 224).to(TYPES[kind])
    sounds = torch.randn(images, 3, *LAYOUTS[layout]).to(TYPES[kind])
    encoder = DualStreamEncoder(backbone, parse_section("adapter"))
    folded = fold(encoder.eval())

    def frozen() -> list[torch.Tensor]:
        answers = []
        for pixels in (frames, sounds):
            x = backbone.embed(pixels).requires_grad_(torch.is_grad_enabled())
            for block in backbone.blocks_for(*pixels.shape[-2:]):
                x = x + block.attend(x)
                x = x + block.feed(x)
            answers.append(backbone.norm(x))
        return answers

    def backward(tokens: Any) -> None:
        sum(t.float().sum() for t in tokens).backward()

    def infer(forward: Callable[[], Any]) -> None:
        encoder.eval()
        with torch.no_grad():
            forward()

    def step(forward: Callable[[], Any]) -> None:
        encoder.train()
        backward(forward())

    adapted = lambda: encoder(frames, sounds)  # noqa: E731
    return {
        "frozen inference": lambda: infer(frozen),
        "adapted inference": lambda: infer(adapted),
        "folded inference": lambda: infer(lambda: folded(frames, sounds)),
        "frozen step": lambda: step(frozen),
        "adapted step": lambda: step(adapted),
    }


def measured(model: str, layout: str, kind: str, quick: bool) -> dict[str, Any]:
    """A row: ratios to the frozen blocks, and peaks of memory."""
    images = 2 if quick else (10 if model == "ViT-S/16" else 5)
    doing = actions(model, layout, kind, images)
    times = measure.interleaved(doing, 1 if quick else 9)
    row: dict[str, Any] = {"model": model, "layout": layout, "type": kind, "images_per_stream": images}
    for name, column in COLUMNS.items():
        frozen = f"frozen {name.split()[1]}"
        row[column] = measure.ratio(times[name], times[frozen])
        row[f"{frozen.replace(' ', '_')}_ms"] = round(1e3 * min(times[frozen]))
    if not quick:
        words = (model, layout, kind, str(images))
        row["peak_mb"] = {what: round(measure.peak_mb("bench.adapters", what, *words)) for what in doing}
    print(row, file=sys.stderr, flush=True)
    return row


def run(quick: bool) -> dict[str, Any]:
    kinds = TYPES if choose_precision("auto", torch.device("cpu")) == "bf16" else ("float32",)
    rows = [measured(model, layout, kind, quick) for model in MODELS for layout in LAYOUTS for kind in kinds]
    return {"what": __doc__, "command": "python -m bench adapters", "machine": measure.machine(), "rows": rows}


def peak(what: str, model: str, layout: str, kind: str, images: str) -> float:
    """Growth of this process's peak memory by an action."""
    action = actions(model, layout, kind, int(images))[what]
    measure.forget_peak()
    before = measure.resident_peak_mb()
    action()
    return measure.resident_peak_mb() - before


if __name__ == "__main__":
    chosen = sys.argv[1:]
    if len(chosen) == 3:
        model, layout, kind = chosen
        print(json.dumps({"machine": measure.machine(), "row": measured(model, layout, kind, False)}, indent=1))
    else:
        print(peak(*chosen))
