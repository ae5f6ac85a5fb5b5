"""Reading a `Clip` from any file that FFmpeg reads, in one pass over the file.

Every file starts at 0 s, even where the container's time stamps do not (MPEG-TS). Both tracks are placed by their time
stamps, so sound that starts late stays in step with the picture.
"""

import math
from pathlib import Path
from typing import Literal

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpea.errors import MediaError, NoAudioTrack, NoVideoTrack
from avpea.media.clip import Clip, MediaInfo, segments_in
from avpea.media.container import (
    BLACK_REMEDY,
    SILENCE_REMEDY,
    decoded,
    duration_of,
    opened,
    packets,
    picture_track,
    pixel_aspect,
    seconds_of,
    sound_tracks,
    tracks_of,
    zero_seconds,
)
from avpea.media.picture import FramePicker, display_size
from avpea.media.sound import Timeline

__all__ = ["probe", "read"]

SEEK_FROM_SECONDS = 10.0  # reading from the start is quick and safe up to here
WARM_UP_SECONDS = 1.0  # after seeking, AAC, MP3 and Opus decode the first packets wrongly
INDEXED = {"mov", "matroska"}  # formats with an index of key frames; in others seeking is a guess
TRUNCATED_SECONDS = 1.0  # smaller differences come from how the last frame's duration is counted


def probe(path: str | Path) -> MediaInfo:
    """What a file contains; decodes a single frame, because only that shows how the picture is rotated.

    Raises:
        MediaError: The file is missing, empty or not media.
    """
    path = Path(path)
    with opened(path) as container:
        video, sounds = picture_track(container), sound_tracks(container)
        height = width = 0
        if video is not None:
            height, width = video.height, video.width
            frame = next((frame for packet in packets(container, video) for frame in decoded(packet)), None)
            if isinstance(frame, VideoFrame):
                height, width = display_size(frame, pixel_aspect(video))
        first = sounds[0].codec_context if sounds else None
        tracks = ([video] if video is not None else []) + list(sounds)
        return MediaInfo(
            duration_seconds=duration_of(container, path),
            has_video=video is not None,
            has_audio=bool(sounds),
            width=width,
            height=height,
            fps=float(video.average_rate or 0) if video is not None else 0.0,
            audio_rate_hz=first.sample_rate if first else 0,
            audio_channels=first.layout.nb_channels if first else 0,
            audio_tracks=len(sounds),
            container=container.format.name.split(",")[0],
            codecs=tuple(track.codec_context.name for track in tracks),
        )


def read(
    path: str | Path,
    *,
    start_seconds: float = 0.0,
    segments: int | None = None,
    frame_size: tuple[int, int] | None = None,
    missing_audio: Literal["error", "silence"] = "error",
    missing_video: Literal["error", "black"] = "error",
    audio_track: int = 0,
) -> Clip:
    """Read one frame and one second of sound for each segment of a video.

    A track that ends before the last segment is continued with its last frame, or with silence. Of a truncated file,
    `segments=None` reads as many segments as can be decoded.

    Args:
        path: A file in any container and codec that FFmpeg reads.
        start_seconds: Start of the first segment.
        segments: Number of one-second segments; None reads to the end of the file (`segments_in`).
        frame_size: Height and width to resize frames to (bicubic, antialiased), ignoring their aspect ratio; None
            keeps the size that a player displays (upright, square pixels).
        missing_audio: For a file without sound: raise an error, or return digital silence.
        missing_video: For a file without a picture: raise an error, or return black frames (224 x 224 without
            `frame_size`) with the middles of the segments as time stamps.
        audio_track: Index of the audio track, from 0.

    Raises:
        NoVideoTrack: The file has no picture and `missing_video` is "error".
        NoAudioTrack: The file has no sound and `missing_audio` is "error", or it has no track `audio_track`.
        MediaError: The file is missing, empty, not media or broken, or ends before `start_seconds`.
    """
    path = Path(path)
    _check_span(path, start_seconds, segments, frame_size)
    with opened(path) as container:
        duration = declared = duration_of(container, path)
        if start_seconds >= duration:
            raise _after_end(path, start_seconds, duration)
        tracks = tracks_of(container, path, audio_track, missing_audio, missing_video)
        far = start_seconds >= SEEK_FROM_SECONDS and container.format.name.split(",")[0] in INDEXED
        wanted = segments or segments_in(duration - start_seconds)
        walk = _Walk(container, *tracks, start_seconds, wanted, frame_size)
        found = walk.run(seek=far)
    if not found:  # seeking led past the start of the segments: read from the start of the file instead
        with opened(path) as container:
            tracks = tracks_of(container, path, audio_track, missing_audio, missing_video)
            walk = _Walk(container, *tracks, start_seconds, wanted, frame_size)
            walk.run(seek=False)
    walk.require(path, missing_audio, missing_video)
    if walk.ended and walk.end_seconds + TRUNCATED_SECONDS < duration:
        duration = walk.end_seconds
        if start_seconds >= duration:
            raise _after_end(path, start_seconds, duration)
        wanted = segments or segments_in(duration - start_seconds)
    frames, frame_seconds = walk.picker.finish(wanted)
    sound = walk.timeline.finish(wanted)
    return Clip(frames, frame_seconds, walk.picker.aspect, sound, duration, declared, start_seconds, path)


class _Walk:
    """One pass over the packets of both tracks, until all segments have their frame and sound."""

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream | None,
        audio: AudioStream | None,
        start_seconds: float,
        segments: int,
        frame_size: tuple[int, int] | None,
    ) -> None:
        self._container, self._video, self._audio = container, video, audio
        self._zero = zero_seconds(container)
        self._sought = False
        self.picker = FramePicker(start_seconds, segments, frame_size, pixel_aspect(video))
        self.timeline = Timeline(start_seconds, segments)
        self.ended = False  # whether the file's end was reached
        self._picture_end = -math.inf

    @property
    def end_seconds(self) -> float:
        """End of the last frame or sound that was decoded."""
        return max(self._picture_end, self.timeline.end_seconds)

    def run(self, seek: bool) -> bool:
        """Decode; False if seeking led to a point from which the first segments cannot be decoded."""
        if seek and not self._seek():
            return False
        tracks = [track for track in (self._video, self._audio) if track is not None]
        for packet in packets(self._container, *tracks):
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

    def _waits_for(self, track: Stream) -> bool:
        return not (self.picker.done if track is self._video else self.timeline.done)

    def _take(self, frame: VideoFrame | AudioFrame) -> bool:
        """Use a frame; False if it is the first one after seeking, and late or no key frame."""
        seconds = seconds_of(frame, self._zero)
        if isinstance(frame, AudioFrame):
            if self._sought and self.timeline.empty and (seconds or 0) > self.timeline.origin_seconds:
                return False
            self.timeline.add(seconds, frame, float(frame.time_base or 0) if self._sought else 0.0)
            return True
        seconds = max(self._picture_end, 0.0) if seconds is None else seconds
        if self._sought and self.picker.empty and (not frame.key_frame or seconds > self.picker.first_middle):
            return False
        self.picker.add(seconds, frame)
        self._picture_end = max(self._picture_end, seconds + self._shown_seconds(frame))
        return True

    def _shown_seconds(self, frame: VideoFrame) -> float:
        assert self._video is not None
        declared = float((frame.duration or 0) * (frame.time_base or 0))
        return max(declared, 1 / float(self._video.average_rate or 25))

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
