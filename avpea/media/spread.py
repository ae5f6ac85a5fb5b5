"""Segments spread over a whole video: choosing their seconds, and reading only those."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from avpea.errors import MediaError
from avpea.media.asked import checked
from avpea.media.clip import Clip
from avpea.media.decode import probe, read
from avpea.media.info import SAMPLE_RATE_HZ, segments_in
from avpea.options import require_choice

__all__ = ["SpreadRule", "chosen_seconds", "moments", "read_spread"]

SpreadRule = Literal["every", "linspace"]

# Shorter files are read as a whole; in longer ones, seeking to each second decodes less.
WHOLE_UP_TO_SECONDS = 180


def chosen_seconds(total: int, segments: int, rule: SpreadRule) -> list[int]:
    """Choose the seconds of a video that are its segments.

    Args:
        total: Whole seconds in the video.
        segments: Number of seconds to choose; of a shorter video, consecutive seconds from 0 on.
        rule: `every`: every (total // segments)-th second from 0 on, as in MUSIC-AVQA's public code; `linspace`:
            evenly from the first second to the last, rounded down, as LAVISH's code does for frames.

    Raises:
        ExperimentError: There is no such rule.

    >>> chosen_seconds(60, 10, "every")
    [0, 6, 12, 18, 24, 30, 36, 42, 48, 54]
    >>> chosen_seconds(60, 10, "linspace")
    [0, 6, 13, 19, 26, 32, 39, 45, 52, 59]
    """
    require_choice("rule", rule, SpreadRule)
    if total < segments or segments == 1:
        return list(range(segments))
    if rule == "every":
        return [i * (total // segments) for i in range(segments)]
    return [i * (total - 1) // (segments - 1) for i in range(segments)]


def read_spread(path: str | Path, segments: int, rule: SpreadRule, **options: Any) -> Clip:
    """Read one frame and one second of sound for each chosen second of a whole video.

    Args:
        path: Any file that FFmpeg reads.
        segments: Number of seconds.
        rule: How to choose them, see `chosen_seconds`.
        **options: Options of `read`, without `start_seconds`.

    Raises:
        ExperimentError: There is no such rule.
        MediaError, NoVideoTrack, NoAudioTrack: See `read`.
    """
    require_choice("rule", rule, SpreadRule)
    options = checked(path, segments=segments, **options)
    segments = options.pop("segments")
    if segments is None:
        raise MediaError(path, "segments is None; expected 1 or more.")
    if (start := options.pop("start_seconds", 0.0)) != 0:
        raise MediaError(
            path, f"start_seconds is {start:g}, but the seconds are spread over the whole video; leave it out."
        )
    tracks = {name: options[name] for name in ("audio_track", "video_track") if name in options}
    seconds = chosen_seconds(segments_in(probe(path, **tracks).duration_seconds), segments, rule)
    if seconds == list(range(segments)):
        return read(path, segments=segments, **options)
    if seconds[-1] >= WHOLE_UP_TO_SECONDS:
        try:
            return _joined([read(path, start_seconds=second, segments=1, **options) for second in seconds], seconds)
        except MediaError:  # truncated: read all of it to find its length
            pass
    clip = read(path, **options)
    return _picked(clip, chosen_seconds(len(clip.frames), segments, rule), segments, path, options)


def moments(clip: Clip, segments: int, sound_seconds: float = 1.0) -> Clip:
    """Frames and sounds spread over a clip as in LAVISH's public code, where sounds may overlap.

    The sounds start evenly from the clip's first sample to the last start that fits, less 0.1 s: at 0, 0.99, ..., 8.9 s
    in a clip of 10 s. A clip that is shorter than that is each segment's sound, padded with silence.

    Args:
        clip: Consecutive segments, with the frame at the start of each (`read` with `frame_at_seconds=0`).
        segments: Number of frames and of sounds.
        sound_seconds: Length of a sound.
    """
    length, heard = round(sound_seconds * SAMPLE_RATE_HZ), clip.duration_seconds - clip.start_seconds
    total = min(len(clip.waveform), round(heard * SAMPLE_RATE_HZ))
    last = max(0.0, total - SAMPLE_RATE_HZ * (sound_seconds + 0.1))
    starts = np.linspace(0, last, segments, dtype=int).tolist()
    sound = torch.nn.functional.pad(clip.waveform[:total], (0, length))
    index = torch.tensor(np.linspace(0, len(clip.frames) - 1, segments, dtype=int))
    return dataclasses.replace(
        clip,
        frames=clip.frames[index],
        frame_seconds=clip.frame_seconds[index],
        waveform=torch.cat([sound[start : start + length] for start in starts]),
        segment_starts=tuple(clip.start_seconds + start / SAMPLE_RATE_HZ for start in starts),
    )


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
        repairs=tuple(dict.fromkeys(note for clip in clips for note in clip.repairs)),
        segment_starts=tuple(float(second) for second in seconds),
    )
