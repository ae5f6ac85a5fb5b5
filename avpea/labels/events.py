"""Events: a label for each second of a window."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from avpea.labels._base import SPLITS, Counts, Labels, Sample, shortened

__all__ = ["EventCounts", "EventLabels", "EventSample"]

AVE_CLASSES = 28
FEW_VIDEOS = 5  # of a class in training: with fewer, test accuracy is low in our measurements (docs/own-videos.md)
SHOWN_CLASSES = 40


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
            f"{self.samples} samples ({self.available} with a video that opens), {self.seconds} seconds, "
            f"{share:.1%} of them background."
        )

    def unlabelled(self) -> tuple[str, ...]:
        """Classes that have no event in the split."""
        return tuple(name for name, rows in self.rows.items() if not rows)


@dataclass(frozen=True)
class EventLabels(Labels):
    """Event classes, and one more category for background.

    Attributes:
        class_names: Names of the event classes in index order, without background.
    """

    kind: ClassVar[str] = "events"
    samples: ClassVar[type[Sample]] = EventSample
    outputs: ClassVar[str] = "classes"

    class_names: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the event classes."""
        return self.class_names

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

    def unknown(self, samples: Sequence[EventSample], trained: "EventLabels") -> tuple[str, ...]:
        """Classes of the samples that are none of the trained ones."""
        used = {label for sample in samples for label in sample.labels}
        names = enumerate(self.class_names)
        return tuple(name for label, name in names if label in used and name not in trained.class_names)

    def translated(self, samples: Sequence[EventSample], trained: "EventLabels") -> tuple[EventSample, ...]:
        """The samples with the indices that their classes have in training, whatever their order is here."""
        places = {name: place for place, name in enumerate(trained.class_names)}
        theirs = [places.get(name, -1) for name in self.class_names] + [trained.background]
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

    def overview(self, splits: Mapping[str, Sequence[EventSample]]) -> list[str]:
        """Videos of each split and class, and the classes that have few."""
        lines = super().overview(splits)
        counts = {split: self._videos(samples) for split, samples in splits.items()}
        each = [f"{name} {'/'.join(str(counts[s][i]) for s in SPLITS)}" for i, name in enumerate(self.class_names)]
        lines.append(f"Videos of each class (train/val/test): {shortened(each, SHOWN_CLASSES)}.")
        few = [n for i, n in enumerate(self.class_names) if counts["train"][i] < FEW_VIDEOS]
        if few:
            lines.append(
                f"Few clips: fewer than {FEW_VIDEOS} training videos of {shortened(few, 10)}; expect mistakes about "
                "them, and add more if you can."
            )
        for split in ("val", "test"):
            without = [name for i, name in enumerate(self.class_names) if not counts[split][i]]
            if without and splits[split]:
                lines.append(f"No {split} video of {shortened(without, 10)}, so the {split} figure does not show them.")
        return lines

    def _videos(self, samples: Sequence[EventSample]) -> Counter[int]:
        """Number of videos with each label."""
        return Counter(label for _, label in {(s.video_id, label) for s in samples for label in s.labels})

    def end_seconds(self, sample: EventSample) -> float:
        """End of the last second with an event."""
        events = [second for second, label in enumerate(sample.labels) if label != self.background]
        return sample.start_seconds + events[-1] + 1 if events else 0.0
