"""A few steps of a recipe in a process of its own, timed: what `avpea plan` measures.

python -m avpea.plan.rehearse    (reads a job as JSON from stdin, and prints the rates as JSON)
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LEAST_SECONDS, _LEAST, _MOST = 4.0, 3, 20  # a thing is repeated this long, and this often
_LONG_SECONDS = 20.0
_CLIPS = 8
_BOX_MB = 100.0  # of the process that a worker decodes in


def rehearse(job: dict[str, Any]) -> dict[str, float]:
    """Measure the rates of an experiment.

    Args:
        job: `experiment` as plain values, `data` (whether its data set is there), `decode` (whether there are videos to
            decode), `folder` (to make, for what it writes) and `began` (when this process was started).
    """
    from avpea import data
    from avpea.device import choose_device, enough_memory
    from avpea.experiment import Experiment

    ready = time.monotonic() - job["began"]
    experiment = Experiment.from_dict(job["experiment"])
    folder = Path(job["folder"])
    folder.mkdir()
    experiment = experiment.override({"data.cache": str(folder)})
    annotations = data.read(experiment.data) if job["data"] else None
    found = _decoding(experiment, annotations) if job["decode"] else {}
    building = time.monotonic()
    with enough_memory(choose_device(experiment.train.device), "lower --train.batch_size"):
        found |= _training(experiment, annotations.labels if annotations else None, folder)
    found["start_seconds"] += ready - building
    return {"workers_seconds": ready, **found}


def _decoding(experiment: Any, annotations: Any) -> dict[str, float]:
    """Fill a cache with a few samples, and read them."""
    from avpea import backbones
    from avpea.data.cache import SampleCache
    from avpea.media.box import boxed
    from avpea.media.limits import DEFAULT

    side = experiment.backbone.image_size or backbones.shape_only(experiment.backbone).image_size
    cache = SampleCache(experiment.override({"data.workers": 0}).data, experiment.audio, side)
    there = [sample for sample in annotations.splits["train"] if sample.video.is_file()]
    chosen = there[:: max(1, len(there) // (_CLIPS + 1))][: _CLIPS + 1]
    with boxed(DEFAULT):
        cache.fill(chosen[:1], progress=False)
        decoding = time.monotonic()
        ready = cache.fill(chosen, progress=False).ready
        decoding = (time.monotonic() - decoding) / max(1, len(ready) - 1)
    reading = time.monotonic()
    for sample in ready:
        cache.read(sample)
    reading = (time.monotonic() - reading) / max(1, len(ready))
    entries = [path.stat().st_size for path in cache.folder.rglob("*.safetensors")]
    from avpea.measure import resident_peak_mb

    return {
        "decode_seconds": decoding,
        "read_seconds": reading,
        "sample_bytes": sum(entries) / max(1, len(entries)),
        "worker_mb": resident_peak_mb() * 1.048576 + _BOX_MB,
    }


def _training(experiment: Any, labels: Any, folder: Path) -> dict[str, float]:
    """Take steps, answer, and save."""
    import torch

    from avpea import checkpoint
    from avpea.compare.cost import TrainingStep, entered, random_batch
    from avpea.measure import resident_peak_mb
    from avpea.tensors import write_tensors

    config = experiment.train
    if config.threads:
        torch.set_num_threads(config.threads)
    step = TrainingStep(experiment, labels)
    model, on_card = step.model, step.model.device.type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if on_card else lambda: None
    found = {"start_seconds": time.monotonic(), "step_seconds": _mean(step, wait)}
    if model.encoder.kept is not None:
        alone = random_batch(experiment.override({"train.batch_size": 1, "train.segments": 0}), model).to(model.device)

        def keep() -> None:
            tokens = enumerate(tokens for streams in entered(model, alone) for tokens in streams)
            write_tensors(folder / "tokens", {str(number): one.cpu().contiguous() for number, one in tokens}, {})

        found["frozen_seconds"] = _mean(keep, wait)
        found["frozen_bytes"] = float(sum(one.nbytes for streams in entered(model, alone) for one in streams))
    found["answer_seconds"] = _mean(_answering(experiment, model), wait) / config.batch_size
    if on_card:
        found["device_mb"] = torch.cuda.max_memory_reserved() / 1e6
    found["host_mb"] = resident_peak_mb() * 1.048576
    saving = time.monotonic()
    checkpoint.save_state(folder / "state", model, step.optimizer, {})
    found["state_bytes"] = float((folder / "state").stat().st_size)
    write_tensors(folder / "model", model.trained_state(), {})
    found["model_bytes"] = float((folder / "model").stat().st_size)
    found["save_seconds"] = time.monotonic() - saving
    return found


def _answering(experiment: Any, model: Any) -> Callable[[], None]:
    """What evaluation does with a batch."""
    import torch

    from avpea.compare.cost import entered, random_batch

    batch = random_batch(experiment.override({"train.segments": 0}), model).to(model.device)
    targets = model.task.targets(batch.samples).to(model.device)
    tokens = entered(model, batch) if model.encoder.kept is not None else None

    @torch.no_grad()
    def answer() -> None:
        model.eval()
        if tokens is None:
            encoded = model.encode(batch.frames, batch.log_mel)
        else:
            encoded = model.resume(tokens, batch.frames.shape[1], batch.frames.shape[2])
        output = model.task(encoded, targets)
        model.task.validation_loss(output, targets)
        model.task.respond(encoded, targets, output)

    return answer


def _mean(action: Callable[[], object], wait: Callable[[], None]) -> float:
    """Mean seconds of an action after the first one, which is slower; of the first one alone if that takes long."""
    first = time.monotonic()
    action()
    wait()
    if (alone := time.monotonic() - first) > _LONG_SECONDS:
        return alone
    began, count = time.monotonic(), 0
    while count < _LEAST or (time.monotonic() - began < _LEAST_SECONDS and count < _MOST):
        action()
        count += 1
    wait()
    return (time.monotonic() - began) / count


if __name__ == "__main__":
    from avpea.errors import AvpeaError

    try:
        print(json.dumps(rehearse(json.loads(sys.stdin.read()))))
    except AvpeaError as error:
        print(json.dumps({"error": str(error)}))
