"""Checking a data set before training: what is missing, broken, or not as annotated."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.data._work import run
from avpea.errors import MediaError
from avpea.labels import MEDIA_SUFFIXES, SPLITS, Annotations, Counts, Sample, shortened
from avpea.media import MediaInfo, probe, segments_in
from avpea.media import read as read_media

__all__ = ["VerifyReport", "verify"]

# Opening a file takes milliseconds, starting a process seconds.
_FEW_PROBES = 500
_FEW_DECODES = 8


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
        no_audio: Files without a sound track.
        no_video: Files without a picture.
        too_short: Reason by file, for files that end before one of their events does.
        padded: Files shorter than their window; the rest of it is the last frame and silence, as background.
        repeated: Video ids with several samples for the same window.
        overlaps: Video ids that are in two splits, by pair of splits.
        unlabelled: Classes without an event, by split.
        extra: Videos in the same folders that are not annotated.
        decoded: Whether every file was decoded to its end, not only opened.
        notes: Notes of the reader of the annotations.
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
    too_short: dict[str, str]
    padded: tuple[str, ...]
    repeated: tuple[str, ...]
    overlaps: dict[str, tuple[str, ...]]
    unlabelled: dict[str, tuple[str, ...]]
    extra: tuple[str, ...]
    decoded: bool
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every annotated second can be read, picture and sound; remarks such as overlaps do not count."""
        return not (self.missing or self.broken or self.no_audio or self.no_video or self.too_short)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with `ok`."""
        return {"ok": self.ok, **dataclasses.asdict(self)}

    def lines(self) -> list[str]:
        """Sentences for the terminal: counts, then faults, then remarks."""
        return [*self._count_lines(), *self._fault_lines(), *self._remark_lines()]

    def _count_lines(self) -> list[str]:
        named = f", {self.classes} {self.outputs}" if self.outputs else ""
        lines = [f"{self.name} in {self.root}: {self.videos} videos{named}."]
        return lines + [f"{split}: {counts.line()}" for split, counts in self.splits.items()]

    def _fault_lines(self) -> list[str]:
        faults: list[tuple[str, tuple[str, ...]]] = [
            ("Missing", self.missing),
            ("Broken", tuple(self.broken.values())),
            ("Without sound", self.no_audio),
            ("Without picture", self.no_video),
            ("Shorter than annotated", tuple(self.too_short.values())),
        ]
        lines = [f"{what}: {len(files)} ({shortened(files)})." for what, files in faults if files]
        how = "decodes to its end" if self.decoded else "opens"
        return lines or [f"Every annotated video is there and {how}."]

    def _remark_lines(self) -> list[str]:
        lines = [f"Remark: {note}" for note in self.notes]
        for split, names in self.unlabelled.items():
            lines.append(f"Remark: {split} has no event of {len(names)} classes: {shortened(names)}.")
        if self.padded:
            lines.append(
                f"Remark: {len(self.padded)} videos are shorter than their window; the rest is the last picture and "
                f"silence, without a label: {shortened(self.padded)}."
            )
        if self.extra:
            lines.append(f"Remark: {len(self.extra)} videos are not annotated: {shortened(self.extra)}.")
        return lines


def verify(annotations: Annotations, decode: bool = False, workers: int = 2, progress: bool = True) -> VerifyReport:
    """Check every annotated video.

    Args:
        annotations: The data set.
        decode: Whether to decode each file to its end, which finds damage inside; else only headers are read.
        workers: Number of processes; 0 means this one.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DataError: The processes cannot be started.
    """
    samples = annotations.samples
    by_video: dict[Path, list[Sample]] = {}
    for sample in samples:
        for file in (sample.video, sample.sound):
            if file is not None:
                by_video.setdefault(file, []).append(sample)
    existing = [video for video in by_video if video.is_file()]
    examine: Callable[[Path], MediaInfo | str] = functools.partial(_examine, decode=decode)
    results = run(
        examine,
        existing,
        workers=workers,
        crashed=lambda video: f"{video}: the decoder crashed on it",
        title="Decoding videos" if decode else "Opening videos",
        progress=progress,
        few=_FEW_DECODES if decode else _FEW_PROBES,
    )
    found = dict(results)
    infos = {video: found[video] for video in existing}
    opened = {video: info for video, info in infos.items() if isinstance(info, MediaInfo)}
    too_short, padded = _lengths(annotations, opened, by_video)
    labels, splits = annotations.labels, annotations.splits
    counts = {
        split: labels.count(splits[split], sum(sample.video in opened for sample in splits[split])) for split in SPLITS
    }
    return VerifyReport(
        name=annotations.name,
        root=str(annotations.root),
        splits=counts,
        classes=len(labels.names),
        outputs=labels.outputs,
        videos=len(by_video),
        missing=tuple(str(video) for video in by_video if video not in infos),
        broken={str(video): reason for video, reason in infos.items() if isinstance(reason, str)},
        no_audio=tuple(str(video) for video, info in opened.items() if not info.has_audio),
        no_video=tuple(str(video) for video, info in opened.items() if not info.has_video),
        too_short=too_short,
        padded=padded,
        repeated=annotations.repeated_ids(),
        overlaps={} if labels.splits_share_videos else annotations.videos_in_two_splits(),
        unlabelled={split: names for split, found in counts.items() if (names := found.unlabelled())},
        extra=_extra(by_video),
        decoded=decode,
        notes=annotations.notes,
    )


def _examine(video: Path, decode: bool) -> MediaInfo | str:
    """Open a video, or decode it to its end; returns the reason if that fails."""
    try:
        info = probe(video)
        if decode:
            return _decoded(video, info)
    except MediaError as error:
        return str(error)
    return info


def _decoded(video: Path, info: MediaInfo) -> MediaInfo | str:
    clip = read_media(
        video,
        frame_size=(16, 16),
        missing_audio="error" if info.has_audio else "silence",
        missing_video="error" if info.has_video else "black",
    )
    if clip.cut_off:
        return f"{video}: decodes only to {clip.duration_seconds:.1f} of {clip.declared_seconds:.1f} s"
    return info


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


def _extra(by_video: Mapping[Path, list[Sample]]) -> tuple[str, ...]:
    """Videos in the same folders as annotated ones that are not annotated."""
    named = {video.absolute() for video in by_video}
    folders = sorted({video.parent for video in named if video.parent.is_dir()})
    beside = [path for folder in folders for path in sorted(folder.iterdir())]
    return tuple(str(path) for path in beside if path.suffix.lower() in MEDIA_SUFFIXES and path not in named)
