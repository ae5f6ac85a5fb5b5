"""Images a second and peak memory of inference, with ViT-B/16 and ViT-L/16."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from avpea import measure, registry
from avpea.compare.cost import random_batch
from avpea.experiment import Experiment
from avpea.model import build
from bench.gpu.speed import forget, of


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    for size in ("base",) if quick else ("base", "large"):
        for precision in ("bf16", "fp32"):
            for adapter in ("av_pea", "none"):
                forget()
                experiment = of(size, adapter, device, quick, **{"train.precision": precision})
                what = f"ViT-{size[0].upper()}/16 {adapter}, {precision}"
                try:
                    found = measured(experiment, device, 2 if quick else 7)
                    yield {"what": what, **found, "experiment": experiment.to_dict()}  # as in `bench.gpu.speed`
                except Exception as error:  # the others come next
                    yield {"what": what, "ok": False, "error": f"{type(error).__name__}: {error}"[:300]}


@torch.inference_mode()
def measured(experiment: Experiment, device: torch.device, times: int) -> dict[str, Any]:
    """The median of some passes over a batch, after two that warm up."""
    on_card = device.type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if on_card else lambda: None
    kind = registry.load("task", experiment.task.name)
    model, _ = build(experiment, kind.needs.typical()).to_train(experiment.train, device)
    model = model.eval().folded()  # as `avpea predict` has it
    batch = random_batch(experiment, model).to(device)
    seconds = []
    for number in range(times + 2):
        if number == 2:
            measure.forget_peak(on_card)
        began = time.perf_counter()
        model(batch.frames, batch.log_mel)
        wait()
        seconds.append(time.perf_counter() - began)
    images, median = 2 * len(batch) * batch.frames.shape[1], statistics.median(seconds[2:])
    return {
        "seconds": float(f"{median:.4g}"),
        "images_per_second": round(images / median, 1),
        "peak_mb": round(measure.resident_peak_mb(on_card)),
    }
