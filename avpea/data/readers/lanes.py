"""Your own videos with events that overlap, or that are only seen or only heard: a table with one event per row.

    video,start_seconds,end_seconds,label,lane,split
    park/dog.mp4,2.0,4.5,bark,heard,train
    park/dog.mp4,0,9,dog,seen,train
    park/dog.mp4,3,9,traffic,both,train

The table is that of `manifest` with a column `lane`; without it, every event is seen and heard. A second has each label
whose events in a stream cover at least half of it, so any number of events may go on at once, and none outweighs
another. A video without rows of a stream is one in which nothing is seen, or heard: its seconds are all labelled.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from avpea.data.readers._base import Reader
from avpea.data.readers._divide import DividedOptions
from avpea.data.readers._files import safe
from avpea.data.readers.manifest import (
    AnnotatedVideo,
    Event,
    measure,
    repeated_seconds,
    second_labels,
    videos_in,
    window_starts,
)
from avpea.labels import SPLITS, Annotations, LaneLabels, LaneSample, look_alikes

__all__ = ["EXTENSION", "LaneReader", "read"]

Lane = list[tuple[int, ...]]  # classes of each second of a video


def read(options: DividedOptions) -> Annotations:
    """Read a table and cut its videos into windows; only the headers of the videos are read.

    Args:
        options: `root` is the table; `segments` is the length of a window.

    Returns:
        Windows in the order of the table; class names in alphabetical order.

    Raises:
        DataError: The file is missing, or a row is malformed; names the line, what was found and what was expected.
    """
    path = Path(options.root)
    videos, notes, division = videos_in(path, options, lanes=True)
    class_names = tuple(sorted({event.label for video in videos for event in video.events}))
    if not any(event.lane for video in videos for event in video.events):
        notes.append("No column 'lane': every event is taken as seen and heard.")
    notes += [*look_alikes(class_names), *measure(videos), *repeated_seconds(videos, options.segments)]
    samples: dict[str, list[LaneSample]] = {split: [] for split in SPLITS}
    lost: list[str] = []
    for number, video in enumerate(videos):
        lanes = {stream: _lane(video, stream, class_names) for stream in ("seen", "heard")}
        lost += _lost(video)
        samples[video.split] += _windows(video, number, lanes["seen"], lanes["heard"], options.segments)
    splits = {split: tuple(samples[split]) for split in SPLITS}
    labels = LaneLabels(class_names)
    return Annotations(path.stem, path.parent, labels, splits, tuple(notes), lost=tuple(lost), division=division)


def _of(video: AnnotatedVideo, stream: str) -> list[Event]:
    return [event for event in video.events if event.lane in (stream, "both", "")]


def _lane(video: AnnotatedVideo, stream: str, class_names: Sequence[str]) -> Lane:
    """The classes of each second in a stream."""
    from avpea.media import segments_in

    events = _of(video, stream)
    seconds = range(segments_in(video.duration_seconds))
    found = (second_labels(events, second, video.duration_seconds) for second in seconds)
    return [tuple(sorted(class_names.index(label) for label in labels)) for labels in found]


def _lost(video: AnnotatedVideo) -> list[str]:
    """The events that label no second, each with the reason."""
    from avpea.media import segments_in

    lost = []
    for event in video.events:
        last = min(event.end_seconds, float(segments_in(video.duration_seconds)))
        stream = "heard" if event.lane == "heard" else "seen"
        seconds = range(math.floor(event.start_seconds), math.ceil(last))
        if any(event.label in second_labels(_of(video, stream), one, video.duration_seconds) for one in seconds):
            continue
        reason = "covers less than half of each second that it touches"
        if event.start_seconds >= video.duration_seconds:
            reason = f"begins after the end of the video ({video.duration_seconds:.1f} s)"
        lost.append(f"{video.name}: '{event.label}' {event.start_seconds:g}-{event.end_seconds:g} s {reason}")
    return lost


def _windows(video: AnnotatedVideo, number: int, seen: Lane, heard: Lane, segments: int) -> list[LaneSample]:
    windows = []
    for start in window_starts(len(seen), segments):
        padding = max(0, start + segments - len(seen))
        own, other = ((*lane[start : start + segments], *[()] * padding) for lane in (seen, heard))
        windows.append(
            LaneSample(
                key=f"{video.split}-{number:04d}-{safe(Path(video.name).stem)}-{start:05d}",
                video_id=video.name,
                video=video.path,
                start_seconds=float(start),
                segments=segments,
                classes=tuple(sorted({label for second in own + other for label in second})),
                seen=own,
                heard=other,
                padding=padding,
                split=video.split,
            )
        )
    return windows


class LaneReader(Reader):
    """A table of your own events, which may overlap, and each of which is seen, heard or both."""

    labels = LaneLabels
    Options = DividedOptions
    read = staticmethod(read)


EXTENSION = LaneReader
