"""Captions of a video: a sentence for each window."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.tables import Table, clock
from avpea.tasks import Answer, Stretch, beginning

__all__ = ["Caption", "Captions"]


@dataclass(frozen=True)
class Caption:
    """A sentence about a stretch of a video.

    Attributes:
        start_seconds: Start of the stretch in the video.
        end_seconds: End of the stretch in the video.
        text: The sentence, in lower case.
        log_probability: Natural logarithm of the sentence's probability.
        others: Other sentences of the beam search with their log-probabilities, the likeliest first.
    """

    start_seconds: float
    end_seconds: float
    text: str
    log_probability: float
    others: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Captions(Answer):
    """The captions of a video.

    Attributes:
        video: The video file.
        duration_seconds: Length of the video, as far as it can be decoded.
        captions: Caption of each window; windows have as many seconds as in training.
        clip: Decoded frames and sound.
    """

    video: Path
    duration_seconds: float
    captions: tuple[Caption, ...]
    clip: Any

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the clip."""
        return {
            **beginning("avpea-captions-1", self.video, self.clip),
            "captions": [
                {
                    "start_seconds": one.start_seconds,
                    "end_seconds": round(one.end_seconds, 3),
                    "text": one.text,
                    "log_probability": round(one.log_probability, 4),
                    "others": [{"text": text, "log_probability": round(score, 4)} for text, score in one.others],
                }
                for one in self.captions
            ],
        }

    def rows(self) -> list[tuple[float, float, str, float]]:
        """A row for each caption."""
        return [
            (one.start_seconds, round(one.end_seconds, 3), one.text, round(one.log_probability, 4))
            for one in self.captions
        ]

    def stretches(self) -> list[Stretch]:
        """Each caption."""
        return [Stretch(one.start_seconds, one.end_seconds, one.text) for one in self.captions]

    def report(self) -> Iterator[str | Table]:
        """The sentences, each with its stretch."""
        yield f"{self.video}: {clock(self.duration_seconds, decimals=1)}"
        yield from self.clip.remarks()
        for one in self.captions:
            stretch = " - ".join(clock(seconds, decimals=1) for seconds in (one.start_seconds, one.end_seconds))
            yield f"{stretch:>17}  {one.text}"
            for text, _ in one.others:
                yield f"{'':19}or: {text}"
