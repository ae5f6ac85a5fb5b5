"""Captions: sentences that annotators wrote about a video."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from avpea.labels._base import Counts, Labels, Sample
from avpea.tables import how_many

__all__ = ["CaptionCounts", "CaptionLabels", "CaptionSample"]


@dataclass(frozen=True)
class CaptionSample(Sample):
    """A video with its captions."""

    captions: tuple[str, ...] = field(kw_only=True)


@dataclass(frozen=True)
class CaptionCounts(Counts):
    """Contents of a split with captions.

    Attributes:
        captions: Number of captions.
        words: Number of words in all captions.
    """

    captions: int
    words: int

    def line(self) -> str:
        """The counts in a sentence."""
        mean = self.words / self.captions if self.captions else 0.0
        return (
            f"{how_many(self.captions, 'caption')} of {mean:.1f} words on average about "
            f"{how_many(self.samples, 'video')} ({how_many(self.available, 'that opens', 'that open')})."
        )


@dataclass(frozen=True)
class CaptionLabels(Labels):
    """Captions are free text: there are no names to choose from, and nothing to store."""

    kind: ClassVar[str] = "captions"
    samples: ClassVar[type[Sample]] = CaptionSample

    @classmethod
    def typical(cls) -> "CaptionLabels":
        """The same as for any data set."""
        return cls()

    def told(self, sample: CaptionSample) -> str:
        """The captions, each between quotes."""
        return ", ".join(f"'{caption}'" for caption in sample.captions)

    def count(self, samples: Sequence[CaptionSample], available: int) -> CaptionCounts:
        """Count captions and words."""
        captions = [caption for sample in samples for caption in sample.captions]
        return CaptionCounts(len(samples), available, len(captions), sum(len(one.split()) for one in captions))
