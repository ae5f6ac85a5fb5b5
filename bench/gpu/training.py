"""A tiny training on the device: the losses of the CPU, also compiled and computed again, and resumed after Ctrl-C.

Losses may differ by a hundredth, since Adam makes much of the rounding of small gradients; a resumed training ends, on
a CPU, in the same bits, and on a card, whose kernels add up in any order, in the same losses to a thousandth.
"""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from avpea import data
from avpea.checkpoint import load_model
from avpea.data.cache import SampleCache
from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.stopping import Stopped
from avpea.tensors import write_tensors
from avpea.train import TrainResult, _Training, train
from bench.gpu.models import PLAIN

HEADER = "Category&VideoID&Quality&StartTime&EndTime"
EPOCHS, SECONDS, SIDE = 4, 3, 64
LOSS, RESUMED = 1e-2, 1e-3


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="avpea-gpu-") as folder:
        base, runs = made(Path(folder)), Path(folder) / "runs"
        on_cpu = train(base, runs / "cpu", device="cpu", progress=False)
        plain = train(base, runs / "plain", device=str(device), progress=False)
        yield compared("losses as on the CPU", on_cpu, plain, LOSS)
        yield resumed(base, plain, runs / "resumed", str(device))
        yield elsewhere(plain, str(device))
        for name in ("checkpointing", "compile"):
            began = time.perf_counter()
            again = train(base.override({f"train.{name}": True}), runs / name, device=str(device), progress=False)
            row = compared(f"losses with train.{name}", plain, again, LOSS)
            row |= {"compiled": again.compiled} if name == "compile" else {}
            yield {**row, "seconds": round(time.perf_counter() - began, 1)}
        half = train(base.override({"train.precision": "bf16"}), runs / "half", device=str(device), progress=False)
        falls = half.epochs[-1]["train/loss"] < half.epochs[0]["train/loss"]
        yield {"what": "bf16 learns", "ok": falls, "losses": losses(half)[::2]}


def made(folder: Path) -> Experiment:
    """A data set whose samples are in the cache, as if they had been decoded: a colour and a tone for each class."""
    root, generator = folder / "data", torch.Generator().manual_seed(3)
    (root / "AVE").mkdir(parents=True)
    lines: dict[str, list[str]] = {}
    for split, count in {"train": 10, "val": 4, "test": 4}.items():
        lines[split] = [f"{('green', 'red')[i % 2]}&{split}{i}&good&{i % 2}&{2 + i % 2}" for i in range(count)]
        (root / f"{split}Set.txt").write_text("\n".join(lines[split]) + "\n", encoding="utf-8")
    every = [line for some in lines.values() for line in some]
    (root / "Annotations.txt").write_text("\n".join([HEADER, *every]) + "\n", encoding="utf-8")
    for line in every:
        (root / "AVE" / f"{line.split('&')[1]}.mp4").write_text(line, encoding="utf-8")
    train_options = {**PLAIN["train"], "epochs": EPOCHS, "threads": 1}
    data_options = {**PLAIN["data"], "root": str(root), "cache": str(folder / "cache"), "segments": SECONDS}
    experiment = Experiment.from_dict({**PLAIN, "data": data_options, "train": train_options})
    cache = SampleCache(experiment.data, experiment.audio, SIDE)
    for sample in data.read(experiment.data).samples:
        _, _, _, start, end = next(line for line in every if f"&{sample.video_id}&" in line).split("&")
        frames = torch.full((SECONDS, SIDE, SIDE, 3), 30, dtype=torch.uint8)
        mel = -8 + torch.randn(SECONDS, 98, 32, generator=generator)
        channel = 1 if "green" in next(line for line in every if f"&{sample.video_id}&" in line) else 0
        frames[int(start) : int(end), :, :, channel] = 220
        mel[int(start) : int(end), :, 8 * channel : 8 * channel + 8] += 6
        write_tensors(cache.path(sample), {"frames": frames, "log_mel": mel}, {"duration_seconds": str(SECONDS)})
    return experiment


def losses(done: TrainResult) -> list[float]:
    return [line[name] for line in done.epochs for name in ("train/loss", "val/loss")]


def compared(what: str, one: TrainResult, other: TrainResult, bound: float) -> dict[str, Any]:
    """The largest difference between the losses of two trainings, relative to them or to a tenth of the first."""
    least = 0.1 * losses(one)[0]  # once nearly nothing is left of a loss, its rounding is no difference
    apart = max(abs(a - b) / max(a, least) for a, b in zip(losses(one), losses(other), strict=True))
    return {"what": what, "ok": apart <= bound, "apart": float(f"{apart:.1e}"), "bound": bound}


def resumed(base: Experiment, whole: TrainResult, run: Path, device: str) -> dict[str, Any]:
    """Interrupt a training in the middle of an epoch, and go on."""
    training: Any = _Training
    step = training.step
    taken = [0]

    def interrupted(self: Any, *given: Any) -> float:
        taken[0] += 1
        if taken[0] == 8:  # in the second epoch of five steps
            os.kill(os.getpid(), signal.SIGINT)
        return float(step(self, *given))

    training.step = interrupted
    try:
        train(base, run, device=device, progress=False)
    except Stopped:
        pass
    else:
        return {"what": "resumes after Ctrl-C", "ok": False, "error": "it was not interrupted"}
    finally:
        training.step = step
    row = compared("resumes after Ctrl-C", whole, train(base, run, device=device, progress=False), RESUMED)
    ours, theirs = (load_model(one, device="cpu")[0].trained_state() for one in (run, whole.run))
    bits = all(torch.equal(ours[name], value) for name, value in theirs.items())
    return {**row, "ok": row["ok"] and (bits or device != "cpu"), "same_bits": bits}


def elsewhere(done: TrainResult, device: str) -> dict[str, Any]:
    """What was trained on the device is evaluated there and on the CPU."""
    found = [evaluate(done.run, device=place, progress=False).metrics for place in (device, "cpu")]
    metric = found[0]["metric"]
    same = abs(found[0][metric] - found[1][metric]) <= 1e-6
    return {"what": "evaluates as on the CPU", "ok": same, metric: [one[metric] for one in found]}
