"""Events: a label for each second of a window."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from avpea.labels._base import Counts, Labels, Sample

__all__ = ["EventCounts", "EventLabels", "EventSample"]

AVE_CLASSES = 28


@dataclass(frozen=True)
class EventSample(Sample):
    """A window with a label for each of its seconds.

    Attributes:
        labels: Class index of each segment; `EventLabels.background` is background. Segment s is
            [start_seconds + s, start_seconds + s + 1).
    """

    labels: tuple[int, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        if len(self.labels) != self.segments:
            raise ValueError(f"{self.key} has {len(self.labels)} labels for {self.segments} segments")


@dataclass(frozen=True)
class EventCounts(Counts):
    """What a split of a data set of events holds.

    Attributes:
        seconds: One-second segments.
        background_seconds: Segments that belong to no event.
        rows: Samples in which each class occurs; a sample with two classes counts for both.
        event_seconds: Segments of each class.
    """

    seconds: int
    background_seconds: int
    rows: dict[str, int]
    event_seconds: dict[str, int]

    def line(self) -> str:
        """In a sentence."""
        share = self.background_seconds / self.seconds if self.seconds else 0.0
        return (
            f"{self.samples} samples ({self.available} with a video that opens), {self.seconds} seconds, "
            f"{share:.1%} of them background."
        )

    def unlabelled(self) -> tuple[str, ...]:
        """Classes without an event."""
        return tuple(name for name, rows in self.rows.items() if not rows)


@dataclass(frozen=True)
class EventLabels(Labels):
    """Event classes; one more category, background, belongs to no event.

    Attributes:
        class_names: Names in index order, background not among them.
    """

    kind: ClassVar[str] = "events"
    outputs: ClassVar[str] = "classes"

    class_names: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the event classes."""
        return self.class_names

    @property
    def background(self) -> int:
        """Category of the seconds that belong to no event."""
        return len(self.class_names)

    @classmethod
    def typical(cls) -> "EventLabels":
        """As many classes as AVE has."""
        return cls(tuple(f"class {number}" for number in range(AVE_CLASSES)))

    def complaint(self, trained: "EventLabels") -> str:
        """Classes must be the same, in the same order."""
        if self.class_names == trained.class_names:
            return ""
        return f"has the classes {list(self.class_names)}, but the run was trained on {list(trained.class_names)}"

    def background_share(self, samples: Sequence[EventSample]) -> float:
        """Share of seconds that are background, in [0, 1]: the score of always answering so; 0 without samples."""
        labels = [label for sample in samples for label in sample.labels]
        return labels.count(self.background) / len(labels) if labels else 0.0

    def count(self, samples: Sequence[EventSample], available: int) -> EventCounts:
        """Seconds, and rows of each class."""
        seconds = Counter(label for sample in samples for label in sample.labels)
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
