"""Reading a sample's frames and sound from its files, in one way for training, evaluation and `avpea data verify`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from avpea.labels import Sample
from avpea.media import Clip, moments, read, read_spread
from avpea.sections import ReaderOptions

__all__ = ["as_options", "read_sample", "tracks"]


def as_options(text: str) -> str:
    """Reasons of files, with Python arguments rewritten as options of a recipe."""
    text = re.sub(r'\bmissing_(audio|video)="(\w+)"', r"--data.missing_\1 \2", text)
    return re.sub(r"\b(audio|video)_track is", r"--data.\1_track is", text)


def tracks(config: ReaderOptions) -> dict[str, int]:
    """The tracks that are to be read, as options of `avpea.media.read`; empty for the default ones."""
    chosen = {"audio_track": config.audio_track, "video_track": config.video_track}
    return {name: number for name, number in chosen.items() if number >= 0}


def read_sample(sample: Sample, config: ReaderOptions, frame_size: tuple[int, int]) -> Clip:
    """The window of a sample, with the sound of another file if it says so.

    Raises:
        MediaError: A file is missing or broken, or has no such track.
    """
    clip = _read(sample, sample.video, config, frame_size)
    if sample.sound is None:
        return clip
    sound = _read(sample, sample.sound, config, frame_size)
    return replace(clip, waveform=sound.waveform, repairs=(*clip.repairs, *sound.remarks()))


def _read(sample: Sample, path: Path, config: ReaderOptions, frame_size: tuple[int, int]) -> Clip:
    options: dict[str, Any] = {
        "frame_size": frame_size,
        "missing_audio": config.missing_audio,
        "missing_video": config.missing_video,
        **tracks(config),
    }
    if sample.seconds == "consecutive":
        return read(path, start_seconds=sample.start_seconds, segments=sample.segments, **options)
    if sample.seconds == "lavish":
        return moments(read(path, frame_at_seconds=0.0, **options), sample.segments, sample.sound_seconds)
    return read_spread(path, sample.segments, sample.seconds, **options)
