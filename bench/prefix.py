"""What an epoch takes with adapters in the last k blocks, whose inputs are kept, over one with adapters in all blocks.

    python -m bench prefix [--quick]

Clips of av-digits, read as training reads them; forward, backward and optimiser step, in turns in one process. `share`
is k of all blocks; what the head, the optimiser and reading take does not become less with it.
"""

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from avpea import data, measure
from avpea.activations import kept_activations
from avpea.data import samples
from avpea.evaluate import prepare
from avpea.experiment import Experiment, load_recipe
from avpea.feeding import Feed, Place
from avpea.model import build
from avpea.optimizer import make_optimizer
from avpea.train import epoch_batches

LAST = (1, 2, 4, 8)


def epoch(experiment: Experiment) -> tuple[Callable[[], None], float, int]:
    """A function that trains for an epoch, the bytes that are kept of a clip, and the number of blocks."""
    annotations = data.read(experiment.data)
    torch.manual_seed(0)
    model, _ = build(experiment, annotations.labels).to_train(experiment.train, torch.device("cpu"))
    cache, usable, _ = prepare(experiment, annotations, ["train"], progress=False)
    some, optimizer = usable["train"], make_optimizer(model, experiment.train)
    kept = kept_activations(model, cache)
    if kept is not None:
        kept.fill(some, progress=False)
    feed = Feed(experiment, cache, kept, model.task, some)
    batches = epoch_batches(len(some), experiment.train, 0)
    places = [Place(0, number, tuple(some[i] for i in batch)) for number, batch in enumerate(batches)]

    def run() -> None:
        model.train()
        with feed.ahead(places) as ahead:
            for inputs in ahead:
                if inputs.entered is not None and kept is not None:
                    output = model.task(kept.resumed(inputs.entered, inputs.segments), inputs.targets)
                else:
                    assert inputs.batch is not None
                    output = model(inputs.batch.frames, inputs.batch.log_mel, inputs.targets)
                loss, _terms = model.task.loss(output, inputs.targets)
                torch.autograd.backward(loss)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

    size = 0.0 if kept is None else sum(one.nbytes for each in kept.read(some[0]) for one in each)
    depth: Any = model.encoder.backbone.depth
    return run, float(size), depth


def run(quick: bool) -> dict[str, Any]:
    rows = []
    torch.set_num_threads(1)
    with ExitStack() as ended:
        folder = ended.enter_context(tempfile.TemporaryDirectory())
        samples.make("av-digits", f"{folder}/digits", train=4 if quick else 8, val=2, test=2, progress=False)
        base = load_recipe("mini/av-digits").override(
            {"data.root": f"{folder}/digits", "data.cache": f"{folder}/cache", "train.threads": 1}
        )
        merging = {"encoder.merge_visual": 2, "encoder.merge_audio": 2}
        for name, more in (("kept", {}), ("kept and merged", merging)):
            doing, sizes, depth = {}, {}, 0
            doing["full"], _, depth = epoch(base)
            for last in LAST[:1] if quick else LAST:
                changes = {"encoder.keep_frozen": True, "adapter.blocks": tuple(range(-last, 0)), **more}
                doing[str(last)], sizes[last], _ = epoch(base.override(changes))
            times = measure.interleaved(doing, 1 if quick else 5)
            for last, size in sizes.items():
                over = measure.ratio(times[str(last)], times["full"])
                row = {"what": name, "last": last, "share": round(last / depth, 3), "epoch": over}
                row |= {"over_share": round(over["median"] * depth / last, 3), "kept_kb_per_clip": round(size / 1e3)}
                rows.append(row | {"full_epoch_ms": round(1e3 * min(times["full"]))})
                print(rows[-1], file=sys.stderr, flush=True)
    return {"what": __doc__, "command": "python -m bench prefix", "machine": measure.machine(), "rows": rows}
