"""Segments that are spread over a whole video: which seconds they are, and reading only those."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from avpea.errors import MediaError
from avpea.media.clip import Clip, segments_in
from avpea.media.decode import probe, read

__all__ = ["SpreadRule", "chosen_seconds", "read_spread"]

SpreadRule = Literal["every", "linspace"]

# Up to here a file is read in one go; beyond, seeking to each second decodes less than all that lies between.
WHOLE_UP_TO_SECONDS = 180


def chosen_seconds(total: int, segments: int, rule: SpreadRule) -> list[int]:
    """Which of a video's `total` seconds its segments are.

    Args:
        total: Whole seconds in the video.
        segments: How many to choose; a video with fewer is taken from its start, second by second.
        rule: `every`: each (total // segments)-th second from the first on, as MUSIC-AVQA's public code does;
            `linspace`: evenly from the first second to the last, rounded down, as LAVISH's does for frames.

    >>> chosen_seconds(60, 10, "every")
    [0, 6, 12, 18, 24, 30, 36, 42, 48, 54]
    >>> chosen_seconds(60, 10, "linspace")
    [0, 6, 13, 19, 26, 32, 39, 45, 52, 59]
    """
    if total < segments or segments == 1:
        return list(range(segments))
    if rule == "every":
        return [i * (total // segments) for i in range(segments)]
    return [i * (total - 1) // (segments - 1) for i in range(segments)]


def read_spread(path: str | Path, segments: int, rule: SpreadRule, **options: Any) -> Clip:
    """Read one frame and one second of sound at each of the chosen seconds of a whole video.

    Args:
        path: Any file that FFmpeg reads.
        segments: How many seconds.
        rule: Which ones, as in `chosen_seconds`.
        **options: As for `read`.

    Raises:
        MediaError, NoVideoTrack, NoAudioTrack: As `read` says.
    """
    seconds = chosen_seconds(segments_in(probe(path).duration_seconds), segments, rule)
    if seconds == list(range(segments)):
        return read(path, segments=segments, **options)
    if seconds[-1] >= WHOLE_UP_TO_SECONDS:
        try:
            return _joined([read(path, start_seconds=second, segments=1, **options) for second in seconds], seconds)
        except MediaError:  # its end is missing; how much there is, only reading tells
            pass
    clip = read(path, **options)
    return _picked(clip, chosen_seconds(len(clip.frames), segments, rule), segments, path, options)


def _picked(clip: Clip, seconds: Sequence[int], segments: int, path: str | Path, options: dict[str, Any]) -> Clip:
    if seconds[-1] >= len(clip.frames):
        return read(path, segments=segments, **options)
    index = torch.tensor(seconds)
    return dataclasses.replace(
        clip,
        frames=clip.frames[index],
        frame_seconds=clip.frame_seconds[index],
        waveform=clip.segment_waveforms()[index].flatten(),
        segment_starts=tuple(float(second) for second in seconds),
    )


def _joined(clips: Sequence[Clip], seconds: Sequence[int]) -> Clip:
    return dataclasses.replace(
        clips[0],
        frames=torch.cat([clip.frames for clip in clips]),
        frame_seconds=torch.cat([clip.frame_seconds for clip in clips]),
        waveform=torch.cat([clip.waveform for clip in clips]),
        duration_seconds=min(clip.duration_seconds for clip in clips),
        segment_starts=tuple(float(second) for second in seconds),
    )
