"""What a GPU check has measured (`python -m bench gpu`), as the share of the peak that training reaches."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import torch

from avpea.errors import AvpeaError, CheckpointError
from avpea.experiment import Experiment
from avpea.parsing import read_json
from avpea.plan._assumed import Assumed
from avpea.plan._counted import counted, peak_tflops, planned_half

__all__ = ["learned"]


def learned(
    path: Path | None, experiment: Experiment, place: torch.device, samples: int, assumed: Assumed
) -> tuple[Literal["figures", "counted"], Assumed, list[str]]:
    """Replace the assumed utilisation by what a check has reached with the recipe that is most like this one.

    These are the rows of the parts `speed-…` (`parts.speed-base.rows`) that have an `experiment` (its plain values) and
    `step_seconds`; `machine.card` is the name of the card.

    Args:
        path: The file; None for none.
        experiment: The experiment.
        place: Device that is planned for; a file is about GPUs.
        samples: Number of samples of a batch that one process computes.
        assumed: What is assumed without it.

    Returns:
        Where the rates are from now; what is assumed; and sentences about it.

    Raises:
        CheckpointError: The file cannot be read, or has no steps.
    """
    if path is None or place.type == "cpu":
        return "counted", assumed, []
    found = read_json(path)
    try:
        rows = [one for name, part in found["parts"].items() if name.startswith("speed") for one in part["rows"]]
        steps = [one for one in rows if {"experiment", "step_seconds"} <= one.keys()]
        half = planned_half(experiment, place)
        best = max(steps, key=lambda one: _likeness(one["experiment"], experiment, half))
        like = Experiment.from_dict(best["experiment"])
        own = planned_half(like, place)
        work = counted(like, None, own).train_flops * like.train.batch_size * like.train.accumulate
        reached = work / float(best["step_seconds"]) / 1e12
        share = reached / peak_tflops(place, own, 0, assumed)
        name = str(found["machine"]["card"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AvpeaError) as error:
        raise CheckpointError(
            f"{path} has no step of a GPU that can be read ({type(error).__name__}: {error}); `python -m bench gpu` "
            "writes it anew."
        ) from None
    measured = like.train.batch_size
    notes = [
        f"From {path}: {name} reached {reached:.3g} TFLOP/s ({share:.0%} of its peak) with {like.backbone.name} and "
        f"{like.adapter.name if like.adapter else 'no adapter'}, {measured} videos at a time."
    ]
    if samples < measured:
        notes.append(
            f"Here a process computes {samples} at a time, of which a card reaches less, so that training may take up "
            f"to {measured / samples:.3g} times as long."
        )
    return "figures", dataclasses.replace(assumed, utilisation=share), notes


def _likeness(like: Any, experiment: Experiment, half: bool) -> tuple[bool | float, ...]:
    """How much a recipe's plain values are like an experiment: precision first, then ways to compute, then the rest."""
    own = experiment.to_dict()
    bf16 = like["train"].get("precision") == "bf16"
    ways = [like["train"].get(name) == own["train"][name] for name in ("checkpointing", "compile")]
    names = [(like.get(part) or {}).get("name") == (own[part] or {}).get("name") for part in ("backbone", "adapter")]
    return bf16 == half, *ways, *names, float(like["train"].get("batch_size", 0))
