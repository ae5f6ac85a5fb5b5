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
    path: Path | None, experiment: Experiment, place: torch.device, assumed: Assumed
) -> tuple[Literal["figures", "counted"], Assumed, list[str]]:
    """Replace the assumed utilisation by what a check has reached with the recipe that is most like this one.

    The file's key `plan` is a list of steps, each with `experiment` (plain values), `half` (whether it was in
    bfloat16), `step_seconds` and `device` (name of the card).

    Args:
        path: The file; None for none.
        experiment: The experiment.
        place: Device that is planned for; a file is about GPUs.
        assumed: What is assumed without it.

    Returns:
        Where the rates are from now; what is assumed; and sentences about it.

    Raises:
        CheckpointError: The file cannot be read, or has no steps.
    """
    if path is None or place.type == "cpu":
        return "counted", assumed, []
    found = read_json(path)
    steps = found.get("plan") if isinstance(found, dict) else None
    if not isinstance(steps, list) or not steps:
        raise CheckpointError(f"{path} has no steps under 'plan', which `python -m bench gpu` writes; leave it out.")
    try:
        half = planned_half(experiment, place)
        best = max(steps, key=lambda one: _likeness(one, experiment, half))
        like = Experiment.from_dict(best["experiment"])
        work = counted(like, None, bool(best["half"])).train_flops * like.train.batch_size * like.train.accumulate
        reached = work / float(best["step_seconds"]) / 1e12
        share = reached / peak_tflops(place, bool(best["half"]), 0, assumed)
        name = str(best["device"])
    except (LookupError, TypeError, ValueError, ArithmeticError, AvpeaError) as error:
        raise CheckpointError(f"{path} has a step that cannot be read ({error}); write it anew.") from None
    said = (
        f"From {path}: {name} reached {reached:.3g} TFLOP/s with {like.backbone.name} and "
        f"{like.adapter.name if like.adapter else 'no adapter'}."
    )
    return "figures", dataclasses.replace(assumed, utilisation=share), [said]


def _likeness(step: Any, experiment: Experiment, half: bool) -> tuple[bool, bool, bool, float]:
    """How much a step is like an experiment's: precision first, then backbone, then adapter; then the bigger batch."""
    like = step["experiment"]
    adapter = experiment.adapter.name if experiment.adapter else None
    backbone = like.get("backbone", {}).get("name")
    own = (like.get("adapter") or {}).get("name")
    same = backbone == experiment.backbone.name
    return bool(step["half"]) == half, same, own == adapter, float(like.get("train", {}).get("batch_size", 0))
