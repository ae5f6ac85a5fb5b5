"""Events found in a video."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from avpea.tables import Table, clock
from avpea.tasks import Answer, Stretch

__all__ = ["Event", "Prediction", "timeline"]


@dataclass(frozen=True)
class Event:
    """Something that is both seen and heard.

    Attributes:
        label: Name of the category.
        start_seconds: Start in the video.
        end_seconds: End in the video, exclusive.
        confidence: Mean probability of the category over the segments of the event.
    """

    label: str
    start_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True)
class Prediction(Answer):
    """The events found in a video.

    Attributes:
        video: The video file.
        duration_seconds: Length of the video.
        class_names: Names of the event classes.
        events: Events in order of time.
        decisions: Predicted category of each second; the index after the last class is background.
        probabilities: Probability of each category in each second; the last column is background.
        clip: Decoded frames and sound.
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
        """Build the answer for a clip from the predictions for its seconds."""
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
        yield f"{self.video}: {clock(self.duration_seconds, decimals=1)}, {len(self.events)} event{many}"
        yield from self.clip.remarks()
        if not self.events:
            yield "No event that the model knows was both seen and heard."
            return
        rows = [
            (one.label, clock(one.start_seconds), clock(one.end_seconds), f"{one.confidence:.2f}")
            for one in self.events
        ]
        yield Table(["label", "from", "to", "confidence"], rows)

    def rows(self) -> list[tuple[float, float, str, float]]:
        """A row for each event."""
        return [(one.start_seconds, one.end_seconds, one.label, round(one.confidence, 4)) for one in self.events]

    def stretches(self) -> list[Stretch]:
        """Each event, up to the end of the video."""
        return [
            Stretch(one.start_seconds, max(one.start_seconds, min(one.end_seconds, self.duration_seconds)), one.label)
            for one in self.events
        ]

    def surest_second(self) -> int:
        """The second with the most probable event."""
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
) -> list[Event]:
    """Merge adjacent segments of the same category into events, in order of time; background is left out.

    Args:
        probabilities: Probability of each category in each segment of one video.
        decisions: Predicted category of each segment.
        class_names: Names of the event classes.
    """
    events = []
    for category, run in groupby(range(len(decisions)), key=decisions.tolist().__getitem__):
        segments = list(run)
        if category < len(class_names):
            events.append(
                Event(
                    label=class_names[category],
                    start_seconds=float(segments[0]),
                    end_seconds=float(segments[-1] + 1),
                    confidence=float(probabilities[segments, category].mean()),
                )
            )
    return events
