"""Your own videos with events: a table in CSV or JSON Lines with one event per row.

    video,start_seconds,end_seconds,label,split
    park/dog.mp4,2.0,4.5,bark,train
    park/dog.mp4,7,9,whistle,train
    park/quiet.mp4,,,,val

Paths are relative to the manifest. A video may have several rows; a row with neither label nor times is a video without
events. A second has the label that covers at least half of it, the longest cover if there are two; events that label no
second are reported. Each video is cut into windows of `segments` seconds. Without the column `split` the videos of each
class are divided among the splits (`DividedOptions`).
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avpea.data.readers._base import Reader
from avpea.data.readers._divide import DividedOptions, by_class, by_hash, read_division, written
from avpea.data.readers._files import identity, safe
from avpea.data.readers._table import Row, read_rows
from avpea.errors import DataError, MediaError
from avpea.labels import (
    SPLITS,
    Annotations,
    Division,
    EventLabels,
    EventSample,
    look_alikes,
    refuse_reserved,
    shortened,
)
from avpea.tables import how_many

__all__ = [
    "EXTENSION",
    "AnnotatedVideo",
    "Event",
    "ManifestReader",
    "annotations",
    "divide",
    "measure",
    "read",
    "repeated_seconds",
    "second_labels",
    "videos_in",
    "window_starts",
]


@dataclass(frozen=True)
class Event:
    """A label over [start_seconds, end_seconds) of a file; an infinite end is that of the file.

    In a table with lanes the event is `seen`, `heard` or `both`; elsewhere the lane is empty.
    """

    label: str
    start_seconds: float
    end_seconds: float
    lane: str = ""


@dataclass
class AnnotatedVideo:
    """A video with its events.

    Attributes:
        name: Its path as the annotations write it, which is its id.
        path: The file.
        split: Its split; empty if none is given.
        events: Its events.
        duration_seconds: Its length, once it was measured.
    """

    name: str
    path: Path
    split: str
    events: list[Event] = field(default_factory=list)
    duration_seconds: float = 0.0


def read(options: DividedOptions) -> Annotations:
    """Read a manifest and cut its videos into windows; only the headers of the videos are read.

    Args:
        options: `root` is the manifest file; `segments` is the length of a window.

    Returns:
        Windows in the order of the manifest; class names in alphabetical order.

    Raises:
        DataError: The file is missing, or a row is malformed; names the line, what was found and what was expected.
    """
    path = Path(options.root)
    videos, notes, division = videos_in(path, options)
    return annotations(path.stem, path.parent, videos, options, notes, division)


def videos_in(
    path: Path, options: DividedOptions, lanes: bool = False
) -> tuple[list[AnnotatedVideo], list[str], Division | None]:
    """The videos of a manifest with their events and splits, notes on its rows, and how the videos were divided.

    Raises:
        DataError: From `read`.
    """
    rows, has_split = read_rows(path, lanes)
    refuse_reserved({row.label: row.where for row in reversed(rows) if row.label})
    videos, repeats = _videos(path, rows)
    if not any(video.events for video in videos):
        raise DataError(f"{path} has no row with a label; expected at least one event.")
    if has_split:
        return videos, repeats, None
    how, division = divide(videos, options, path.with_name(f"{path.stem}-splits.json"))
    return videos, [f"No column 'split': {how}", *repeats], division


def divide(videos: Sequence[AnnotatedVideo], options: DividedOptions, kept: Path) -> tuple[str, Division | None]:
    """Set the split of each video by `options.divide`, where the file `kept` has none.

    Returns:
        A sentence that says how, and what to keep of it; None if more videos change nothing.
    """
    if options.divide == "by_hash":
        for video in videos:
            video.split = by_hash(video.name)
        return "videos were divided 80/10/10 by a hash of their paths.", None
    earlier = read_division(kept)
    splits = by_class({written(video.name): [event.label for event in video.events] for video in videos}, earlier)
    for video in videos:
        video.split = splits[written(video.name)]
    told = "the videos of each class were divided 70/15/15, by a hash of their paths."
    known = sum(written(video.name) in earlier for video in videos)
    if known:
        rest = f", and the other {len(videos) - known} so that each class comes near 70/15/15"
        many = how_many(known, "video is", "videos are")
        told = f"{many} divided as {kept.name} says{rest if known < len(videos) else ''}."
    return told, Division(kept, splits)


def annotations(
    name: str,
    root: Path,
    videos: Sequence[AnnotatedVideo],
    options: DividedOptions,
    notes: Sequence[str],
    division: Division | None = None,
) -> Annotations:
    """Cut videos with at least one event into windows; only the headers of the videos are read."""
    class_names = tuple(sorted({event.label for video in videos for event in video.events}))
    notes = [*notes, *look_alikes(class_names), *measure(videos)]
    samples: dict[str, list[EventSample]] = {split: [] for split in SPLITS}
    contested: list[str] = []
    lost: list[str] = []
    for number, video in enumerate(videos):
        labels = _second_labels(video, contested)
        lost += _lost(video, labels)
        samples[video.split] += _windows(video, number, labels, class_names, options.segments)
    notes += _window_notes(videos, options.segments, contested)
    splits = {split: tuple(samples[split]) for split in SPLITS}
    return Annotations(name, root, EventLabels(class_names), splits, tuple(notes), lost=tuple(lost), division=division)


def window_starts(seconds: int, segments: int) -> list[int]:
    """The starts of the windows of a video, in seconds.

    Windows are consecutive; the last one starts earlier if needed, so that it ends with the video without padding. A
    video shorter than a window gets one padded window.
    """
    starts = list(range(0, max(seconds - segments, 0) + 1, segments))
    return starts if starts[-1] + segments >= seconds else [*starts, seconds - segments]


def second_labels(events: Sequence[Event], second: int, duration_seconds: float) -> list[str]:
    """Labels that cover at least half of [second, second + 1), the longest cover first.

    Of the last, partial second of a video only the existing part counts; there are no labels beyond the end.
    """
    stop = min(second + 1.0, duration_seconds)
    cover: dict[str, float] = {}
    for label in dict.fromkeys(event.label for event in events):
        cover[label] = _union([event for event in events if event.label == label], second, stop)
    # The tolerance keeps 0.1 + 0.4 seconds, in floating point, at half a second.
    enough = [label for label in cover if stop > second and cover[label] >= (stop - second) / 2 - 1e-6]
    return sorted(enough, key=lambda label: -cover[label])


def _union(events: list[Event], start: float, stop: float) -> float:
    """Seconds of [start, stop) that are covered by at least one event."""
    covered, reached = 0.0, start
    for event in sorted(events, key=lambda event: event.start_seconds):
        begin, end = max(event.start_seconds, reached), min(event.end_seconds, stop)
        if end > begin:
            covered, reached = covered + end - begin, end
    return covered


def _videos(manifest: Path, rows: list[Row]) -> tuple[list[AnnotatedVideo], list[str]]:
    """The videos in order of appearance with their events, and notes on rows and spellings that are there twice."""
    videos: dict[object, AnnotatedVideo] = {}
    keys: dict[str, object] = {}
    spellings: list[str] = []
    seen: set[tuple[str, Event]] = set()
    twice: list[str] = []
    for row in rows:
        name = os.path.normpath(row.video)  # ./a.mp4 and a.mp4 are one video, and must not be in two splits
        if name not in keys:
            keys[name] = identity(manifest.parent / name)
            if keys[name] in videos:
                spellings.append(f"{name} and {videos[keys[name]].name}")
        video = videos.setdefault(keys[name], AnnotatedVideo(name, manifest.parent / name, row.split))
        if video.split != row.split:
            raise DataError(
                f"{row.where}: '{row.video}' is in {row.split}, but an earlier row has it in {video.split}"
                f"{'' if video.name == name else f' as {video.name!r}'}; expected all rows of a video in one split."
            )
        event = Event(row.label, row.start_seconds, row.end_seconds, row.lane)
        if (video.name, event) in seen:
            twice.append(row.where)
        elif row.label:
            video.events.append(event)
        seen.add((video.name, event))
    many = how_many(len(twice), "row says", "rows say")
    notes = [f"{many} the same as an earlier row: {shortened(twice)}."] if twice else []
    if spellings:
        many = how_many(len(spellings), "path leads", "paths lead")
        notes.append(f"{many} to the same video as another path: {shortened(spellings)}.")
    return list(videos.values()), notes


def measure(videos: Sequence[AnnotatedVideo]) -> list[str]:
    """Read the durations of the videos; returns notes on events beyond the end. `verify` reports broken videos."""
    from avpea.media import probe  # torch: only when a manifest is read

    late = []
    for video in videos:
        ends = [event.end_seconds for event in video.events if math.isfinite(event.end_seconds)]
        end = max(ends, default=0.0)
        try:
            video.duration_seconds = probe(video.path).duration_seconds
        except MediaError:
            # As long as its events, so that its samples exist and are reported as broken later.
            video.duration_seconds = max(end, 1.0)
        if end > video.duration_seconds + 1.0:
            late.append(f"{video.name} ({end:g} s annotated, {video.duration_seconds:g} s long)")
    many = how_many(len(late), "video ends", "videos end")
    return [f"{many} before the events in it do: {shortened(late)}."] if late else []


def _second_labels(video: AnnotatedVideo, contested: list[str]) -> list[str]:
    """The label of each second; empty for background. Adds seconds with two labels to `contested`.

    What is too short to be a segment at the end of a video gets none: the model would see no more of it than padding.
    """
    from avpea.media import segments_in

    labels = []
    for second in range(segments_in(video.duration_seconds)):
        found = second_labels(video.events, second, video.duration_seconds)
        labels.append(found[0] if found else "")
        if len(found) > 1:
            contested.append(f"{video.name} at {second} s ({found[0]}, not {' or '.join(found[1:])})")
    return labels


def _lost(video: AnnotatedVideo, labels: Sequence[str]) -> list[str]:
    """The events that label no second, each with the reason."""
    lost = []
    for event in video.events:
        seconds = range(math.floor(event.start_seconds), math.ceil(min(event.end_seconds, len(labels))))
        if any(labels[second] == event.label for second in seconds):
            continue
        if event.start_seconds >= video.duration_seconds:
            reason = f"begins after the end of the video ({video.duration_seconds:.1f} s)"
        elif any(event.label in second_labels(video.events, second, video.duration_seconds) for second in seconds):
            reason = "is outweighed by other events in each of its seconds"
        else:
            reason = "covers less than half of each second that it touches"
        lost.append(f"{video.name}: '{event.label}' {event.start_seconds:g}-{event.end_seconds:g} s {reason}")
    return lost


def _windows(
    video: AnnotatedVideo, number: int, labels: Sequence[str], class_names: tuple[str, ...], segments: int
) -> list[EventSample]:
    from avpea.media import segments_in

    background = len(class_names)
    indices = [class_names.index(label) if label else background for label in labels] + [background] * segments
    return [
        EventSample(
            key=f"{video.split}-{number:04d}-{safe(Path(video.name).stem)}-{start:05d}",
            video_id=video.name,
            video=video.path,
            start_seconds=float(start),
            segments=segments,
            labels=tuple(indices[start : start + segments]),
            padding=max(0, start + segments - len(labels)),
            split=video.split,
        )
        for start in window_starts(segments_in(video.duration_seconds), segments)
    ]


def repeated_seconds(videos: Sequence[AnnotatedVideo], segments: int) -> list[str]:
    """A note on the videos whose last window has seconds of the one before."""
    from avpea.media import segments_in

    lengths = {video.name: segments_in(video.duration_seconds) for video in videos}
    shared = [name for name, seconds in lengths.items() if seconds > segments and seconds % segments]
    if not shared:
        return []
    return [
        f"{how_many(len(shared), 'video is', 'videos are')} no multiple of {segments} s; the last window repeats "
        f"seconds of the one before: {shortened(shared)}."
    ]


def _window_notes(videos: Sequence[AnnotatedVideo], segments: int, contested: list[str]) -> list[str]:
    notes = repeated_seconds(videos, segments)
    if contested:
        rule = "the longer cover won, of equal ones the earlier row"
        many = how_many(len(contested), "second has", "seconds have")
        notes.append(f"{many} two labels; {rule}: {shortened(contested)}.")
    return notes


class ManifestReader(Reader):
    """A table of your own events."""

    labels = EventLabels
    Options = DividedOptions
    read = staticmethod(read)


EXTENSION = ManifestReader
