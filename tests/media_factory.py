"""Small videos made on the spot with PyAV, so that no test needs a file from elsewhere.

make_video(tmp_path / "clip.mp4", seconds=3)                      # numbered frames at 10 fps, a 440 Hz tone
make_video(tmp_path / "clip.mp4", seconds=3, audio_hz=None)       # no audio track
make_video(tmp_path / "clip.mp4", seconds=3, fps=None)            # no video track
make_video(tmp_path / "clip.mp4", seconds=3, keep=0.6)            # the last 40 % of the bytes missing
"""

import errno
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from torch import Tensor

Pixels = np.ndarray  # (height, width, 3) uint8
STRIPES = 8  # bits of a frame's number


def numbered(number: int, size: tuple[int, int]) -> Pixels:
    """A picture that tells its number (0..255) in eight black or white stripes, the highest bit first."""
    width, height = size
    bits = np.array([(number >> (STRIPES - 1 - bit)) & 1 for bit in range(STRIPES)])
    columns = bits[np.arange(width) * STRIPES // width] * 255
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).astype(np.uint8)


def number_of(pixels: Pixels | Tensor) -> int:
    """The number that `numbered` painted, read from a decoded frame (height, width, 3)."""
    pixels = np.asarray(pixels)
    width = pixels.shape[1]
    centres = [int((stripe + 0.5) * width / STRIPES) for stripe in range(STRIPES)]
    return int("".join("1" if pixels[:, x].mean() > 127 else "0" for x in centres), 2)


def tone(frequency_hz: float, start_seconds: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """A sine of amplitude 0.5 that is silent before `start_seconds` on the file's clock."""
    return lambda t: 0.5 * np.sin(2 * np.pi * frequency_hz * t) * (t >= start_seconds)


def make_video(
    path: str | Path,
    *,
    seconds: float,
    fps: float | None = 10,
    size: tuple[int, int] = (96, 64),
    picture: Callable[[int, tuple[int, int]], Pixels] = numbered,
    frame_times: Sequence[float] | None = None,
    video_codec: str = "libx264",
    pixel_format: str = "yuv420p",
    bt709: bool = False,
    rotation: int = 0,
    hflip: bool = False,
    pixel_aspect: Fraction | None = None,
    key_every: int = 250,
    video_options: dict[str, str] | None = None,
    audio_hz: int | None = 44_100,
    audio_codec: str = "aac",
    audio_layout: str = "stereo",
    audio_tracks: int = 1,
    audio_start: float = 0.0,
    audio_seconds: float | None = None,
    sound: Callable[[np.ndarray], np.ndarray] | None = None,
    tone_hz: float = 440.0,
    channel_gains: Sequence[float] | None = None,
    interleaved: bool = True,
    keep: float = 1.0,
    mux_options: dict[str, str] | None = None,
) -> Path:
    """Write a video; the container follows the name's ending.

    Args:
        path: Where to write.
        seconds: Length of the picture, and of the sound unless `audio_seconds` says otherwise.
        fps: Frames per second; None leaves the video track out.
        size: Width and height of the coded picture in pixels.
        picture: Makes frame `number`; the default paints its number, which `number_of` reads back.
        frame_times: Time stamp in seconds of each frame, for a variable frame rate; replaces `fps`.
        bt709: Colours are coded, and marked, with the matrix of high definition.
        rotation: Counter-clockwise degrees that a player must turn the coded picture by (display matrix).
        hflip: A player must mirror the picture as well.
        pixel_aspect: Width of a pixel by its height.
        key_every: Frames between key frames.
        audio_hz: Sample rate; None leaves the sound out.
        audio_layout: As FFmpeg names it: "mono", "stereo", "5.1".
        audio_tracks: Tracks, the n-th (from 0) with a tone of `tone_hz * (n + 1)`.
        audio_start: Time stamp in seconds of the first sample.
        sound: Amplitude in [-1, 1] at the given seconds; replaces the tone.
        channel_gains: Gain of each channel; all 1 unless given.
        interleaved: Tracks alternate in the file; else all of the picture comes before the sound.
        keep: Fraction of the file's bytes kept: less than 1 truncates it.
        mux_options: Options of FFmpeg's muxer, such as {"movflags": "faststart"}.

    Returns:
        The path.
    """
    path = Path(path)
    with av.open(str(path), "w", options=mux_options or {}) as container:
        video: VideoStream | None = None
        audio: list[AudioStream] = []
        if fps is not None:
            rate = Fraction(fps).limit_denominator(1001)
            video = cast(VideoStream, container.add_stream(video_codec, rate=rate, options=video_options or {}))
            video.width, video.height, video.pix_fmt = *size, pixel_format
            video.codec_context.gop_size = key_every
            video.codec_context.time_base = Fraction(1, 90_000) if frame_times is not None else 1 / rate
            if bt709:
                video.codec_context.colorspace = Colorspace.ITU709
            if pixel_aspect is not None:
                video.codec_context.sample_aspect_ratio = pixel_aspect
            if rotation or hflip:
                video.set_display_rotation(rotation, hflip=hflip)
        if audio_hz is not None:
            new = [container.add_stream(audio_codec, rate=audio_hz, layout=audio_layout) for _ in range(audio_tracks)]
            audio = cast(list[AudioStream], new)
        packets: list[Any] = []
        if video is not None:
            assert fps is not None
            times = frame_times if frame_times is not None else [n / fps for n in range(round(seconds * fps))]
            packets += _encode_pictures(video, times, picture, size, "ITU709" if bt709 else None)
        for track, stream in enumerate(audio):
            wave = sound or tone(tone_hz * (track + 1))
            length = seconds if audio_seconds is None else audio_seconds
            packets += _encode_sound(stream, wave, audio_start, length, channel_gains)
        if interleaved:
            packets.sort(key=lambda packet: (packet.dts or 0) * packet.time_base)
        for packet in packets:
            container.mux(packet)
    if keep < 1:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
    return path


def _encode_pictures(
    stream: VideoStream,
    times: Sequence[float],
    picture: Callable[[int, tuple[int, int]], Pixels],
    size: tuple[int, int],
    colorspace: str | None,
) -> list[Any]:
    packets: list[Any] = []
    for number, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
        frame = frame.reformat(format=stream.codec_context.pix_fmt, dst_colorspace=colorspace)
        frame.time_base = stream.codec_context.time_base
        frame.pts = round(time / frame.time_base)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _encode_sound(
    stream: AudioStream,
    wave: Callable[[np.ndarray], np.ndarray],
    start: float,
    seconds: float,
    gains: Sequence[float] | None,
) -> list[Any]:
    rate, layout = stream.codec_context.sample_rate, stream.codec_context.layout
    channels = layout.nb_channels
    times = start + np.arange(round(seconds * rate)) / rate
    values = np.asarray(wave(times), np.float32) * np.ones(len(times), np.float32)
    gain = np.ones(channels, np.float32) if gains is None else np.asarray(gains, np.float32)
    converter = av.AudioResampler(format=stream.codec_context.format.name, layout=layout.name, rate=rate)
    step = stream.codec_context.frame_size or 1024
    packets: list[Any] = []
    for first in range(0, len(values), step):
        block = np.ascontiguousarray(gain[:, None] * values[None, first : first + step])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout.name)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate) + first
        for ready in converter.resample(frame):
            packets += stream.encode(ready)
    return packets + stream.encode(None)


def on_a_failing_disk(path: Path, monkeypatch: Any, packets: int, error: Exception | None = None) -> None:
    """Let FFmpeg fail after some packets of a file: with EIO as where its disk or network does, or another error."""
    opening = av.open

    class Failing:
        def __init__(self, container: Any) -> None:
            self.container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self.container, name)

        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None:
            self.container.close()

        def demux(self, *tracks: Any) -> Iterator[Any]:
            yield from itertools.islice(self.container.demux(*tracks), packets)
            raise error or av.error.OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def opened(name: str, *given: Any, **more: Any) -> Any:
        container = opening(name, *given, **more)
        return Failing(container) if str(path) in name else container

    monkeypatch.setattr(av, "open", opened)
