"""What is found in the files of a data set, one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avpea.data._masks import mask_faults
from avpea.data._reading import heard_only, read_sample, seen_only, tracks
from avpea.data._work import run
from avpea.errors import MediaError, MissingFile
from avpea.labels import VIDEO_SUFFIXES, Annotations, MaskSample, Sample
from avpea.media import MediaInfo, probe, require_file, segments_in
from avpea.media import read as read_media
from avpea.sections import ReaderOptions

__all__ = ["FEW_PROBES", "TINY", "Examined", "Lengths", "Pictures", "examine", "extra_videos", "is_missing", "lengths"]

# Opening a file takes milliseconds, starting a process seconds.
FEW_PROBES = 500
TINY = (16, 16)  # height and width of frames that are only decoded to see whether they can be


@dataclass(frozen=True)
class Examined:
    """What was found in a file: what it contains, or the reason why it cannot be used; and what was mended."""

    reason: str
    info: MediaInfo | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pictures:
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
    def of(cls, annotations: Annotations, workers: int, progress: bool) -> "Pictures":
        """Look at all of them."""
        files = {s.key: (*s.picture_files(), *s.annotation_files()) for s in annotations.samples}
        lacking = {key: [str(path) for path in some if is_missing(path)] for key, some in files.items()}
        lacking = {key: paths for key, paths in lacking.items() if paths}
        jobs = [s for s in annotations.samples if files[s.key] and not is_missing(s.video)]
        crashed = "the decoder crashed on one of its pictures"
        found = run(
            _examine_pictures, jobs, workers=workers, crashed=lambda job: ({job.key: f"{job.key}: {crashed}"}, ()),
            title="Reading masks", progress=progress, few=FEW_PROBES,
        )  # fmt: skip
        looked = {sample.key: examined for sample, examined in found}
        broken = {file: reason for s in jobs for file, reason in looked[s.key][0].items()}
        repaired = {s.key: " ".join(looked[s.key][1]) for s in jobs if looked[s.key][1]}
        missing = tuple(dict.fromkeys(path for paths in lacking.values() for path in paths))
        return cls(missing, broken, repaired, frozenset({*lacking, *(s.key for s in jobs if looked[s.key][0])}))


def _examine_pictures(sample: Sample) -> tuple[dict[str, str], tuple[str, ...]]:
    """Faults of those of a sample's pictures and masks that are there, by file, and remarks."""
    faults = {}
    for path in sample.picture_files():
        try:
            probe(path)
        except MissingFile:
            continue
        except MediaError as error:
            faults[str(path)] = str(error)
    if faults or not isinstance(sample, MaskSample):
        return faults, ()
    return mask_faults(sample)


def is_missing(video: Path) -> bool:
    try:
        require_file(video)
    except MissingFile:
        return True
    except MediaError:
        return False
    return False


def examine(job: tuple[Path, tuple[Sample, ...]], decode: bool, config: ReaderOptions) -> Examined:
    """Open a file, or decode it to its end and read its samples."""
    video, samples = job
    used = _as_used(video, samples, config)
    try:
        info = probe(video, **tracks(used))
        if not decode:
            return Examined("", info, info.remarks)
        found = _decoded(video, info, used)
        heard = info.has_audio or used.missing_audio == "silence"
        seen = info.has_video or used.missing_video == "black"
        for sample in samples:
            if not found.reason and heard and seen and sample.video == video:
                read_sample(sample, config, TINY)
        return found
    except MediaError as error:
        return Examined(str(error))


def _as_used(video: Path, samples: Sequence[Sample], config: ReaderOptions) -> ReaderOptions:
    """How a file is read for its samples, which may use its picture alone, or its sound alone."""
    heard = any(video == (sample.sound or sample.video) for sample in samples)
    seen = any(video == sample.video and not sample.picture_files() for sample in samples)
    if heard and seen:
        return config
    return heard_only(config) if heard else seen_only(config)


def _decoded(video: Path, info: MediaInfo, used: ReaderOptions) -> Examined:
    clip = read_media(
        video,
        frame_size=TINY,
        missing_audio=used.missing_audio if info.has_audio else "silence",
        missing_video=used.missing_video if info.has_video else "black",
        **tracks(used),
    )
    if clip.cut_off:
        return Examined(
            f"{video}: decodes only to {clip.duration_seconds:.1f} of {clip.declared_seconds:.1f} s", info, clip.repairs
        )
    return Examined("", info, clip.repairs)


@dataclass(frozen=True)
class Lengths:
    """Which files are shorter than they should be.

    Attributes:
        too_short: Reason by file, for files that end before one of their events.
        padded: The other files that end before one of their windows.
        past_end: Files whose labels go on after their end.
    """

    too_short: dict[str, str]
    padded: tuple[str, ...]
    past_end: tuple[str, ...]


def lengths(
    annotations: Annotations, opened: Mapping[Path, MediaInfo], by_video: Mapping[Path, list[Sample]]
) -> Lengths:
    """Compare the files with their samples."""
    too_short: dict[str, str] = {}
    padded, past_end = [], []
    for video, info in opened.items():
        seconds = segments_in(info.duration_seconds)
        events = max(annotations.labels.end_seconds(sample) for sample in by_video[video])
        shorter = [
            sample
            for sample in by_video[video]
            if sample.start_seconds + (len(sample.picture_files()) or sample.segments) > seconds
        ]
        if events > seconds:
            too_short[str(video)] = f"{video} lasts {info.duration_seconds:.1f} s, annotated to {events:g} s"
        elif shorter:
            padded.append(str(video))
        if any(sample.labels_past_end for sample in shorter):
            past_end.append(str(video))
    return Lengths(too_short, tuple(padded), tuple(past_end))


def extra_videos(by_video: Mapping[Path, list[Sample]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
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
