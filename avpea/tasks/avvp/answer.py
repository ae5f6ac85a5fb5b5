"""Events found in a video, in three lanes: what is seen, what is heard, and what is both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avpea.metrics.video_parsing import runs
from avpea.tables import Table, clock
from avpea.tasks import Answer, Stretch, beginning
from avpea.tasks._rule import EventRule, plain_events

__all__ = ["LANES", "THRESHOLD", "Event", "LaneRule", "Prediction", "sure"]

LANES = ("seen", "heard", "both")
THRESHOLD = 0.5  # as published


@dataclass(frozen=True)
class Event:
    """Something that goes on in a lane.

    Attributes:
        label: Name of the class.
        lane: `seen`, `heard`, or `both`, which is where the same class is seen and heard in the same seconds.
        start_seconds: Start in the video.
        end_seconds: End in the video, exclusive; where the last second of a video is a part of one, the video's end.
        confidence: Mean probability of the class over the seconds of the event; of both, the smaller one of each
            second.
    """

    label: str
    lane: str
    start_seconds: float
    end_seconds: float
    confidence: float


def sure(
    seen: Float[Tensor, "seconds classes"],
    heard: Float[Tensor, "seconds classes"],
    video: Float[Tensor, "#seconds classes"],
    threshold: float,
) -> tuple[Bool[Tensor, "seconds classes"], Bool[Tensor, "seconds classes"]]:
    """The published rule: what is seen and what is heard in each second, of the classes that occur in its window."""
    there = video >= threshold
    return (seen >= threshold) & there, (heard >= threshold) & there


@dataclass(frozen=True)
class LaneRule(EventRule):
    """What counts as an event in a lane."""

    threshold: float = THRESHOLD

    def masks(
        self,
        seen: Float[Tensor, "seconds classes"],
        heard: Float[Tensor, "seconds classes"],
        video: Float[Tensor, "seconds classes"],
    ) -> dict[str, Bool[Tensor, "seconds classes"]]:
        """What counts in each lane: sure enough in the second and in its window, for long enough."""
        found = dict(zip(("seen", "heard"), sure(seen, heard, video, self.threshold), strict=True))
        found["both"] = found["seen"] & found["heard"]
        for mask in found.values():
            for column in range(mask.shape[1]):
                for run in runs(mask[:, column]):
                    if len(run) < self.min_seconds:
                        mask[run.start : run.stop, column] = False
        return found


@dataclass(frozen=True)
class Prediction(Answer):
    """The events found in a video.

    Attributes:
        video: The video file.
        duration_seconds: Length of the video.
        class_names: Names of the event classes.
        events: Events of all lanes in order of time.
        masks: Which classes count in each second, by lane.
        seen: Probability that a class is seen in a second.
        heard: Probability that a class is heard in a second.
        occurs: Probability that a class occurs in the window that a second is in.
        clip: Decoded frames and sound.
        rule: What counts as an event.
    """

    video: Path
    duration_seconds: float
    class_names: tuple[str, ...]
    events: tuple[Event, ...]
    masks: dict[str, Bool[Tensor, "seconds classes"]]
    seen: Float[Tensor, "seconds classes"]
    heard: Float[Tensor, "seconds classes"]
    occurs: Float[Tensor, "seconds classes"]
    clip: Any
    rule: LaneRule = LaneRule()

    @classmethod
    def of(
        cls,
        clip: Any,
        class_names: tuple[str, ...],
        seen: Float[Tensor, "seconds classes"],
        heard: Float[Tensor, "seconds classes"],
        occurs: Float[Tensor, "seconds classes"],
        rule: LaneRule,
    ) -> "Prediction":
        """Build the answer for a clip from the probabilities of its seconds."""
        masks = rule.masks(seen, heard, occurs)
        chances = {"seen": seen, "heard": heard, "both": torch.minimum(seen, heard)}
        seconds = clip.duration_seconds
        events = [
            Event(
                class_names[index],
                lane,
                float(run.start),
                max(float(run.start), min(float(run.stop), seconds)),
                float(chances[lane][run.start : run.stop, index].mean()),
            )
            for lane in LANES
            for index in range(len(class_names))
            for run in runs(masks[lane][:, index])
        ]
        events.sort(key=lambda one: (one.start_seconds, LANES.index(one.lane), one.label))
        return cls(clip.path, seconds, class_names, tuple(events), masks, seen, heard, occurs, clip, rule)

    def in_lane(self, lane: str) -> list[Event]:
        """The events of a lane in order of time."""
        return [event for event in self.events if event.lane == lane]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `avpea predict --json` prints them."""
        return {
            **beginning("avpea-lanes-1", self.video, self.clip),
            "events": plain_events(self.events),
            "seconds": [self._second(index) for index in range(len(self.seen))],
            **self.rule.to_dict(),
        }

    def _second(self, index: int) -> dict[str, Any]:
        """What counts in a second, and the probabilities behind it, by which another threshold can be applied."""
        chances = {"seen": self.seen, "heard": self.heard, "occurs": self.occurs}
        return {
            "start_seconds": float(index),
            **{lane: self._names(self.masks[lane][index]) for lane in LANES},
            "probabilities": {
                what: {name: round(p, 4) for name, p in zip(self.class_names, rows[index].tolist(), strict=True)}
                for what, rows in chances.items()
            },
        }

    def _names(self, there: Bool[Tensor, " classes"]) -> list[str]:
        return [name for name, found in zip(self.class_names, there.tolist(), strict=True) if found]

    def report(self) -> Iterator[str | Table]:
        """A table for each lane: label, from, to, confidence."""
        counts = ", ".join(f"{len(self.in_lane(lane))} {lane}" for lane in LANES)
        yield f"{self.video}: {clock(self.duration_seconds, decimals=1)}, events: {counts}"
        yield from self.clip.remarks()
        for lane in LANES:
            if events := self.in_lane(lane):
                yield Table([lane, "from", "to", "confidence"], [_cells(event) for event in events])
        if not self.events:
            yield "No event that the model knows was seen or heard."

    def rows(self) -> list[tuple[float, float, str, str, float]]:
        """A row for each event of each lane."""
        return [
            (one.start_seconds, round(one.end_seconds, 3), one.label, one.lane, round(one.confidence, 4))
            for one in self.events
        ]

    def stretches(self) -> list[Stretch]:
        """Each event of each lane, with its lane."""
        return [Stretch(one.start_seconds, one.end_seconds, f"{one.label} ({one.lane})") for one in self.events]

    def surest_second(self) -> int:
        """The second with the most probable event of either stream."""
        return int(torch.maximum(self.seen, self.heard).amax(dim=1).argmax())

    def plot(self, path: str | Path) -> None:
        """Draw the timeline: frames, spectrogram, the three lanes, confidence."""
        from avpea import plot

        plot.lanes(
            Path(path),
            title=self.video.name,
            frames=self.clip.frames,
            waveform=self.clip.waveform,
            lanes={lane: self.in_lane(lane) for lane in LANES},
            seen=self.seen,
            heard=self.heard,
            class_names=self.class_names,
            frame_aspect=self.clip.frame_aspect,
            threshold=self.rule.threshold,
        )


def _cells(event: Event) -> Sequence[str]:
    end = clock(event.end_seconds, decimals=0 if event.end_seconds.is_integer() else 1)
    return event.label, clock(event.start_seconds), end, f"{event.confidence:.2f}"
