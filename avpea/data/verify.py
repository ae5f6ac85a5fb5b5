"""Checking a data set before training: what is missing, broken, or not as annotated."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpea.data._masks import mask_faults
from avpea.data._reading import as_options, read_sample, tracks
from avpea.data._work import run
from avpea.data.features import FeatureStore
from avpea.data.packed import require_whole, unpacked
from avpea.errors import DataError, MediaError, MissingFile
from avpea.labels import SPLITS, VIDEO_SUFFIXES, Annotations, Counts, MaskSample, Sample, Shard, shortened
from avpea.media import MediaInfo, probe, require_file, segments_in
from avpea.media import read as read_media
from avpea.sections import ReaderOptions

__all__ = ["VerifyReport", "verify"]

# Opening a file takes milliseconds, starting a process seconds.
_FEW_PROBES = 500
_FEW_DECODES = 8
_TINY = (16, 16)  # height and width of frames that are only decoded to see whether they can be
_SHOWN = 10  # sentences of a kind on the terminal


@dataclass(frozen=True)
class VerifyReport:
    """The findings of `verify`; files are given as paths.

    Attributes:
        name: Name of the data set.
        root: Folder of the data set.
        splits: Counts by split.
        classes: Number of event classes or answers.
        outputs: What `classes` counts; empty if the labels are no classes.
        videos: Number of different video files in the annotations.
        missing: Files that do not exist.
        broken: Reason by file, for files that cannot be opened (or, if requested, decoded).
        no_audio: Files without a sound track; a fault unless silence is allowed for it.
        no_video: Files without a picture; a fault unless black frames are allowed for it.
        repaired: Sentences by file, for files that are not read as they are: time stamps that jump, sound that is NaN.
        too_short: Reason by file, for files that end before one of their events does.
        padded: Files shorter than their window; the rest of it is the last frame and silence, as background.
        repeated: Video ids with several samples for the same window.
        overlaps: Video ids that are in two splits, by pair of splits.
        unlabelled: Classes without an event, by split.
        extra: Videos in the same folders that are not annotated.
        unreadable: Folders of videos that cannot be listed, with the reason.
        decoded: Whether every file was decoded to its end, and every sample read as in training.
        allowed: What may be missing by the settings: `audio`, `video`.
        notes: Notes of the reader of the annotations.
        lost: Annotations that label nothing, such as events that are too short, each with the reason.
    """

    name: str
    root: str
    splits: dict[str, Counts]
    classes: int
    outputs: str
    videos: int
    missing: tuple[str, ...]
    broken: dict[str, str]
    no_audio: tuple[str, ...]
    no_video: tuple[str, ...]
    repaired: dict[str, str]
    too_short: dict[str, str]
    padded: tuple[str, ...]
    repeated: tuple[str, ...]
    overlaps: dict[str, tuple[str, ...]]
    unlabelled: dict[str, tuple[str, ...]]
    extra: tuple[str, ...]
    unreadable: tuple[str, ...]
    decoded: bool
    allowed: tuple[str, ...]
    notes: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every annotated second can be read, picture and sound; remarks such as overlaps do not count."""
        lacking = [files for kind, files in self._lacking().items() if kind not in self.allowed]
        return not (self.missing or self.broken or any(lacking) or self.too_short)

    def _lacking(self) -> dict[str, tuple[str, ...]]:
        return {"audio": self.no_audio, "video": self.no_video}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with `ok`."""
        return {"ok": self.ok, **dataclasses.asdict(self)}

    def lines(self) -> list[str]:
        """Sentences for the terminal: counts, then faults, then remarks."""
        return [*self._count_lines(), *self._fault_lines(), *self._remark_lines()]

    def _count_lines(self) -> list[str]:
        named = f", {self.classes} {self.outputs}" if self.outputs else ""
        lines = [f"{self.name} in {self.root}: {self.videos} videos{named}."]
        return lines + [
            f"{split}: {counts.line() if counts.samples else 'no samples.'}" for split, counts in self.splits.items()
        ]

    def _fault_lines(self) -> list[str]:
        faults: list[tuple[str, tuple[str, ...]]] = [
            ("Missing", self.missing),
            ("Broken", tuple(self.broken.values())),
            ("Without sound", self.no_audio if "audio" not in self.allowed else ()),
            ("Without picture", self.no_video if "video" not in self.allowed else ()),
            ("Shorter than annotated", tuple(self.too_short.values())),
        ]
        lines = [as_options(f"{what}: {len(files)} ({shortened(files)}).") for what, files in faults if files]
        how = "decodes to its end" if self.decoded else "opens"
        return lines or [f"Every annotated video is there and {how}."]

    def _remark_lines(self) -> list[str]:
        lines = [f"Remark: {note}" for note in self.notes]
        if self.lost:
            lines.append(f"Remark: {len(self.lost)} events label no second, and are lost to training:")
            lines += [f"  {one}." for one in self.lost[:_SHOWN]]
            lines += ["  …; --json names all of them."] * (len(self.lost) > _SHOWN)
        for split, names in self.unlabelled.items():
            lines.append(f"Remark: {split} has no event of {len(names)} classes: {shortened(names)}.")
        for kind, what in (("audio", "without sound get silence"), ("video", "without a picture get black frames")):
            if kind in self.allowed and self._lacking()[kind]:
                files = self._lacking()[kind]
                lines.append(f"Remark: {len(files)} files {what}: {shortened(files)}.")
        lines += [f"Remark: {video}: {remarks}" for video, remarks in list(self.repaired.items())[:_SHOWN]]
        if len(self.repaired) > _SHOWN:
            lines.append(f"Remark: {len(self.repaired) - _SHOWN} more files are mended like this; --json names all.")
        lines += [f"Remark: {folder}." for folder in self.unreadable]
        if self.padded:
            lines.append(
                f"Remark: {len(self.padded)} videos are shorter than their window; the rest is the last picture and "
                f"silence, without a label: {shortened(self.padded)}."
            )
        if self.extra:
            lines.append(f"Remark: {len(self.extra)} videos are not annotated: {shortened(self.extra)}.")
        return lines


def verify(
    annotations: Annotations,
    decode: bool = False,
    workers: int = 2,
    progress: bool = True,
    config: ReaderOptions | None = None,
) -> VerifyReport:
    """Check every annotated video.

    Args:
        annotations: The data set.
        decode: Whether to decode each file to its end, and to read each sample as in training, which finds damage
            inside; else only headers, and packets where headers do not give the length.
        workers: Number of processes; 0 means this one.
        progress: Whether to show a progress bar on stderr.
        config: How training would read the videos: which tracks, and what may be missing; None for the defaults.

    Raises:
        DataError: The processes cannot be started.
    """
    config = config or ReaderOptions()
    if any(sample.features is not None for sample in annotations.samples):
        return _of_features(annotations)
    if any(sample.packed is not None for sample in annotations.samples):
        return _of_shards(annotations, decode, workers, progress, config)
    by_video: dict[Path, list[Sample]] = {}
    for sample in annotations.samples:
        for file in (sample.video, sample.sound):
            if file is not None:
                by_video.setdefault(file, []).append(sample)
    pictures = _Pictures.of(annotations, workers, progress)
    missing = [video for video in by_video if _is_missing(video)]
    examine = functools.partial(_examine, decode=decode, config=config)
    results = run(
        examine,
        [(video, tuple(by_video[video])) for video in by_video if video not in set(missing)],
        workers=workers,
        crashed=lambda job: _Examined(f"{job[0]}: the decoder crashed on it"),
        title="Decoding videos" if decode else "Opening videos",
        progress=progress,
        few=_FEW_DECODES if decode else _FEW_PROBES,
    )
    found = {video: examined for (video, _), examined in results}
    infos = {video: found[video] for video in by_video if video in found}
    opened = {video: one.info for video, one in infos.items() if one.info is not None and not one.reason}
    too_short, padded = _lengths(annotations, opened, by_video)
    extra, unreadable = _extra(by_video)
    labels, splits = annotations.labels, annotations.splits
    usable = {sample.key for sample in annotations.samples if sample.video in opened} - pictures.unusable
    counts = {
        split: labels.count(splits[split], sum(sample.key in usable for sample in splits[split])) for split in SPLITS
    }
    seen = {sample.video for sample in annotations.samples if not sample.picture_files()}
    return VerifyReport(
        name=annotations.name,
        root=str(annotations.root),
        splits=counts,
        classes=len(labels.names),
        outputs=labels.outputs,
        videos=len(by_video),
        missing=(*map(str, missing), *pictures.missing),
        broken={str(video): one.reason for video, one in infos.items() if one.reason} | pictures.broken,
        no_audio=tuple(str(video) for video, info in opened.items() if not info.has_audio),
        no_video=tuple(str(video) for video, info in opened.items() if not info.has_video and video in seen),
        repaired={str(video): " ".join(one.remarks) for video, one in infos.items() if one.remarks} | pictures.repaired,
        too_short=too_short,
        padded=padded,
        repeated=annotations.repeated_ids(),
        overlaps={} if labels.splits_share_videos else annotations.videos_in_two_splits(),
        unlabelled={split: names for split, found in counts.items() if found.samples and (names := found.unlabelled())},
        extra=extra,
        unreadable=unreadable,
        decoded=decode,
        allowed=_allowed(config),
        notes=annotations.notes,
        lost=annotations.lost,
    )


def _of_features(annotations: Annotations) -> VerifyReport:
    """The report on a data set of precomputed features: whether their files have the rows that are asked for."""
    samples, labels = annotations.samples, annotations.labels
    files = {path for sample in samples if (found := sample.features) for path in (found.visual, found.audio)}
    broken = FeatureStore(0, 0).fill(samples).broken
    counts = {
        split: labels.count(some, sum(sample.key not in broken for sample in some))
        for split, some in annotations.splits.items()
    }
    missing = tuple(sorted(str(path) for path in files if not path.is_file()))
    reasons = {key: reason for key, reason in broken.items() if "no such file" not in reason}
    videos = len({sample.video_id for sample in samples})
    return _report_without_media(annotations, counts, videos, missing, reasons, decoded=False)


def _report_without_media(
    annotations: Annotations,
    counts: dict[str, Counts],
    videos: int,
    missing: tuple[str, ...],
    broken: dict[str, str],
    decoded: bool,
) -> VerifyReport:
    """The report on a data set of which no media file was opened by itself."""
    labels = annotations.labels
    return VerifyReport(
        name=annotations.name,
        root=str(annotations.root),
        splits=counts,
        classes=len(labels.names),
        outputs=labels.outputs,
        videos=videos,
        missing=missing,
        broken=broken,
        no_audio=(),
        no_video=(),
        repaired={},
        too_short={},
        padded=(),
        repeated=annotations.repeated_ids(),
        overlaps={} if labels.splits_share_videos else annotations.videos_in_two_splits(),
        unlabelled={split: names for split, found in counts.items() if found.samples and (names := found.unlabelled())},
        extra=(),
        unreadable=(),
        decoded=decoded,
        allowed=(),
        notes=annotations.notes,
        lost=annotations.lost,
    )


def _of_shards(
    annotations: Annotations, decode: bool, workers: int, progress: bool, config: ReaderOptions
) -> VerifyReport:
    """The report on shards: whether each is whole, every byte of it, and if asked for, whether its videos decode."""
    samples, labels = annotations.samples, annotations.labels
    every = {sample.packed.shard: sample for sample in samples if sample.packed is not None}
    broken: dict[str, str] = {}
    crashed = "the process that read it ended."
    checks = run(
        _shard_fault, list(every), workers=workers, crashed=lambda _: crashed, title="Reading shards", progress=progress
    )
    for shard, reason in checks:
        if reason:
            broken[shard.place] = reason
    kept = [s for s in samples if s.packed is not None and s.packed.shard.place not in broken]
    left_out = {s.key for s in kept if s.packed is not None and s.packed.reason}
    missing = {str(s.video): None for s in kept if s.key in left_out}
    if decode and not any(shard.settings for shard in every):
        examine = functools.partial(_decoded_from_shard, config=config)
        jobs = [sample for sample in kept if sample.key not in left_out]
        gone = "the decoder crashed on it"
        for sample, reason in run(
            examine, jobs, workers=workers, crashed=lambda job: f"{job.video}: {gone}", title="Decoding videos",
            progress=progress,
        ):  # fmt: skip
            if reason:
                broken[sample.key] = reason
    usable = {sample.key for sample in kept if sample.key not in broken} - left_out
    counts = {
        split: labels.count(some, sum(sample.key in usable for sample in some))
        for split, some in annotations.splits.items()
    }
    return _report_without_media(
        annotations, counts, len({str(s.video) for s in samples}), tuple(missing), broken, decode
    )


def _shard_fault(shard: Shard) -> str:
    """What is wrong with a shard; empty if nothing is."""
    try:
        require_whole(shard)
    except DataError as error:
        return str(error)
    return ""


def _decoded_from_shard(sample: Sample, config: ReaderOptions) -> str:
    """Why a sample of a shard cannot be decoded; empty if it can."""
    try:
        with unpacked(sample) as here:
            read_sample(here, config, _TINY)
    except (MediaError, DataError) as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class _Examined:
    """What was found in a file: what it contains, or the reason why it cannot be used; and what was mended."""

    reason: str
    info: MediaInfo | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pictures:
    """What was found in pictures that belong to samples: their frames, and their masks.

    Attributes:
        missing: Files that do not exist.
        broken: Reason by file.
        repaired: Remarks by sample key.
        unusable: Keys of samples that cannot be used.
    """

    missing: tuple[str, ...] = ()
    broken: dict[str, str] = field(default_factory=dict)
    repaired: dict[str, str] = field(default_factory=dict)
    unusable: frozenset[str] = frozenset()

    @classmethod
    def of(cls, annotations: Annotations, workers: int, progress: bool) -> "_Pictures":
        """Look at all of them."""
        files = {s.key: (*s.picture_files(), *s.annotation_files()) for s in annotations.samples}
        lacking = {key: [str(path) for path in some if _is_missing(path)] for key, some in files.items()}
        lacking = {key: paths for key, paths in lacking.items() if paths}
        jobs = [s for s in annotations.samples if files[s.key] and s.key not in lacking and not _is_missing(s.video)]
        crashed = "the decoder crashed on one of its pictures"
        found = run(
            _examine_pictures, jobs, workers=workers, crashed=lambda job: ({job.key: f"{job.key}: {crashed}"}, ()),
            title="Reading masks", progress=progress, few=_FEW_PROBES,
        )  # fmt: skip
        looked = {sample.key: examined for sample, examined in found}
        broken = {file: reason for s in jobs for file, reason in looked[s.key][0].items()}
        repaired = {s.key: " ".join(looked[s.key][1]) for s in jobs if looked[s.key][1]}
        missing = tuple(dict.fromkeys(path for paths in lacking.values() for path in paths))
        return cls(missing, broken, repaired, frozenset({*lacking, *(s.key for s in jobs if looked[s.key][0])}))


def _examine_pictures(sample: Sample) -> tuple[dict[str, str], tuple[str, ...]]:
    """Faults of a sample's pictures and masks, by file, and remarks."""
    faults = {}
    for path in sample.picture_files():
        try:
            probe(path)
        except MediaError as error:
            faults[str(path)] = str(error)
    if faults or not isinstance(sample, MaskSample):
        return faults, ()
    return mask_faults(sample)


def _allowed(config: ReaderOptions) -> tuple[str, ...]:
    values = {"audio": config.missing_audio, "video": config.missing_video}
    return tuple(kind for kind, value in values.items() if value != "error")


def _is_missing(video: Path) -> bool:
    try:
        require_file(video)
    except MissingFile:
        return True
    except MediaError:
        return False
    return False


def _examine(job: tuple[Path, tuple[Sample, ...]], decode: bool, config: ReaderOptions) -> _Examined:
    """Open a file, or decode it to its end and read its samples."""
    video, samples = job
    try:
        info = probe(video, **tracks(config))
        return _decoded(video, samples, info, config) if decode else _Examined("", info, info.remarks)
    except MediaError as error:
        return _Examined(str(error))


def _decoded(video: Path, samples: Sequence[Sample], info: MediaInfo, config: ReaderOptions) -> _Examined:
    clip = read_media(
        video,
        frame_size=_TINY,
        missing_audio=config.missing_audio if info.has_audio else "silence",
        missing_video=config.missing_video if info.has_video else "black",
        **tracks(config),
    )
    if clip.cut_off:
        return _Examined(
            f"{video}: decodes only to {clip.duration_seconds:.1f} of {clip.declared_seconds:.1f} s", info, clip.repairs
        )
    heard, seen = info.has_audio or config.missing_audio == "silence", info.has_video or config.missing_video == "black"
    for sample in samples:
        if heard and (seen or sample.picture_files()) and sample.video == video:
            read_sample(sample, config, _TINY)
    return _Examined("", info, clip.repairs)


def _lengths(
    annotations: Annotations, opened: Mapping[Path, MediaInfo], by_video: Mapping[Path, list[Sample]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Files that end before one of their events, and files that end before one of their windows."""
    too_short: dict[str, str] = {}
    padded = []
    for video, info in opened.items():
        seconds = segments_in(info.duration_seconds)
        events = max(annotations.labels.end_seconds(sample) for sample in by_video[video])
        if events > seconds:
            too_short[str(video)] = f"{video} lasts {info.duration_seconds:.1f} s, annotated to {events:g} s"
        elif max(sample.start_seconds + sample.segments for sample in by_video[video]) > seconds:
            padded.append(str(video))
    return too_short, tuple(padded)


def _extra(by_video: Mapping[Path, list[Sample]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Videos in the same folders as annotated ones that are not annotated, and folders that cannot be listed."""
    named = {video.absolute() for video in by_video}
    extra, unreadable = [], []
    for folder in sorted({video.parent for video in named}):
        try:
            beside = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue  # its videos are missing, and said to be
        except OSError as error:
            unreadable.append(f"{folder} cannot be listed: {error.strerror}")
            continue
        videos = [path for path in beside if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()]
        extra += [str(path) for path in videos if path not in named]
    return tuple(extra), tuple(unreadable)
