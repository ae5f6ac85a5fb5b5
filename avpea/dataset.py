"""What a data set is once its annotations are read: windows of videos with labels, or with questions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from avpea.questions import QuestionVocabulary

__all__ = [
    "MEDIA_SUFFIXES",
    "SPLITS",
    "Annotations",
    "CaptionSample",
    "EventSample",
    "Question",
    "QuestionSample",
    "Sample",
    "shortened",
]

SPLITS = ("train", "val", "test")

# Containers that people keep videos in; the first one listed wins when two files share a stem.
MEDIA_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts"),
    *(".flv", ".wmv", ".3gp", ".ogv"),
)


@dataclass(frozen=True)
class Sample:
    """One window of a video and what is known of it: an `EventSample`, `QuestionSample` or `CaptionSample`.

    Attributes:
        key: Unique in its data set and safe as a file name, for example `test-0012-VWi2ENBuTbw`.
        video_id: The data set's own name of the video; several samples may share it.
        video: The file, which need not exist: `SampleCache.fill` and `verify` say which are missing.
        start_seconds: Start of the window in the file.
        segments: One-second segments in the window.
        split: `train`, `val` or `test`.
        seconds: Which seconds of the file the segments are, as `DataConfig.seconds`.
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
class EventSample(Sample):
    """A window with a label for each of its seconds.

    Attributes:
        labels: Class index of each segment; `len(class_names)` is background. Segment s is
            [start_seconds + s, start_seconds + s + 1).
    """

    labels: tuple[int, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        if len(self.labels) != self.segments:
            raise ValueError(f"{self.key} has {len(self.labels)} labels for {self.segments} segments")


@dataclass(frozen=True)
class Question:
    """A question about a video, with its answer.

    Attributes:
        question_id: The data set's own; not always unique (MUSIC-AVQA's first test file repeats 55).
        type: For example `Audio-Visual Counting`: modality, then kind.
        template: The wording with its slots, for example `Is the <Object> in the video always playing?`.
        words: The tokens after the slots were filled, as `avpea.questions.tokenise` makes them.
        answer: As annotated.
    """

    question_id: str
    type: str
    template: str
    words: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class QuestionSample(Sample):
    """A video with all questions about it that are in the sample's split."""

    questions: tuple[Question, ...] = field(kw_only=True)

    @property
    def weight(self) -> int:
        """How many questions there are."""
        return len(self.questions)


@dataclass(frozen=True)
class CaptionSample(Sample):
    """A video with what people wrote about it."""

    captions: tuple[str, ...] = field(kw_only=True)


@dataclass(frozen=True)
class Annotations:
    """A whole data set as annotated; reading it opens no picture and no sound.

    Attributes:
        name: Name of the data set for people and result files.
        root: Folder of the data set, or the manifest's.
        class_names: Names in index order: event classes without background, or answers.
        splits: Samples of `train`, `val` and `test`, each in the order of its file.
        notes: Sentences that a reader of results should know: videos in two splits, empty rows ...
        questions: Words and answers of a data set of questions; None for one of events.
        sources: By split the annotation file and what identifies its version, where there are several.
    """

    name: str
    root: Path
    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[Sample, ...]]
    notes: tuple[str, ...] = ()
    questions: QuestionVocabulary | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def background(self) -> int:
        """Class index of the seconds that belong to no event."""
        return len(self.class_names)

    @property
    def kind(self) -> Literal["events", "questions", "captions"]:
        """What its videos are annotated with."""
        if self.questions is not None:
            return "questions"
        return "captions" if any(isinstance(sample, CaptionSample) for sample in self.samples) else "events"

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples: train, then val, then test."""
        return tuple(sample for split in SPLITS for sample in self.splits[split])

    def background_share(self, split: str) -> float:
        """Share of a split's seconds that are background: the score of always answering so.

        Returns:
            0 to 1; 0 for a split without samples.
        """
        events = [sample for sample in self.splits[split] if isinstance(sample, EventSample)]
        labels = [label for sample in events for label in sample.labels]
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
