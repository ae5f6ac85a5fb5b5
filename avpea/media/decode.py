"""Reading a `Clip` from any file that FFmpeg reads, in one pass over the file.

Every file starts at 0 s, even where the container's time stamps do not (MPEG-TS). Both tracks are placed by their time
stamps, so sound that starts late stays in step with the picture.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float
from torch import Tensor

from avpea.errors import AvpeaError, MediaError, NoAudioTrack, NoVideoTrack
from avpea.media.clip import CODEC_PADDING_SECONDS, SAMPLE_RATE_HZ, Clip, MediaInfo, segments_in
from avpea.media.container import (
    BLACK_REMEDY,
    SILENCE_REMEDY,
    audio_track_of,
    decoded,
    opened,
    packets,
    pixel_aspect,
    seconds_of,
    tracks_of,
    video_track_of,
)
from avpea.media.interruption import interruptible
from avpea.media.layout import EQUAL_SECONDS, STILL_SECONDS, Layout, Mender, layout_of, shown_seconds
from avpea.media.picture import FramePicker, display_size
from avpea.media.sound import Timeline

__all__ = ["probe", "read", "read_sound"]

SEEK_FROM_SECONDS = 10.0  # reading from the start is quick and safe up to here
WARM_UP_SECONDS = 1.0  # after seeking, AAC, MP3 and Opus decode the first packets wrongly


def probe(path: str | Path, *, audio_track: int | None = None, video_track: int | None = None) -> MediaInfo:
    """What a file contains; decodes a single frame, because only that shows how the picture is rotated.

    The packets of all files but MP4 and MOV are read to find the length, without decoding them.

    Args:
        path: A file in any container and codec that FFmpeg reads.
        audio_track: Number of the audio track; see `read`.
        video_track: Number of the video track; see `read`.

    Raises:
        MediaError: The file is missing, empty or not media, or has no such track.
    """
    path = Path(path)
    with answered(path), opened(path) as container:
        video = video_track_of(container, path, video_track)
        audio = audio_track_of(container, path, audio_track)
        height, width = (video.height, video.width) if video is not None else (0, 0)
        if video is not None:
            frame = next((frame for packet in packets(container, video) for frame in decoded(packet)), None)
            if isinstance(frame, VideoFrame):
                height, width = display_size(frame, pixel_aspect(video))
        sound = audio.codec_context if audio is not None else None
        tracks = (video, *container.streams.audio)
        layout = layout_of(container, path, (video, audio))
        return MediaInfo(
            duration_seconds=layout.length_seconds,
            has_video=video is not None,
            has_audio=audio is not None,
            width=width,
            height=height,
            fps=float(video.average_rate or 0) if video is not None else 0.0,
            audio_rate_hz=sound.sample_rate if sound else 0,
            audio_channels=sound.layout.nb_channels if sound else 0,
            audio_tracks=len(container.streams.audio),
            container=container.format.name.split(",")[0],
            codecs=tuple(track.codec_context.name for track in tracks if track is not None and track.codec_context),
            remarks=layout.remarks(),
        )


def read(
    path: str | Path,
    *,
    start_seconds: float = 0.0,
    segments: int | None = None,
    frame_size: tuple[int, int] | None = None,
    missing_audio: Literal["error", "silence"] = "error",
    missing_video: Literal["error", "black"] = "error",
    audio_track: int | None = None,
    video_track: int | None = None,
    frame_at_seconds: float = 0.5,
) -> Clip:
    """Read one frame and one second of sound for each segment of a video.

    A track that ends before the last segment is continued with its last frame, or with silence. `segments=None` reads
    everything that decodes, whatever length the file declares.

    Args:
        path: A file in any container and codec that FFmpeg reads.
        start_seconds: Start of the first segment.
        segments: Number of one-second segments; None reads to the end of the file (`segments_in`).
        frame_size: Height and width to resize frames to (bicubic, antialiased), ignoring their aspect ratio; None
            keeps the size that a player displays (upright, square pixels).
        missing_audio: For a file without sound: raise an error, or return digital silence.
        missing_video: For a file without a picture: raise an error, or return black frames (224 x 224 without
            `frame_size`) with the middles of the segments as time stamps.
        audio_track: Number of the audio track among those of the file, from 0; None takes the one that FFmpeg would
            choose: the default one, else that with the most channels.
        video_track: Number of the video track, from 0; None takes the one that FFmpeg would choose: the default one,
            else the largest picture. Cover images and thumbnails are no video.
        frame_at_seconds: Which frame of a segment: the one that is displayed this long after its start.

    Raises:
        NoVideoTrack: The file has no picture and `missing_video` is "error", or it has no track `video_track`.
        NoAudioTrack: The file has no sound, or none that is a number, and `missing_audio` is "error"; or it has no
            track `audio_track`.
        MediaError: The file is missing, empty, not media or broken, or ends before `start_seconds`.
    """
    path = Path(path)
    _check_span(path, start_seconds, segments, frame_size)

    def walk_of(container: InputContainer) -> _Walk:
        tracks = tracks_of(container, path, missing_audio, missing_video, audio_track, video_track)
        layout = layout_of(container, path, tracks)
        if start_seconds >= layout.length_seconds:
            raise _after_end(path, start_seconds, layout.length_seconds)
        return _Walk(container, *tracks, layout, start_seconds, segments, frame_size, frame_at_seconds)

    with interruptible(), answered(path):
        with opened(path) as container:
            walk = walk_of(container)
            found = walk.run(seek=start_seconds >= SEEK_FROM_SECONDS and walk.layout.seekable)
        if not found:  # seeking led past the start of the segments: read from the start of the file instead
            with opened(path) as container:
                walk = walk_of(container)
                walk.run(seek=False)
        walk.require(path, missing_audio, missing_video)
        return dataclasses.replace(walk.clip(path), audio_track=audio_track)


def read_sound(
    path: str | Path,
    rate_hz: int,
    *,
    start_seconds: float = 0.0,
    seconds: int | None = None,
    missing_audio: Literal["error", "silence"] = "error",
    audio_track: int | None = None,
) -> Float[Tensor, "samples"]:
    """Read the sound alone, mono and without a gap, at any sampling rate.

    Args:
        path: Any file that FFmpeg reads.
        rate_hz: Sampling rate of the result.
        start_seconds: Start, where the file starts at 0.
        seconds: Longest length; None reads to the end of the sound.
        missing_audio: For a file without sound: raise an error, or return no samples.
        audio_track: As for `read`.

    Raises:
        NoAudioTrack, MediaError: As `read`.
    """
    path = Path(path)
    with answered(path), opened(path) as container:
        tracks = tracks_of(container, path, missing_audio, "black", audio_track)
        if tracks[1] is None:
            return torch.zeros(0)
        walk = _Walk(
            container, None, tracks[1], layout_of(container, path, tracks), start_seconds, seconds, rate_hz=rate_hz
        )
        walk.run(seek=False)
        walk.require(path, missing_audio, "black")
        heard = walk.timeline.end_seconds - start_seconds
        heard = max(0.0, heard if seconds is None else min(heard, seconds))
        return walk.timeline.finish(math.ceil(heard))[: round(heard * rate_hz)] if heard else torch.zeros(0)


@contextlib.contextmanager
def answered(path: Path) -> Iterator[None]:
    """Turn any exception of a decoder, or of what works on its output, into the file's reason.

    Raises:
        MediaError: Decoding raised an exception.
    """
    try:
        yield
    except AvpeaError:
        raise
    except Exception as error:
        what = str(error).split("\n")[0][:200] or "no message"
        raise MediaError(path, f"cannot be decoded ({type(error).__name__}: {what}); get the file anew.") from error


class _Walk:
    """One pass over the packets of both tracks, until all segments have their frame and sound."""

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream | None,
        audio: AudioStream | None,
        layout: Layout,
        start_seconds: float,
        segments: int | None,
        frame_size: tuple[int, int] | None = None,
        frame_at_seconds: float = 0.5,
        rate_hz: int = SAMPLE_RATE_HZ,
    ) -> None:
        self._container, self._video, self._audio = container, video, audio
        self.layout = layout
        self._zero = layout.zero_seconds
        self._start_seconds, self._segments = start_seconds, segments
        self._mender = Mender(layout) if layout.restarts or layout.holes else None
        self._sought = False
        self.picker = FramePicker(start_seconds + frame_at_seconds - 0.5, segments, frame_size, pixel_aspect(video))
        self.timeline = Timeline(start_seconds, segments, rate_hz)
        self.ended = False  # whether the file's end was reached
        self._picture_end = -math.inf

    @property
    def end_seconds(self) -> float:
        """End of the last frame or sound that was decoded."""
        return max(self._picture_end, self.timeline.end_seconds)

    def clip(self, path: Path) -> Clip:
        """What was decoded.

        Raises:
            MediaError: The file ends before the first segment.
        """
        start, length = self._start_seconds, self.layout.length_seconds
        right = length - EQUAL_SECONDS <= self.end_seconds <= length + CODEC_PADDING_SECONDS
        duration = self.end_seconds if self.ended and not right else length
        if start >= duration:
            raise _after_end(path, start, duration)
        segments = self._segments or segments_in(duration - start)
        frames, frame_seconds = self.picker.finish(segments)
        return Clip(
            frames=frames,
            frame_seconds=frame_seconds,
            frame_aspect=self.picker.aspect,
            waveform=self.timeline.finish(segments),
            duration_seconds=duration,
            declared_seconds=max(self.layout.declared_seconds, length),
            start_seconds=start,
            path=path,
            repairs=(*self.layout.remarks(), *self.picker.remarks(), *self.timeline.remarks()),
        )

    def run(self, seek: bool) -> bool:
        """Decode; False if seeking led to a point from which the first segments cannot be decoded."""
        if seek and not self._seek():
            return False
        tracks = [track for track in (self._video, self._audio) if track is not None]
        for packet in packets(self._container, *tracks):
            if self._mender is not None and packet.size:
                self._mender.mend(packet)
            if not self._waits_for(packet.stream):
                continue
            if not all(self._take(frame) for frame in decoded(packet)):
                return False
            if not any(self._waits_for(track) for track in tracks):
                break
        else:
            self.ended = True
        return not (self._sought and self._video is not None and self.picker.empty)

    def require(self, path: Path, missing_audio: str, missing_video: str) -> None:
        """Refuse tracks in which nothing can be decoded, unless they may be missing.

        Raises:
            MediaError: Nothing can be decoded at all, or nothing of a required track.
        """
        no_picture = self._video is not None and self.picker.empty
        no_sound = self._audio is not None and self.timeline.empty and self.ended and not self._sought
        if no_picture and (no_sound or self._audio is None):
            raise MediaError(path, "nothing in this file decodes; expected an intact video. Get the file anew.")
        if no_picture and missing_video == "error":
            raise NoVideoTrack(path, f"no frame of the video track decodes. {BLACK_REMEDY}")
        if no_sound and missing_audio == "error":
            raise NoAudioTrack(path, f"nothing in the audio track decodes. {SILENCE_REMEDY}")
        if self.timeline.unusable and missing_audio == "error":
            raise NoAudioTrack(path, f"all of its sound is NaN, infinite or absurdly loud. {SILENCE_REMEDY}")

    def _waits_for(self, track: Stream) -> bool:
        return not (self.picker.done if track is self._video else self.timeline.done)

    def _take(self, frame: VideoFrame | AudioFrame) -> bool:
        """Use a frame; False if it is the first one after seeking, and late or no key frame."""
        seconds = seconds_of(frame, self._zero)
        if seconds is not None and seconds > self.layout.length_seconds + STILL_SECONDS:
            seconds = None  # a decoder that makes up time stamps of damaged packets
        if isinstance(frame, AudioFrame):
            if self._sought and self.timeline.empty and (seconds or 0) > self.timeline.origin_seconds:
                return False
            self.timeline.add(seconds, frame, float(frame.time_base or 0) if self._sought else 0.0)
            return True
        seconds = max(self._picture_end, 0.0) if seconds is None else seconds
        if self._sought and self.picker.empty and (not frame.key_frame or seconds > self.picker.first_middle):
            return False
        self.picker.add(seconds, frame)
        self._picture_end = max(
            self._picture_end, seconds + shown_seconds(frame, self._video, self.layout.still_seconds)
        )
        return True

    def _seek(self) -> bool:
        self._sought = True
        track = self._audio if self._video is None else self._video
        assert track is not None
        assert track.time_base is not None
        target = self.timeline.origin_seconds - WARM_UP_SECONDS + self._zero
        try:
            self._container.seek(int(target / float(track.time_base)), stream=track)
        except FFmpegError:
            return False
        return True


def _check_span(path: Path, start_seconds: float, segments: int | None, frame_size: tuple[int, int] | None) -> None:
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise MediaError(path, f"start_seconds is {start_seconds}; expected 0 or more.")
    if segments is not None and segments < 1:
        raise MediaError(path, f"segments is {segments}; expected 1 or more, or None for the whole file.")
    if frame_size is not None and min(frame_size) < 1:
        raise MediaError(path, f"frame_size is {frame_size}; expected a height and a width of at least 1 pixel.")


def _after_end(path: Path, start_seconds: float, duration: float) -> MediaError:
    return MediaError(path, f"start_seconds is {start_seconds:g}, but the file ends at {duration:.2f}; start earlier.")
