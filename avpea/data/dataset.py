"""What a data set is once its annotations are read: windows of videos with a label for each second."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MEDIA_SUFFIXES", "SPLITS", "Annotations", "Sample", "shortened"]

SPLITS = ("train", "val", "test")

# Containers that people keep videos in; the first one listed wins when two files share a stem.
MEDIA_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts"),
    *(".flv", ".wmv", ".3gp", ".ogv"),
)


@dataclass(frozen=True)
class Sample:
    """One row of a data set: a window of a video with a label for each of its seconds.

    Attributes:
        key: Unique in its data set and safe as a file name, for example `test-0012-VWi2ENBuTbw`.
        video_id: The data set's own name of the video; several samples may share it.
        video: The file, which need not exist: `SampleCache.fill` and `verify` say which are missing.
        start_seconds: Start of the window in the file.
        segments: One-second segments in the window; segment s is [start_seconds + s, start_seconds + s + 1).
        labels: Class index of each segment; `len(class_names)` is background.
        split: `train`, `val` or `test`.
    """

    key: str
    video_id: str
    video: Path
    start_seconds: float
    segments: int
    labels: tuple[int, ...]
    split: str

    def __post_init__(self) -> None:
        if len(self.labels) != self.segments:
            raise ValueError(f"{self.key} has {len(self.labels)} labels for {self.segments} segments")


@dataclass(frozen=True)
class Annotations:
    """A whole data set as annotated; reading it opens no picture and no sound.

    Attributes:
        name: Name of the data set for people and result files.
        root: Folder of the data set, or the manifest's.
        class_names: Names in index order, without background.
        splits: Samples of `train`, `val` and `test`, each in the order of its file.
        notes: Sentences that a reader of results should know: videos in two splits, empty rows ...
    """

    name: str
    root: Path
    class_names: tuple[str, ...]
    splits: dict[str, tuple[Sample, ...]]
    notes: tuple[str, ...] = ()

    @property
    def background(self) -> int:
        """Class index of the seconds that belong to no event."""
        return len(self.class_names)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples: train, then val, then test."""
        return tuple(sample for split in SPLITS for sample in self.splits[split])

    def background_share(self, split: str) -> float:
        """Share of a split's seconds that are background: the score of always answering so.

        Returns:
            0 to 1; 0 for a split without samples.
        """
        labels = [label for sample in self.splits[split] for label in sample.labels]
        return labels.count(self.background) / len(labels) if labels else 0.0

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
