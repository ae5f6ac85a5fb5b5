"""Events found in a video: the answer for a person, and the windows that a longer video is read in."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from avpea.media import Clip
from avpea.tasks.avel import Event

__all__ = ["Prediction", "windows"]


@dataclass(frozen=True)
class Prediction:
    """What was found in a video.

    Attributes:
        video: The file.
        duration_seconds: Its length.
        class_names: The categories that the model knows.
        events: What happens from when to when, in order of time.
        decisions: The answered category of each second; `len(class_names)` is background.
        probabilities: Of each category in each second; the last column is background.
        clip: Frames and sound that the answer was drawn from.
    """

    video: Path
    duration_seconds: float
    class_names: tuple[str, ...]
    events: tuple[Event, ...]
    decisions: Int[Tensor, " seconds"]
    probabilities: Float[Tensor, "seconds categories"]
    clip: Clip

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


def windows(segments: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Windows `[start, stop)` that cover all segments, and where each one's new answers begin."""
    covered = 0
    while covered < segments:
        stop = min(covered + length, segments)
        yield max(0, stop - length), stop, covered
        covered = stop
