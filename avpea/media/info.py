"""What a file contains, and how a length becomes segments; without torch, for the workers that decode."""

import math
from dataclasses import dataclass

__all__ = ["CODEC_PADDING_SECONDS", "SAMPLE_RATE_HZ", "MediaInfo", "segments_in"]

SAMPLE_RATE_HZ = 16_000
CODEC_PADDING_SECONDS = 0.1  # codecs round a track up to whole packets; the excess is no segment


@dataclass(frozen=True)
class MediaInfo:
    """What a file contains, found without decoding all of it.

    Attributes:
        duration_seconds: Length of the file without decoding it: by its packets, or by the sample tables of MP4.
        has_video: Whether there is a picture.
        has_audio: Whether there is sound.
        width: Width of the picture as displayed (upright, square pixels); 0 without a picture.
        height: Height of the picture as displayed; 0 without a picture.
        fps: Mean frames per second; 0 without a picture or if unknown.
        audio_rate_hz: Sampling rate of the audio track that is read; 0 without sound.
        audio_channels: Channels of the audio track that is read; 0 without sound.
        audio_tracks: Number of audio tracks.
        container: FFmpeg's name of the format, such as "mov" or "matroska".
        codecs: FFmpeg's names of the codecs, picture first.
        remarks: Sentences about what is mended in reading it, as far as is known without decoding.
        stored_width: Width of the picture as it is stored, upright; another one than `width` if pixels are not square.
        stored_height: Height of the picture as it is stored, upright.
        seekable: Whether a part can be read without decoding all that lies before it.
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
    remarks: tuple[str, ...] = ()
    stored_width: int = 0
    stored_height: int = 0
    seekable: bool = False


def segments_in(duration_seconds: float) -> int:
    """Number of one-second segments in a duration, at least 1; up to 0.1 s of codec padding do not count.

    >>> segments_in(10.05), segments_in(9.4), segments_in(0.2)
    (10, 10, 1)
    """
    return max(1, math.ceil(duration_seconds - CODEC_PADDING_SECONDS))
