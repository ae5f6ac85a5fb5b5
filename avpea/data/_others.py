"""What belongs to other videos, at random: the negatives that some heads are trained with."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from avpea.draws import generator
from avpea.errors import DataError
from avpea.labels import Sample

__all__ = ["of_others"]


def of_others(
    samples: Sequence[Sample],
    pool: Sequence[Sample],
    video: Callable[[Sample], Hashable],
    draw: Callable[[Sample, torch.Generator], Tensor],
) -> Tensor:
    """For each segment of each sample, something of a random other video.

    What is drawn for a sample depends on the batch of training (`avpea.draws`) and on the sample.

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

    def drawn(sample: Sample, numbers: torch.Generator) -> Tensor:
        other = sample
        while video(other) == video(sample):
            other = pool[int(torch.randint(len(pool), (), generator=numbers))]
        return draw(other, numbers)

    def of_sample(sample: Sample) -> Tensor:
        numbers = generator(sample.key, "others")
        return torch.stack([drawn(sample, numbers) for _ in range(sample.segments)])

    return torch.stack([of_sample(sample) for sample in samples])
