"""Reading a sample's frames and sound from its files, in one way for training, evaluation and `avpea data verify`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from avpea.errors import with_option
from avpea.labels import Sample
from avpea.media import Clip, moments, read, read_spread
from avpea.sections import ReaderOptions

__all__ = ["as_options", "heard_only", "read_sample", "seen_only", "tracks"]


def as_options(text: str) -> str:
    """Reasons of files, with Python arguments rewritten as options of a recipe."""
    text = with_option(text, "--data.missing_{} {}")
    return re.sub(r"\b(audio|video)_track is", r"--data.\1_track is", text)


def tracks(config: ReaderOptions) -> dict[str, int]:
    """The tracks that are to be read, as options of `avpea.media.read`; empty for the default ones."""
    chosen = {"audio_track": config.audio_track, "video_track": config.video_track}
    return {name: number for name, number in chosen.items() if number >= 0}


def seen_only(config: ReaderOptions) -> ReaderOptions:
    """How a file is read whose sound is not used, so that it need have none."""
    return replace(config, missing_audio="silence", audio_track=-1)


def heard_only(config: ReaderOptions) -> ReaderOptions:
    """How a file is read whose picture is not used, so that it need have none."""
    return replace(config, missing_video="black", video_track=-1)


def read_sample(sample: Sample, config: ReaderOptions, frame_size: tuple[int, int]) -> Clip:
    """The window of a sample, with the sound of another file if it says so.

    Raises:
        MediaError: A file is missing or broken, or has no such track.
    """
    if pictures := sample.picture_files():
        return _with_pictures(sample, pictures, config, frame_size)
    if sample.sound is None:
        return _read(sample, sample.video, config, frame_size)
    clip = _read(sample, sample.video, seen_only(config), frame_size)
    sound = _read(sample, sample.sound, heard_only(config), frame_size)
    repairs = (*clip.repairs, *sound.remarks())
    return replace(clip, waveform=sound.waveform, audio_track=sound.audio_track, repairs=repairs)


def _with_pictures(
    sample: Sample, pictures: Sequence[Path], config: ReaderOptions, frame_size: tuple[int, int]
) -> Clip:
    """The sound of a sample with its pictures as frames; black ones where it has fewer than seconds."""
    clip = _read(sample, sample.video, heard_only(config), frame_size)
    shown = [read(path, frame_size=frame_size, missing_audio="silence") for path in pictures[: sample.segments]]
    frames = torch.zeros(sample.segments, *frame_size, 3, dtype=torch.uint8)
    frames[: len(shown)] = torch.cat([one.frames[:1] for one in shown])
    return replace(clip, frames=frames, frame_aspect=shown[0].frame_aspect)


def _read(sample: Sample, path: Path, config: ReaderOptions, frame_size: tuple[int, int]) -> Clip:
    options: dict[str, Any] = {
        "frame_size": frame_size,
        "missing_audio": config.missing_audio,
        "missing_video": config.missing_video,
        **tracks(config),
    }
    if sample.seconds == "consecutive":
        options["frame_at_seconds"] = config.frame_at_seconds
        return read(path, start_seconds=sample.start_seconds, segments=sample.segments, **options)
    if sample.seconds == "lavish":
        return moments(read(path, frame_at_seconds=0.0, **options), sample.segments, sample.sound_seconds)
    return read_spread(path, sample.segments, sample.seconds, **options)
