"""A data set after its annotations are read: samples, and one object that describes their labels."""

import dataclasses
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from avpea.tables import how_many

__all__ = [
    "MEDIA_SUFFIXES",
    "SOUND_SUFFIXES",
    "SPLITS",
    "VIDEO_SUFFIXES",
    "Annotations",
    "Counts",
    "Division",
    "Labels",
    "Member",
    "Packed",
    "Precomputed",
    "Sample",
    "Shard",
    "read_plain",
    "shortened",
    "weight_of",
]

T = TypeVar("T")

SPLITS = ("train", "val", "test")

# File types that FFmpeg reads, without still pictures, subtitles and playlists; if two files share a stem, the type
# listed first wins.
VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts"),
    *(".flv", ".wmv", ".3gp", ".ogv"),
    *(".mts", ".m2ts", ".m2t", ".m2p", ".m2v", ".m1v", ".mpe", ".mpv", ".mod", ".tod", ".vob", ".trp", ".tp", ".evo"),
    *(".3g2", ".3gpp", ".mk3d", ".qt", ".f4v", ".ismv", ".insv", ".lrv", ".asf", ".wtv", ".dvr-ms", ".divx", ".xvid"),
    *(".mxf", ".gxf", ".nut", ".dv", ".dif", ".rm", ".rmvb", ".ogm", ".ogx", ".amv", ".mjpeg", ".mjpg", ".y4m", ".ivf"),
    *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".h266", ".266", ".vvc", ".obu", ".av1", ".gif", ".swf"),
)
SOUND_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".wma", ".mka", ".weba", ".aif", ".aiff"),
    *(".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".bwf", ".ac3", ".eac3", ".ec3", ".dts", ".thd", ".mp2"),
    *(".mp1", ".mpa", ".m4b", ".m4r", ".amr", ".awb", ".ape", ".wv", ".tta", ".tak", ".mpc", ".shn", ".ra", ".spx"),
    *(".adts", ".voc", ".gsm", ".dtshd", ".dsf", ".dff", ".adx", ".ast", ".aa3", ".oma"),
)
MEDIA_SUFFIXES = (*VIDEO_SUFFIXES, *SOUND_SUFFIXES)


@dataclass(frozen=True)
class Precomputed:
    """Where the features of a window are that others computed from the video.

    Attributes:
        visual: File of the feature maps of the frames: .h5 or .npy.
        audio: File of the vectors of the sound.
        row: Row of the sample in an .h5 file, whose table is `avadataset`; None for an .npy file of this sample alone.
    """

    visual: Path
    audio: Path
    row: int | None = None


@dataclass(frozen=True)
class Member:
    """A file inside of a shard.

    Attributes:
        name: Its name there.
        offset: Number of its first byte in the shard.
        size: Number of its bytes.
        sha256: Their hash, in hexadecimal.
    """

    name: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """A tar file of many samples.

    Attributes:
        place: The file, or its URL.
        size: Number of its bytes.
        sha256: Their hash, in hexadecimal.
        settings: How its samples were decoded before they were packed, as JSON; empty if they are the videos.
    """

    place: str
    size: int
    sha256: str
    settings: str = ""


@dataclass(frozen=True)
class Packed:
    """Where a sample is in the shards that `avpea data pack` wrote.

    Attributes:
        shard: The shard.
        members: Its video, and the file of its sound if that is another one; or its decoded frames and log-mel.
        file: What `avpea.data.identity` knows of its media files.
        reason: Why it was left out when the others were packed; empty if it was not.
        duration_seconds: Length of the video, if it was decoded.
        remarks: What was mended when it was decoded, in sentences.
    """

    shard: Shard
    members: tuple[Member, ...]
    file: str
    reason: str = ""
    duration_seconds: float = 0.0
    remarks: str = ""

    @property
    def decoded(self) -> bool:
        """Whether it was decoded before it was packed."""
        return bool(self.shard.settings)


@dataclass(frozen=True)
class Sample:
    """One window of a video; subclasses add its labels.

    Attributes:
        key: Name that is unique in the data set and safe as a file name, for example `test-0012-VWi2ENBuTbw`.
        video_id: Name of the video in the data set; several samples may share it.
        video: Video file, which may be missing: `SampleCache.fill` and `verify` report that.
        start_seconds: Start of the window in the file, in seconds.
        segments: Number of one-second segments in the window.
        split: `train`, `val` or `test`.
        seconds: Which seconds of the file to use, as in `SpreadOptions.seconds`; or `lavish`, as `media.moments` says.
        sound_seconds: Length of a segment's sound, if `seconds` is `lavish`.
        sound: File to take the sound from; None means the video itself.
        features: Features that are read instead of the video; None means that the video is.
        packed: Where in a shard it is; `video` and `sound` are then mere names. None means that they are files.
    """

    key: str
    video_id: str
    video: Path
    start_seconds: float
    segments: int
    split: str
    seconds: Literal["consecutive", "every", "linspace", "lavish"] = "consecutive"
    sound_seconds: float = 1.0
    sound: Path | None = None
    features: Precomputed | None = None
    packed: Packed | None = None

    @property
    def weight(self) -> int:
        """Number of answers that the sample needs, all of equal weight in the loss."""
        return 1

    @property
    def labels_past_end(self) -> bool:
        """Whether seconds after the end of a shorter video would have labels, and be scored, like all others."""
        return False

    def picture_files(self) -> tuple[Path, ...]:
        """Files of its frames, one per segment, where they are no part of the video; else none."""
        return ()

    def annotation_files(self) -> tuple[Path, ...]:
        """Files that its labels are in, where these are pictures; else none."""
        return ()

    def loaded(self, tensors: Mapping[str, Any]) -> "Sample":
        """The sample with what the cache holds of its labels; by default itself."""
        return self


def weight_of(samples: Iterable[Sample]) -> int:
    """Number of answers that samples need together."""
    return sum(sample.weight for sample in samples)


@dataclass(frozen=True)
class Counts(ABC):
    """Contents of a split, for `avpea data verify`.

    Attributes:
        samples: Number of samples.
        available: Number of samples whose video can be opened.
    """

    samples: int
    available: int

    @abstractmethod
    def line(self) -> str:
        """The counts in a sentence."""

    def unlabelled(self) -> tuple[str, ...]:
        """Names of labels that no sample of the split has."""
        return ()


@dataclass(frozen=True)
class Labels(ABC):
    """The labels of a data set: their kind and names, and how to count and store them.

    Attributes:
        kind: The kind of annotation, in the plural: `events`.
        outputs: What the entries of `names` are called: `classes`; empty if there are no names.
        samples: Class of the samples.
        splits_share_videos: Whether the data set has videos in several splits by design.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    kind: ClassVar[str]
    outputs: ClassVar[str] = ""
    samples: ClassVar[type[Sample]] = Sample
    splits_share_videos: ClassVar[bool] = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the head's outputs, in order."""
        return ()

    @classmethod
    @abstractmethod
    def typical(cls) -> Self:
        """Made-up labels, as many as in the best-known data set, for counting parameters and measuring cost."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The labels that `to_dict` was called on.

        Raises:
            ValueError: These are no such values: one is missing, unknown or of another type, or a name is empty or
                stands twice.
        """
        return cls.checked(read_plain(cls, values))

    @classmethod
    def checked(cls, labels: Self) -> Self:
        """The labels, if their names can be those of a head's outputs.

        Raises:
            ValueError: There is none, one is empty, or one stands twice.
        """
        names = labels.names
        if cls.outputs and not names:
            raise ValueError(f"there are no {cls.outputs}")
        for name, count in Counter(names).items():
            if not name or count > 1:
                raise ValueError(f"the name {name!r:.60} stands {count} times among the {cls.outputs}")
        return labels

    def told(self, sample: Any) -> str:
        """A sample's labels by their names, as text that differs whenever the labels do."""
        shared = {item.name for item in dataclasses.fields(Sample)}
        own = {name: value for name, value in dataclasses.asdict(sample).items() if name not in shared}
        return json.dumps(own, ensure_ascii=False, sort_keys=True, default=str)

    def fault(self, sample: Any) -> str:
        """What is wrong with a sample of a stranger's, for the end of a sentence; empty if nothing is."""
        return ""

    def unknown(self, samples: Sequence[Any], trained: Self) -> tuple[str, ...]:
        """Names in the labels of samples that a model trained on the labels `trained` cannot be evaluated on."""
        return ()

    def translated(self, samples: Sequence[Any], trained: Self) -> tuple[Any, ...]:
        """The samples with their labels numbered as in `trained`; the labels of none are `unknown`."""
        return tuple(samples)

    @abstractmethod
    def count(self, samples: Sequence[Any], available: int) -> Counts:
        """Count the labels of a split, of whose samples `available` have a video that opens."""

    def overview(self, splits: Mapping[str, Sequence[Any]]) -> list[str]:
        """What a training is about to use, in sentences, and a warning where it is little."""
        counts = {split: len({sample.video_id for sample in samples}) for split, samples in splits.items()}
        return [f"Videos: {counts['train']} to train, {counts['val']} to validate, {counts['test']} to test."]

    def end_seconds(self, sample: Any) -> float:
        """End of a sample's last annotation in its file, in seconds; 0 if annotations have no times."""
        return 0.0


def read_plain(cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance of a dataclass from its plain values, as `dataclasses.asdict` makes them; nothing is converted.

    Raises:
        ValueError: A value is missing, unknown or of another type; the message names the first.
    """
    try:
        # In JSON a list stands for a tuple, which pydantic takes strictly only from there.
        made: T = _adapter(cast("Any", cls)).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first, place = error.errors()[0], ".".join(map(str, error.errors()[0]["loc"]))
        raise ValueError(f"'{place:.60}': {first['msg'].lower()}") from None
    return made


@cache
def _adapter(cls: Any) -> Any:
    return TypeAdapter(cls)


@dataclass(frozen=True)
class Division:
    """How videos without a split of their own are divided.

    Attributes:
        path: Where training keeps it, so that videos that are added later leave the others where they are.
        splits: The split of each video.
    """

    path: Path
    splits: Mapping[str, str]


@dataclass(frozen=True)
class Annotations:
    """All annotations of a data set; reading them opens no video.

    Attributes:
        name: Name of the data set in reports and result files.
        root: Folder of the data set, or of its manifest.
        labels: Labels of the data set.
        splits: Samples of `train`, `val` and `test`, in the order of their files.
        notes: Remarks on the annotations in sentences, such as videos in two splits or empty rows.
        sources: Annotation file and version of each split, for data sets with several versions.
        lost: Annotations that label nothing, each with the reason.
        division: How the videos were divided, if they were, and that can change with more of them.
    """

    name: str
    root: Path
    labels: Labels
    splits: Mapping[str, tuple[Sample, ...]]
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    division: Division | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples: train, then val, then test."""
        return tuple(sample for split in SPLITS for sample in self.splits[split])

    def told(self) -> list[str]:
        """What a training has to say about annotations that it cannot use, in sentences."""
        if not self.lost:
            return []
        many = how_many(len(self.lost), "annotation labels", "annotations label")
        return [f"{many} nothing, such as {self.lost[0]}; `avpea data verify` names all."]

    def videos_in_two_splits(self) -> dict[str, tuple[str, ...]]:
        """Video ids that occur in more than one split, by pair: `{"train/test": ("4aTSo1_x54C",)}`."""
        ids = {split: {sample.video_id for sample in self.splits[split]} for split in SPLITS}
        pairs = [("train", "val"), ("train", "test"), ("val", "test")]
        return {f"{a}/{b}": tuple(sorted(ids[a] & ids[b])) for a, b in pairs if ids[a] & ids[b]}

    def repeated_ids(self) -> tuple[str, ...]:
        """Ids of videos with several samples of the same window (in AVE: one video, two categories)."""
        windows = Counter((sample.video_id, sample.start_seconds) for sample in self.samples)
        return tuple(sorted({video_id for (video_id, _), count in windows.items() if count > 1}))


def shortened(items: list[str] | tuple[str, ...], limit: int = 5, between: str = ", ") -> str:
    """A list for use in a sentence: `a, b, c and 14 more`."""
    shown = between.join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
