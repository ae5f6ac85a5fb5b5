"""Lanes: which events are seen and which are heard, several at once, second by second or for the whole video only."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import ClassVar

from avpea.labels._base import Counts, Sample
from avpea.labels._classes import ClassLabels
from avpea.tables import how_many

__all__ = ["LaneCounts", "LaneLabels", "LaneSample"]

LLP_CLASSES = 25

Lane = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LaneSample(Sample):
    """A window with the classes that occur in it, and where that is known, those seen and heard in each second.

    Attributes:
        classes: Indices of the classes that occur, seen or heard, in ascending order: the weak label.
        seen: Indices of the classes seen in each second, in ascending order; None if only `classes` is known.
        heard: The same of those heard; None if and only if `seen` is.
        padding: Number of segments at the end that lie after the end of the video; neither counted nor scored.
    """

    classes: tuple[int, ...] = field(kw_only=True)
    seen: Lane | None = field(default=None, kw_only=True)
    heard: Lane | None = field(default=None, kw_only=True)
    padding: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if (self.seen is None) != (self.heard is None):
            raise ValueError(f"{self.key} has the seconds of one stream only; expected both or none")
        for lane in (self.seen, self.heard):
            if lane is not None and len(lane) != self.segments:
                raise ValueError(f"{self.key} has {len(lane)} seconds of labels for {self.segments} segments")

    @property
    def labels_past_end(self) -> bool:
        """In the layout of a data set whose protocol knows no padding, where the seconds are labelled at all."""
        return self.padding == 0 and self.seen is not None

    @property
    def real(self) -> int:
        """Number of segments that the video has."""
        return self.segments - self.padding

    def rotated(self, seconds: int) -> "LaneSample":
        """The sample with its labels rotated: what was in second s is in second s + `seconds`, around the end."""
        first = -seconds % self.segments

        def turned(lane: Lane | None) -> Lane | None:
            return None if lane is None else lane[first:] + lane[:first]

        return replace(self, seen=turned(self.seen), heard=turned(self.heard), padding=0)


@dataclass(frozen=True)
class LaneCounts(Counts):
    """Contents of a split with lanes.

    Attributes:
        timed: Number of samples whose seconds are labelled.
        rows: Number of samples in which each class occurs.
        seconds: Number of seconds with labels, without padding.
        seen_seconds: Number of seconds in which each class is seen.
        heard_seconds: Number of seconds in which each class is heard.
        both_seconds: Number of seconds in which each class is seen and heard.
        busiest: Greatest number of events at once, in one second of one stream.
    """

    timed: int
    rows: dict[str, int]
    seconds: int
    seen_seconds: dict[str, int]
    heard_seconds: dict[str, int]
    both_seconds: dict[str, int]
    busiest: int

    def line(self) -> str:
        """The counts in a sentence."""
        told = f"{how_many(self.samples, 'sample')} ({self.available} with a video that opens), "
        if not self.timed:
            return f"{told}labelled as a whole (weak labels)."
        sums = (sum(each.values()) for each in (self.seen_seconds, self.heard_seconds, self.both_seconds))
        seen, heard, both = sums
        part = "" if self.timed == self.samples else f" of {self.timed} of them"
        return (
            f"{told}{how_many(self.seconds, 'labelled second')}{part}: events for {seen} s in the picture, {heard} s "
            f"in the sound, {both} s in both, at most {self.busiest} at once."
        )

    def unlabelled(self) -> tuple[str, ...]:
        """Classes that occur in no sample of the split."""
        return tuple(name for name, rows in self.rows.items() if not rows)


@dataclass(frozen=True)
class LaneLabels(ClassLabels):
    """Event classes, any number of which may be seen, and any heard, at once."""

    kind: ClassVar[str] = "lanes of events"
    samples: ClassVar[type[Sample]] = LaneSample

    @classmethod
    def typical(cls) -> "LaneLabels":
        """As many classes as LLP has."""
        return cls(tuple(f"class {number}" for number in range(LLP_CLASSES)))

    @staticmethod
    def used(sample: LaneSample) -> set[int]:
        """Class indices that occur in the sample by any of its labels."""
        return {*sample.classes, *_all(sample.seen), *_all(sample.heard)}

    def told(self, sample: LaneSample) -> str:
        """Such as `dog, bell; seen: dog 2-5; heard: bell 0-9`, where the seconds are known."""
        told = ", ".join(self.class_names[label] for label in sample.classes)
        if sample.seen is None or sample.heard is None:
            return told
        return f"{told}; seen: {self._runs(sample.seen)}; heard: {self._runs(sample.heard)}"

    def _runs(self, lane: Lane) -> str:
        found = []
        for label in sorted(set(_all(lane))):
            for there, group in groupby(range(len(lane)), key=lambda second: label in lane[second]):
                seconds = list(group)
                if there:
                    found.append(f"{self.class_names[label]} {seconds[0]}-{seconds[-1] + 1}")
        return ", ".join(found)

    def translated(self, samples: Sequence[LaneSample], trained: "LaneLabels") -> tuple[LaneSample, ...]:
        """The samples with the indices that their classes have in training, whatever their order is here."""
        places = self.places_in(trained)

        def moved(labels: Iterable[int]) -> tuple[int, ...]:
            return tuple(sorted(places[label] for label in labels))

        def lane(one: Lane | None) -> Lane | None:
            return None if one is None else tuple(map(moved, one))

        return tuple(
            replace(sample, classes=moved(sample.classes), seen=lane(sample.seen), heard=lane(sample.heard))
            for sample in samples
        )

    def fault(self, sample: LaneSample) -> str:
        """A label that no class has, or padding that the window has no room for."""
        wrong = next((label for label in self.used(sample) if not 0 <= label < len(self.class_names)), None)
        if wrong is not None:
            return f"has the label {wrong}; expected 0 to {len(self.class_names) - 1}"
        room = 0 <= sample.padding <= sample.segments
        return "" if room else f"has {sample.padding} segments of padding; expected 0 to {sample.segments}"

    def count(self, samples: Sequence[LaneSample], available: int) -> LaneCounts:
        """Count samples of each class, and where they are known, seconds of each class in each stream."""
        rows = Counter(label for sample in samples for label in self.used(sample))
        seen, heard, both = Counter[int](), Counter[int](), Counter[int]()
        timed = [sample for sample in samples if sample.seen is not None]
        busiest = 0
        for sample in timed:
            assert sample.seen is not None
            assert sample.heard is not None
            for one, other in zip(sample.seen, sample.heard, strict=True):
                seen.update(one)
                heard.update(other)
                both.update(set(one) & set(other))
                busiest = max(busiest, len(one), len(other))
        names = dict(enumerate(self.class_names))
        return LaneCounts(
            samples=len(samples),
            available=available,
            timed=len(timed),
            rows={name: rows[label] for label, name in names.items()},
            seconds=sum(sample.real for sample in timed),
            seen_seconds={name: seen[label] for label, name in names.items()},
            heard_seconds={name: heard[label] for label, name in names.items()},
            both_seconds={name: both[label] for label, name in names.items()},
            busiest=busiest,
        )

    def end_seconds(self, sample: LaneSample) -> float:
        """End of the last second with an event; 0 if no seconds are labelled."""
        pairs = zip(sample.seen or (), sample.heard or (), strict=True)
        ends = [second + 1 for second, pair in enumerate(pairs) if any(pair)]
        return sample.start_seconds + ends[-1] if ends else 0.0


def _all(lane: Lane | None) -> list[int]:
    """Every label of a lane, as often as it stands there."""
    return [label for second in lane or () for label in second]
