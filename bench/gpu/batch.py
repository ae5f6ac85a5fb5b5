"""The largest batch that fits cards of 16, 24 and 80 GB, training ViT-B/16 in bfloat16.

Peak memory grows by the same amount with each video; two batches give that amount, and so a guess for each card. On a
card with as much memory the guess is then tried, with torch allowed no more than the smaller card has, and moved until
it fits and a larger one does not.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from avpea.compare.cost import TrainingStep
from bench.gpu.speed import forget, measured, of

CARDS_GB = (16, 24, 80)
BESIDE_MB = 700  # the driver's own, and what the allocator cannot use
MODELS = {"av_pea": {}, "av_pea, checkpointed": {"train.checkpointing": True}, "lavish": {}, "full": {}}


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    for name, options in list(MODELS.items())[: 1 if quick else None]:
        forget()
        step = TrainingStep(of("base", name.partition(",")[0], device, quick, **options))
        few, more = (peak_mb(step, videos) for videos in (2, 6))
        each = max((more - few) / 4, 1e-3)
        for card in CARDS_GB:
            limit = card * 1e9 / 2**20 - BESIDE_MB
            guess = int(max(0.0, 2 + (limit - few) / each))
            row = {"what": f"ViT-B/16 {name}, bf16, {card} GB", "guess_videos": guess, "mb_per_video": round(each, 1)}
            yield row | (tried(step, limit, guess) if device.type == "cuda" else {"videos": None})
        del step


def peak_mb(step: TrainingStep, videos: int) -> float:
    """Peak memory of a step with a batch of so many videos."""
    forget()
    step.draw(videos)
    return float(measured(lambda: step, step.config.device, 1)["peak_mb"])


def tried(step: TrainingStep, limit_mb: float, guess: int) -> dict[str, Any]:
    """The largest batch under a limit; on a card that has as much."""
    device = step.model.device
    number = torch.cuda.current_device() if device.index is None else device.index  # torch wants one here
    whole = torch.cuda.get_device_properties(number).total_memory / 2**20
    share = min(limit_mb / whole, 0.98)

    def fits(videos: int) -> bool:
        torch.cuda.set_per_process_memory_fraction(share, number)
        try:
            peak_mb(step, videos)
        except torch.OutOfMemoryError:
            step.optimizer.zero_grad(set_to_none=True)
            return False
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, number)
        return True

    return {"videos": largest(fits, guess), "limit_mb": round(share * whole)}


def largest(fits: Callable[[int], bool], guess: int, tries: int = 6) -> int:
    """The largest number that fits, as far as some tries from a guess tell; 0 if none of them does.

    >>> largest(lambda n: n <= 37, 40), largest(lambda n: n <= 37, 33), largest(lambda n: False, 3)
    (36, 37, 0)
    """
    stride = max(1, guess // 20)
    number = max(1, guess)
    if fits(number):
        for _ in range(tries - 1):
            if not fits(number + stride):
                return number
            number += stride
        return number
    for _ in range(tries - 1):
        number -= stride
        if number < 1:
            return 0
        if fits(number):
            return number
    return 0
