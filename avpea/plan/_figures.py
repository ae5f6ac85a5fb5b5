"""What a GPU check has measured (`python -m bench gpu`), as the share of the peak that a card reaches."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from avpea.errors import AvpeaError, CheckpointError
from avpea.experiment import Experiment
from avpea.parsing import read_json
from avpea.plan._assumed import Assumed
from avpea.plan._counted import counted, peak_tflops, planned_half

__all__ = ["learned"]

_NAMES = (("backbone", "name"), ("adapter", "streams"), ("adapter", "name"))
_MOST_PEAKS = 10  # times the peak that is assumed, which later cards exceed


@dataclass(frozen=True)
class _Reached:
    """What a card has reached with the recipe that is most like the one to plan.

    Attributes:
        like: That recipe.
        tflops: Operations in 10^12 a second.
        share: The same as a share of the peak.
    """

    like: Experiment
    tflops: float
    share: float

    def __str__(self) -> str:
        adapter = self.like.adapter
        name = adapter.name if adapter and adapter.streams != "none" else "no adapter"
        return (
            f"{self.tflops:.3g} TFLOP/s ({self.share:.0%} of its peak) with {self.like.backbone.name} and {name}, "
            f"{self.like.train.batch_size} videos at a time"
        )


def learned(
    path: str | Path | None, experiment: Experiment, place: torch.device, samples: int, assumed: Assumed
) -> tuple[Literal["figures", "counted"], Assumed, list[str]]:
    """Replace the assumed utilisation by what a check has reached with the recipe that is most like this one.

    These are rows with an `experiment` (its plain values): in the parts `speed-…` (`parts.speed-base.rows`) those with
    `step_seconds`, for training; in the part `inference` those with `seconds`, for answering. In older
    files the latter have no `experiment`: it is that of the row of the same `what` for training. `machine.card` is the
    name of the card.

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
    path = Path(path)
    found = read_json(path)
    try:
        card = str(found["machine"]["card"])
        steps = [one for one in _rows(found, "speed") if {"experiment", "step_seconds"} <= one.keys()]
        known = {one.get("what"): one["experiment"] for one in steps}
        passes = [{"experiment": known.get(one.get("what")), **one} for one in _rows(found, "inference")]
        passes = [one for one in passes if one["experiment"] and "seconds" in one]
        training = _reached(steps, experiment, place, assumed, "step_seconds")
        answering = _reached(passes, experiment, place, assumed, "seconds") if passes else None
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be used: {error}; `python -m bench gpu` writes it anew.") from None
    except AvpeaError as error:
        raise CheckpointError(f"A recipe in {path} cannot be read: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise CheckpointError(
            f"{path} has no training step that was measured on a GPU; expected the file that `python -m bench gpu` "
            "writes on one."
        ) from None
    notes = [f"From {path}: in training, {card} reached {training}."]
    if answering is None:
        notes.append(f"{path} has no speed of answering, so answering is planned at the speed of training.")
    else:
        notes.append(f"From {path}: in answering, {card} reached {answering}.")
    measured = training.like.train.batch_size
    if samples < measured:
        notes.append(
            f"The check trained with {measured} videos at a time, and here a process has {samples}. A card is slower "
            f"with fewer: training can take up to {measured / samples:.3g} times as long as planned."
        )
    # As shares of the peak that is planned with, which is another one if the check has no row of this precision.
    peak = peak_tflops(place, planned_half(experiment, place), experiment.train, assumed)
    shares = {"utilisation": training.tflops / peak, "answering": answering.tflops / peak if answering else 0.0}
    return "figures", dataclasses.replace(assumed, **shares), notes


def _rows(found: Any, part: str) -> list[Any]:
    return [one for name, its in found["parts"].items() if name.startswith(part) for one in its["rows"]]


def _reached(
    rows: Sequence[Mapping[str, Any]], experiment: Experiment, place: torch.device, assumed: Assumed, seconds: str
) -> _Reached:
    """What the row reached that is most like an experiment; `seconds` names the time in it."""
    half = planned_half(experiment, place)
    best = max(rows, key=lambda one: _likeness(one["experiment"], experiment, half))
    like = Experiment.from_dict(best["experiment"])
    own = planned_half(like, place)
    counts, videos = counted(like, None, own), like.train.batch_size
    work = videos * (like.train.accumulate * counts.train_flops if seconds == "step_seconds" else counts.answer_flops)
    tflops = work / float(best[seconds]) / 1e12
    share = tflops / peak_tflops(place, own, like.train, assumed)
    if not 0 < share < _MOST_PEAKS:
        raise CheckpointError(f"it says that {seconds} is {best[seconds]!r:.40}, which no card reaches")
    return _Reached(like, tflops, share)


def _likeness(like: Any, experiment: Experiment, half: bool) -> tuple[bool | float, ...]:
    """How much a recipe's plain values are like an experiment: precision first, then ways to compute, then the rest."""
    own = experiment.to_dict()
    bf16 = like["train"].get("precision") == "bf16"
    ways = [like["train"].get(name) == own["train"][name] for name in ("tf32", "checkpointing", "compile")]
    names = [(like.get(part) or {}).get(name) == (own[part] or {}).get(name) for part, name in _NAMES]
    return bf16 == half, *ways, *names, float(like["train"].get("batch_size", 0))
