"""Captions: sentences that people wrote about a video."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from avpea.labels._base import Counts, Labels, Sample

__all__ = ["CaptionCounts", "CaptionLabels", "CaptionSample"]


@dataclass(frozen=True)
class CaptionSample(Sample):
    """A video with what people wrote about it."""

    captions: tuple[str, ...] = field(kw_only=True)


@dataclass(frozen=True)
class CaptionCounts(Counts):
    """What a split of a data set of captions holds.

    Attributes:
        captions: About all of its videos.
        words: Of all captions together.
    """

    captions: int
    words: int

    def line(self) -> str:
        """In a sentence."""
        mean = self.words / self.captions if self.captions else 0.0
        return (
            f"{self.captions} captions of {mean:.1f} words on average about {self.samples} videos ({self.available} "
            "that open)."
        )


@dataclass(frozen=True)
class CaptionLabels(Labels):
    """Captions are open: there is nothing to choose among, and nothing to store."""

    kind: ClassVar[str] = "captions"

    @classmethod
    def typical(cls) -> "CaptionLabels":
        """The same for every data set."""
        return cls()

    def count(self, samples: Sequence[CaptionSample], available: int) -> CaptionCounts:
        """Captions and words."""
        captions = [caption for sample in samples for caption in sample.captions]
        return CaptionCounts(len(samples), available, len(captions), sum(len(one.split()) for one in captions))
