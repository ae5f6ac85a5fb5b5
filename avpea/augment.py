"""Augmentation: training clips changed at random, with their labels where these change too.

What is drawn depends on seed, epoch and batch alone, and torch's global generator is left alone: an interrupted
training draws the same, and one without augmentation draws nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.data.cache import Batch
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.labels import Sample
from avpea.sections import AugmentOptions

__all__ = ["Mixed", "augmented", "require_augmentable"]


@dataclass(frozen=True)
class Mixed:
    """A batch after augmentation.

    Attributes:
        batch: The batch; its samples have labels that fit.
        others: For mixup, the sample that each clip was mixed with; None without.
        share: Share of the clip itself in the mixture, above one half; the other sample's is 1 - share.
    """

    batch: Batch
    others: tuple[Sample, ...] | None = None
    share: float = 1.0

    def part(self, indices: Sequence[int]) -> "Mixed":
        """Some of its videos."""
        others = None if self.others is None else tuple(self.others[i] for i in indices)
        return Mixed(self.batch.part(indices), others, self.share)


def require_augmentable(experiment: Experiment, task: Any) -> None:
    """Refuse augmentation of what the head does not read.

    Raises:
        ExperimentError: The head reads no video.
    """
    if experiment.train.augment.used and not task.head.reads_video:
        raise ExperimentError(
            f"train.augment changes the videos, which the head '{experiment.head.name}' does not read; leave it out."
        )


def augmented(batch: Batch, options: AugmentOptions, mean: float, generator: torch.Generator) -> Mixed:
    """Augment a batch: shift in time, mirror, mask, and mix, in this order.

    Args:
        batch: The clips as decoded.
        options: What to do, and how much of it.
        mean: Mean of the log-mel, with which masks are filled; 0 once the log-mel is normalised.
        generator: Random generator on the CPU.
    """
    if options.shift:
        batch = _shifted(batch, options.shift, generator)
    if options.flip:
        mirrored = torch.rand(len(batch), generator=generator) < options.flip
        frames = torch.where(mirrored[:, None, None, None, None], batch.frames.flip(-2), batch.frames)
        batch = replace(batch, frames=frames)
    if options.time_masks or options.mel_masks:
        batch = replace(batch, log_mel=_masked(batch.log_mel, options, mean, generator))
    return _mixed(batch, options.mixup, generator) if options.mixup and len(batch) > 1 else Mixed(batch)


def _shifted(batch: Batch, most: int, generator: torch.Generator) -> Batch:
    """Rotate the seconds of each clip, picture, sound and labels alike, by up to `most` in either direction."""
    by = torch.randint(-most, most + 1, (len(batch),), generator=generator).tolist()
    samples: list[Any] = [
        sample.rotated(seconds)  # type: ignore[attr-defined]
        for sample, seconds in zip(batch.samples, by, strict=True)
    ]
    frames, log_mel = (
        torch.stack([one.roll(seconds, dims=0) for one, seconds in zip(some, by, strict=True)])
        for some in (batch.frames, batch.log_mel)
    )
    return replace(batch, frames=frames, log_mel=log_mel, samples=tuple(samples))


def _masked(
    log_mel: Float[Tensor, "batch segments rows mel_bins"],
    options: AugmentOptions,
    mean: float,
    generator: torch.Generator,
) -> Float[Tensor, "batch segments rows mel_bins"]:
    """SpecAugment (Park et al., 2019) without warping: stripes of random width and place, anew in each second."""
    hidden = torch.zeros(log_mel.shape, dtype=torch.bool)
    for masks, axis in ((options.time_masks, 2), (options.mel_masks, 3)):
        length = log_mel.shape[axis]
        places = torch.arange(length)
        for _ in range(masks):
            width = torch.rand(log_mel.shape[:2], generator=generator) * options.mask_width * length
            start = torch.rand(log_mel.shape[:2], generator=generator) * (length - width)
            stripe = (places >= start.round()[..., None]) & (places < (start + width).round()[..., None])
            hidden |= stripe[:, :, :, None] if axis == 2 else stripe[:, :, None, :]
    return log_mel.masked_fill(hidden, mean)


def _mixed(batch: Batch, alpha: float, generator: torch.Generator) -> Mixed:
    """Mixup (Zhang et al., 2018): each clip with another of the batch, one share from Beta(alpha, alpha) for all."""
    # torch.distributions takes no generator; a Beta variable is a ratio of Gamma variables.
    one, other = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    share = max(one, other) / (one + other) if one + other else 1.0
    order = torch.randperm(len(batch), generator=generator)
    frames = batch.frames * share + batch.frames[order] * (1 - share)
    log_mel = batch.log_mel * share + batch.log_mel[order] * (1 - share)
    mixture = replace(batch, frames=frames.round().to(torch.uint8), log_mel=log_mel)
    return Mixed(mixture, tuple(batch.samples[i] for i in order.tolist()), share)
