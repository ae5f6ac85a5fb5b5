"""Events: a label for each second of a window."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from avpea.labels._base import Counts, Sample
from avpea.labels._classes import ClassLabels
from avpea.tables import how_many

__all__ = ["EventCounts", "EventLabels", "EventSample"]

AVE_CLASSES = 28


@dataclass(frozen=True)
class EventSample(Sample):
    """A window with a label for each of its seconds.

    Attributes:
        labels: Class index of each segment, or `EventLabels.background`. Segment s covers the seconds
            [start_seconds + s, start_seconds + s + 1).
        padding: Number of segments at the end that lie after the end of the video. They are labelled background, and
            are neither counted nor scored.
    """

    labels: tuple[int, ...] = field(kw_only=True)
    padding: int = field(default=0, kw_only=True)

    @property
    def labels_past_end(self) -> bool:
        """In the layout of a data set whose protocol knows no padding."""
        return self.padding == 0

    @property
    def real(self) -> tuple[int, ...]:
        """The labels of the segments that the video has."""
        return self.labels[: self.segments - self.padding]

    def __post_init__(self) -> None:
        if len(self.labels) != self.segments:
            raise ValueError(f"{self.key} has {len(self.labels)} labels for {self.segments} segments")

    def rotated(self, seconds: int) -> "EventSample":
        """The sample with its labels rotated: what was in second s is in second s + `seconds`, around the end."""
        first = -seconds % self.segments
        return replace(self, labels=self.labels[first:] + self.labels[:first], padding=0)


@dataclass(frozen=True)
class EventCounts(Counts):
    """Contents of a split with events.

    Attributes:
        seconds: Number of one-second segments, without padding.
        background_seconds: Number of segments that are background.
        rows: Number of samples with each class; a sample with two classes counts for both.
        event_seconds: Number of segments of each class.
    """

    seconds: int
    background_seconds: int
    rows: dict[str, int]
    event_seconds: dict[str, int]

    def line(self) -> str:
        """The counts in a sentence."""
        share = self.background_seconds / self.seconds if self.seconds else 0.0
        return (
            f"{how_many(self.samples, 'sample')} ({self.available} with a video that opens), "
            f"{how_many(self.seconds, 'second')}, "
            f"{share:.1%} of them background."
        )

    def unlabelled(self) -> tuple[str, ...]:
        """Classes that have no event in the split."""
        return tuple(name for name, rows in self.rows.items() if not rows)


@dataclass(frozen=True)
class EventLabels(ClassLabels):
    """Event classes, and one more category for background, which has no name in `class_names`."""

    kind: ClassVar[str] = "events"
    samples: ClassVar[type[Sample]] = EventSample

    @property
    def background(self) -> int:
        """Index of the background category."""
        return len(self.class_names)

    @classmethod
    def typical(cls) -> "EventLabels":
        """As many classes as AVE has."""
        return cls(tuple(f"class {number}" for number in range(AVE_CLASSES)))

    def told(self, sample: EventSample) -> str:
        """Events with their seconds in the window, such as `dog 2-5, cat 7-8`; empty if there are none."""
        runs, start = [], 0
        for label, group in itertools.groupby(sample.labels):
            stop = start + len(list(group))
            if label != self.background:
                runs.append(f"{self.class_names[label]} {start}-{stop}")
            start = stop
        return ", ".join(runs)

    @staticmethod
    def used(sample: EventSample) -> set[int]:
        """Class indices of its seconds, and background."""
        return set(sample.labels)

    def translated(self, samples: Sequence[EventSample], trained: "EventLabels") -> tuple[EventSample, ...]:
        """The samples with the indices that their classes have in training, whatever their order is here."""
        theirs = [*self.places_in(trained), trained.background]
        return tuple(replace(sample, labels=tuple(theirs[label] for label in sample.labels)) for sample in samples)

    def fault(self, sample: EventSample) -> str:
        """A label that no class has, or padding that the window has no room for."""
        wrong = next((label for label in sample.labels if not 0 <= label <= self.background), None)
        if wrong is not None:
            return f"has the label {wrong}; expected 0 to {self.background}"
        room = 0 <= sample.padding <= sample.segments
        return "" if room else f"has {sample.padding} segments of padding; expected 0 to {sample.segments}"

    def background_share(self, samples: Sequence[EventSample]) -> float:
        """Share of seconds that are background, in [0, 1], which is the score of always predicting it; 0 if empty."""
        labels = [label for sample in samples for label in sample.real]
        return labels.count(self.background) / len(labels) if labels else 0.0

    def count(self, samples: Sequence[EventSample], available: int) -> EventCounts:
        """Count segments, and samples and segments of each class."""
        seconds = Counter(label for sample in samples for label in sample.real)
        rows = Counter(label for sample in samples for label in set(sample.labels))
        return EventCounts(
            samples=len(samples),
            available=available,
            seconds=seconds.total(),
            background_seconds=seconds[self.background],
            rows={name: rows[label] for label, name in enumerate(self.class_names)},
            event_seconds={name: seconds[label] for label, name in enumerate(self.class_names)},
        )

    def end_seconds(self, sample: EventSample) -> float:
        """End of the last second with an event."""
        events = [second for second, label in enumerate(sample.labels) if label != self.background]
        return sample.start_seconds + events[-1] + 1 if events else 0.0
