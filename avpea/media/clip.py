"""A clip: one frame and one second of sound for each one-second segment of a video."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["SAMPLE_RATE_HZ", "Clip", "MediaInfo", "segments_in"]

SAMPLE_RATE_HZ = 16_000
CODEC_PADDING_SECONDS = 0.1  # codecs round a track up to whole packets, and nobody means that sliver as a segment


@dataclass(frozen=True)
class Clip:
    """A stretch of a video, cut into segments `[start_seconds + i, start_seconds + i + 1)`.

    Attributes:
        frames: The frame on show at the middle of each segment, upright, RGB.
        frame_seconds: Time stamp of each of these frames on the file's own clock, which starts at 0
            (float64).
        frame_aspect: Width by height of the frames as a player shows them, whatever size they were squashed to.
        waveform: Mono sound at 16 kHz in [-1, 1] (float32), `segments * 16000` samples, silent where the file
            has none.
        duration_seconds: Length of the whole file, as far as it can be decoded.
        declared_seconds: Length that the file declares; it is more where the file was cut off.
        start_seconds: Where the first segment starts.
        path: The file.
        segment_starts: Where each segment starts, where they do not follow each other; empty where they do.
    """

    frames: UInt8[Tensor, "segments height width 3"]
    frame_seconds: Float[Tensor, "segments"]
    frame_aspect: float
    waveform: Float[Tensor, "samples"]
    duration_seconds: float
    declared_seconds: float
    start_seconds: float
    path: Path
    segment_starts: tuple[float, ...] = ()

    @property
    def starts(self) -> tuple[float, ...]:
        """Where each segment starts, in seconds."""
        return self.segment_starts or tuple(self.start_seconds + i for i in range(len(self.frames)))

    @property
    def cut_off(self) -> bool:
        """Whether the file's end is missing."""
        return self.duration_seconds < self.declared_seconds

    def remarks(self) -> list[str]:
        """What a person should know of how the file was read, in sentences."""
        if not self.cut_off:
            return []
        return [
            f"The file declares {self.declared_seconds:.1f} s, of which {self.duration_seconds:.1f} s decode; the rest "
            "of it cannot be decoded."
        ]

    def part(self, start: int, stop: int) -> "Clip":
        """Some of the segments, from `start` up to `stop`, which follow each other."""
        return replace(
            self,
            frames=self.frames[start:stop],
            frame_seconds=self.frame_seconds[start:stop],
            waveform=self.segment_waveforms()[start:stop].flatten(),
            start_seconds=self.starts[start],
            segment_starts=self.segment_starts[start:stop],
        )

    def segment_waveforms(self) -> Float[Tensor, "segments 16000"]:
        """Cut `waveform` into the sound of each segment, without copying."""
        return self.waveform.view(-1, SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds, told without decoding it.

    Attributes:
        duration_seconds: From the header, or from the last time stamp where the header does not tell.
        width: Of the picture as shown (upright, square pixels); 0 without a picture.
        height: As `width`.
        fps: Mean frames per second; 0 without a picture or where the file does not tell.
        audio_rate_hz: Of the first audio track; 0 without sound.
        audio_channels: As `audio_rate_hz`.
        audio_tracks: How many there are.
        container: FFmpeg's name of the format, such as "mov" or "matroska".
        codecs: FFmpeg's names of the codecs, picture first.
    """

    duration_seconds: float
    has_video: bool
    has_audio: bool
    width: int
    height: int
    fps: float
    audio_rate_hz: int
    audio_channels: int
    audio_tracks: int
    container: str
    codecs: tuple[str, ...]


def segments_in(duration_seconds: float) -> int:
    """How many one-second segments a duration holds, at least 1; 0.1 s of codec padding does not count.

    >>> segments_in(10.05), segments_in(9.4), segments_in(0.2)
    (10, 10, 1)
    """
    return max(1, math.ceil(duration_seconds - CODEC_PADDING_SECONDS))
