"""What a model writes about a video: a sentence for each window."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.tables import Table
from avpea.tasks import Answer

__all__ = ["Caption", "Captions"]


@dataclass(frozen=True)
class Caption:
    """A sentence about a stretch of a video.

    Attributes:
        start_seconds: Where the stretch starts.
        end_seconds: Where it ends.
        text: In lower case.
        log_probability: Natural logarithm of the sentence's probability.
        others: What else was in sight, with their log-probabilities, the likeliest first.
    """

    start_seconds: float
    end_seconds: float
    text: str
    log_probability: float
    others: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Captions(Answer):
    """What is written about a video.

    Attributes:
        video: The file.
        duration_seconds: Of the file, as far as it can be decoded.
        captions: One for each window of as many seconds as the model was trained on.
        clip: What was looked at and listened to.
    """

    video: Path
    duration_seconds: float
    captions: tuple[Caption, ...]
    clip: Any

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the clip."""
        return {
            "video": str(self.video),
            "duration_seconds": round(self.duration_seconds, 3),
            "declared_seconds": round(self.clip.declared_seconds, 3),
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

    def report(self) -> Iterator[str | Table]:
        """The sentences, each with its stretch."""
        yield f"{self.video}: {self.duration_seconds:.1f} s"
        yield from self.clip.remarks()
        for one in self.captions:
            yield f"{one.start_seconds:7.1f} - {one.end_seconds:.1f} s  {one.text}"
            for text, _ in one.others:
                yield f"{'':19}or: {text}"
