"""What belongs to other videos, at random: the negatives that some heads are trained with."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from avpea.errors import DataError
from avpea.labels import Sample

__all__ = ["of_others"]


def of_others(
    samples: Sequence[Sample],
    pool: Sequence[Sample],
    video: Callable[[Sample], Hashable],
    draw: Callable[[Sample], Tensor],
) -> Tensor:
    """For each segment of each sample, something of a random other video, with torch's generator.

    Args:
        samples: Samples whose videos are excluded, each for its own segments.
        pool: Samples of at least two videos to draw from.
        video: What tells videos apart.
        draw: What is taken of a sample, at random.

    Returns:
        What was drawn, with axes batch and segments before its own.

    Raises:
        DataError: All samples of the pool are from one video.
    """
    if len({video(sample) for sample in pool}) < 2:
        raise DataError("Frames of other videos were asked for, but there is only one video.")

    def drawn(sample: Sample) -> Tensor:
        other = sample
        while video(other) == video(sample):
            other = pool[int(torch.randint(len(pool), ()))]
        return draw(other)

    return torch.stack([torch.stack([drawn(sample) for _ in range(sample.segments)]) for sample in samples])
