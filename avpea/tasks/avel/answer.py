"""Events found in a video, how sure they are, and which of them are doubtful."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.metrics.accuracy import stretches
from avpea.tables import Table, clock, how_many
from avpea.tasks import Answer, Calibration, Stretch, beginning
from avpea.tasks._rule import EventRule, plain_events

__all__ = ["Event", "Prediction", "Rule", "timeline"]


@dataclass(frozen=True)
class Event:
    """Something that is both seen and heard.

    Attributes:
        label: Name of the category.
        start_seconds: Start in the video.
        end_seconds: End in the video, exclusive; where the last second of a video is a part of one, the video's end.
        confidence: Mean probability of the category over the segments of the event.
        doubtful: Whether it is unlike its category in the training set, on the mean of its seconds.
    """

    label: str
    start_seconds: float
    end_seconds: float
    confidence: float
    doubtful: bool = False

    @property
    def shown(self) -> str:
        """The label as people read it; a doubtful one has a question mark."""
        return f"{self.label} ?" if self.doubtful else self.label


@dataclass(frozen=True)
class Rule(EventRule):
    """What counts as an event, where a second has one category."""

    def apply(
        self, decisions: Int[Tensor, " segments"], probabilities: Float[Tensor, "segments categories"]
    ) -> Int[Tensor, " segments"]:
        """The decisions with background, the last category, in place of what does not count as an event."""
        background = probabilities.shape[1] - 1
        sure = probabilities.gather(1, decisions[:, None]).squeeze(1) >= self.threshold
        kept = torch.where(sure, decisions, background)
        for category, segments in stretches(kept):
            if category != background and len(segments) < self.min_seconds:
                kept[segments] = background
        return kept


@dataclass(frozen=True)
class Prediction(Answer):
    """The events found in a video.

    Attributes:
        video: The video file.
        duration_seconds: Length of the video.
        class_names: Names of the event classes.
        events: Events in order of time.
        decisions: Category of each second, as the events have it; the index after the last class is background.
        probabilities: Probability of each category in each second, calibrated; the last column is background.
        clip: Decoded frames and sound.
        rule: What counts as an event.
        calibration: What the probabilities were calibrated with; None for a model that was not.
        novelty: How far each second is from the training seconds of its decided category, as a multiple of the limit:
            above 1, it is unlike them. None if that is not known.
        decided: Category of each second before the rule; None if there was no rule to apply.
    """

    video: Path
    duration_seconds: float
    class_names: tuple[str, ...]
    events: tuple[Event, ...]
    decisions: Int[Tensor, " seconds"]
    probabilities: Float[Tensor, "seconds categories"]
    clip: Any
    rule: Rule = Rule()
    calibration: Calibration | None = None
    novelty: Float[Tensor, " seconds"] | None = None
    decided: Int[Tensor, " seconds"] | None = None

    @classmethod
    def of(
        cls,
        clip: Any,
        class_names: tuple[str, ...],
        decisions: Int[Tensor, " seconds"],
        probabilities: Float[Tensor, "seconds categories"],
        rule: Rule,
        calibration: Calibration | None = None,
        tokens: Float[Tensor, "seconds width"] | None = None,
    ) -> "Prediction":
        """Build the answer for a clip from the predictions for its seconds, and from their tokens."""
        decided, decisions = decisions, rule.apply(decisions, probabilities)
        novelty = None
        if calibration is not None and tokens is not None:
            novelty = calibration.novelty(tokens, decided, probabilities.shape[1])
        seconds = clip.duration_seconds
        events = tuple(timeline(probabilities, decisions, class_names, novelty, seconds))
        return cls(
            clip.path, seconds, class_names, events, decisions, probabilities, clip, rule, calibration, novelty, decided
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `avpea predict --json` prints them."""
        return {
            **beginning("avpea-events-1", self.video, self.clip),
            "events": plain_events(self.events),
            "seconds": [self._second(index) for index in range(len(self.decisions))],
            **self.rule.to_dict(),
            "calibration": self.calibration and self.calibration.brief(),
        }

    def _second(self, index: int) -> dict[str, Any]:
        names, row = [*self.class_names, "background"], self.probabilities[index].tolist()
        category = int(self.decisions[index])
        decided = category if self.decided is None else int(self.decided[index])
        return {
            "start_seconds": float(index),
            "label": names[category],
            "confidence": round(row[category], 4),
            "probabilities": {name: round(value, 4) for name, value in zip(names, row, strict=True)},
            "novelty": self._novelty(index, category),
            # With these anybody can apply another threshold or shortest event, as `Rule.apply` does.
            "decided": {"label": names[decided], "novelty": self._novelty(index, decided)},
        }

    def _novelty(self, index: int, category: int) -> float | None:
        known = self.novelty is not None and category < len(self.class_names)
        return round(float(self.novelty[index]), 4) if known and self.novelty is not None else None

    def report(self) -> Iterator[str | Table]:
        """The timeline: label, from, to, confidence; and what to make of it."""
        yield f"{self.video}: {clock(self.duration_seconds, decimals=1)}, {how_many(len(self.events), 'event')}"
        yield from self.clip.remarks()
        if not self.events:
            yield "No event that the model knows was both seen and heard."
        else:
            rows = [
                (
                    one.shown,
                    clock(one.start_seconds),
                    clock(one.end_seconds, decimals=0 if one.end_seconds.is_integer() else 1),
                    f"{one.confidence:.2f}",
                )
                for one in self.events
            ]
            yield Table(["label", "from", "to", "confidence"], rows)
        yield from self._remarks()

    def _remarks(self) -> Iterator[str]:
        doubtful = sum(event.doubtful for event in self.events)
        if doubtful:
            one, many = "The event is", f"{doubtful} of {len(self.events)} events (?) are"
            what = one if len(self.events) == 1 else many
            yield f"{what} doubtful: unlike what the model was trained on, so perhaps nothing that it knows."
        if self.calibration is None and self.events:
            yield "The confidence is not calibrated; `avpea calibrate RUN` does that."

    def rows(self) -> list[tuple[float, float, str, float, str]]:
        """A row for each event."""
        return [
            (
                one.start_seconds,
                round(one.end_seconds, 3),
                one.label,
                round(one.confidence, 4),
                "yes" if one.doubtful else "no",
            )
            for one in self.events
        ]

    def stretches(self) -> list[Stretch]:
        """Each event."""
        return [Stretch(one.start_seconds, one.end_seconds, one.shown) for one in self.events]

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
            threshold=self.rule.threshold,
            unlike=None if self.novelty is None else (self.novelty > 1) & (self.decisions < len(self.class_names)),
        )


def timeline(
    probabilities: Float[Tensor, "segments categories"],
    decisions: Int[Tensor, " segments"],
    class_names: Sequence[str],
    novelty: Float[Tensor, " segments"] | None = None,
    duration_seconds: float = math.inf,
) -> list[Event]:
    """Merge adjacent segments of the same category into events, in order of time; background is left out.

    Args:
        probabilities: Probability of each category in each segment of one video.
        decisions: Predicted category of each segment.
        class_names: Names of the event classes.
        novelty: How unlike training each segment is; an event whose mean is above 1 is doubtful.
        duration_seconds: Length of the video, after which no event ends.
    """
    return [
        Event(
            label=class_names[category],
            start_seconds=float(segments[0]),
            end_seconds=max(float(segments[0]), min(float(segments[-1] + 1), duration_seconds)),
            confidence=float(probabilities[segments, category].mean()),
            doubtful=novelty is not None and float(novelty[segments].mean()) > 1,
        )
        for category, segments in stretches(decisions)
        if category < len(class_names)
    ]
