"""Events found in a video: the answer for a person."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from avpea.tables import Table
from avpea.tasks import Answer

__all__ = ["Event", "Prediction", "timeline"]


@dataclass(frozen=True)
class Event:
    """Something that is both seen and heard.

    Attributes:
        label: Its category.
        start_seconds: Where it begins.
        end_seconds: Where it ends; the range is half open.
        confidence: Mean probability of the category over its segments.
    """

    label: str
    start_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True)
class Prediction(Answer):
    """What was found in a video.

    Attributes:
        video: The file.
        duration_seconds: Its length.
        class_names: The categories that the model knows.
        events: What happens from when to when, in order of time.
        decisions: The answered category of each second; the one after the last class is background.
        probabilities: Of each category in each second; the last column is background.
        clip: Frames and sound that the answer was drawn from.
    """

    video: Path
    duration_seconds: float
    class_names: tuple[str, ...]
    events: tuple[Event, ...]
    decisions: Int[Tensor, " seconds"]
    probabilities: Float[Tensor, "seconds categories"]
    clip: Any

    @classmethod
    def of(
        cls,
        clip: Any,
        class_names: tuple[str, ...],
        decisions: Int[Tensor, " seconds"],
        probabilities: Float[Tensor, "seconds categories"],
    ) -> "Prediction":
        """The events of a clip, from the answers for its seconds."""
        events = tuple(timeline(probabilities, decisions, class_names))
        return cls(clip.path, clip.duration_seconds, class_names, events, decisions, probabilities, clip)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `avpea predict --json` prints them."""
        names = [*self.class_names, "background"]
        seconds = [
            {"start_seconds": float(i), "label": names[answer], "confidence": round(float(row[answer]), 4)}
            for i, (answer, row) in enumerate(zip(self.decisions.tolist(), self.probabilities, strict=True))
        ]
        events = [dataclasses.asdict(event) | {"confidence": round(event.confidence, 4)} for event in self.events]
        return {
            "video": str(self.video),
            "duration_seconds": round(self.duration_seconds, 3),
            "declared_seconds": round(self.clip.declared_seconds, 3),
            "events": events,
            "seconds": seconds,
        }

    def report(self) -> Iterator[str | Table]:
        """The timeline: label, from, to, confidence."""
        many = "s" * (len(self.events) != 1)
        yield f"{self.video}: {self.duration_seconds:.1f} s, {len(self.events)} event{many}"
        yield from self.clip.remarks()
        if not self.events:
            yield "Nothing that the model knows was seen and heard together."
            return
        rows = [
            (one.label, f"{one.start_seconds:.0f} s", f"{one.end_seconds:.0f} s", f"{one.confidence:.2f}")
            for one in self.events
        ]
        yield Table(["label", "from", "to", "confidence"], rows)

    def surest_second(self) -> int:
        """The second whose event has the highest probability."""
        return int(self.probabilities[:, :-1].amax(dim=1).argmax())

    def plot(self, path: str | Path) -> None:
        """Draw the timeline: frames, spectrogram, events, confidence."""
        from avpea import plot

        plot.timeline(
            Path(path),
            title=self.video.name,
            frames=self.clip.frames,
            waveform=self.clip.waveform,
            events=self.events,
            probabilities=self.probabilities,
            class_names=self.class_names,
            frame_aspect=self.clip.frame_aspect,
        )


def timeline(
    probabilities: Float[Tensor, "segments categories"],
    decisions: Int[Tensor, " segments"],
    class_names: Sequence[str],
    start_seconds: float = 0.0,
    segment_seconds: float = 1.0,
) -> list[Event]:
    """Merge neighbouring segments of one category into events, in order of time; background is left out.

    Args:
        probabilities: Of each category in each segment of one video.
        decisions: The answered category of each segment.
        class_names: Names of the event categories.
        start_seconds: Where the first segment begins.
        segment_seconds: Length of a segment.
    """
    events = []
    for category, run in groupby(range(len(decisions)), key=decisions.tolist().__getitem__):
        segments = list(run)
        if category < len(class_names):
            events.append(
                Event(
                    label=class_names[category],
                    start_seconds=start_seconds + segments[0] * segment_seconds,
                    end_seconds=start_seconds + (segments[-1] + 1) * segment_seconds,
                    confidence=float(probabilities[segments, category].mean()),
                )
            )
    return events
