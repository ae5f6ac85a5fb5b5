"""What a data set is once its annotations are read: samples, and one object that says what their labels are."""

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

__all__ = ["MEDIA_SUFFIXES", "SPLITS", "Annotations", "Counts", "Labels", "Sample", "shortened"]

SPLITS = ("train", "val", "test")

# Containers that people keep videos in; the first one listed wins when two files share a stem.
MEDIA_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts"),
    *(".flv", ".wmv", ".3gp", ".ogv"),
)


@dataclass(frozen=True)
class Sample:
    """One window of a video; a subclass says what is known of it.

    Attributes:
        key: Unique in its data set and safe as a file name, for example `test-0012-VWi2ENBuTbw`.
        video_id: The data set's own name of the video; several samples may share it.
        video: The file, which need not exist: `SampleCache.fill` and `verify` say which are missing.
        start_seconds: Start of the window in the file.
        segments: One-second segments in the window.
        split: `train`, `val` or `test`.
        seconds: Which seconds of the file the segments are, as `SpreadOptions.seconds`.
        sound: The file whose sound is heard instead of the video's own; None means its own.
    """

    key: str
    video_id: str
    video: Path
    start_seconds: float
    segments: int
    split: str
    seconds: Literal["consecutive", "every", "linspace"] = "consecutive"
    sound: Path | None = None

    @property
    def weight(self) -> int:
        """How many answers it asks for, of equal weight in a loss."""
        return 1


@dataclass(frozen=True)
class Counts(ABC):
    """What a split holds, for `avpea data verify`.

    Attributes:
        samples: Rows, or windows of a manifest.
        available: Those whose video can be opened.
    """

    samples: int
    available: int

    @abstractmethod
    def line(self) -> str:
        """In a sentence."""

    def unlabelled(self) -> tuple[str, ...]:
        """Names of labels that no sample of the split has."""
        return ()


@dataclass(frozen=True)
class Labels(ABC):
    """What the labels of a data set are: their kind, their names, and how they are counted and stored.

    Attributes:
        kind: What videos are annotated with, as a plural: `events`.
        outputs: What a head that chooses among `names` chooses: `classes`; empty where it does not choose.
        splits_share_videos: Whether a video may be in several splits by design.
    """

    kind: ClassVar[str]
    outputs: ClassVar[str] = ""
    splits_share_videos: ClassVar[bool] = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what a head chooses among, in the order of its outputs."""
        return ()

    @classmethod
    @abstractmethod
    def typical(cls) -> Self:
        """Made-up labels of the size of the best-known data set, to count parameters and measure with."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `from_dict` makes the same labels."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_dict` gave."""
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})

    def complaint(self, trained: Self) -> str:
        """Why a model that was trained on other labels cannot be evaluated on these; empty where it can."""
        return ""

    @abstractmethod
    def count(self, samples: Sequence[Any], available: int) -> Counts:
        """What a split's samples hold, of which so many have a video that opens."""

    def end_seconds(self, sample: Any) -> float:
        """Where the last thing ends that a sample is annotated with, in its file; 0 where nothing has a time."""
        return 0.0


@dataclass(frozen=True)
class Annotations:
    """A whole data set as annotated; reading it opens no picture and no sound.

    Attributes:
        name: Name of the data set for people and result files.
        root: Folder of the data set, or the manifest's.
        labels: What the samples are labelled with.
        splits: Samples of `train`, `val` and `test`, each in the order of its file.
        notes: Sentences that a reader of results should know: videos in two splits, empty rows ...
        sources: By split the annotation file and what identifies its version, where there are several.
    """

    name: str
    root: Path
    labels: Labels
    splits: Mapping[str, tuple[Sample, ...]]
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples: train, then val, then test."""
        return tuple(sample for split in SPLITS for sample in self.splits[split])

    def videos_in_two_splits(self) -> dict[str, tuple[str, ...]]:
        """Video ids that occur in more than one split, by pair: `{"train/test": ("4aTSo1_x54C",)}`."""
        ids = {split: {sample.video_id for sample in self.splits[split]} for split in SPLITS}
        pairs = [("train", "val"), ("train", "test"), ("val", "test")]
        return {f"{a}/{b}": tuple(sorted(ids[a] & ids[b])) for a, b in pairs if ids[a] & ids[b]}

    def repeated_ids(self) -> tuple[str, ...]:
        """Video ids that more than one sample of a window has (AVE: one video, two categories)."""
        windows = Counter((sample.video_id, sample.start_seconds) for sample in self.samples)
        return tuple(sorted({video_id for (video_id, _), count in windows.items() if count > 1}))


def shortened(items: list[str] | tuple[str, ...], limit: int = 5) -> str:
    """Write a list for a sentence: `a, b, c and 14 more`."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
