"""One pass over a file: frames and samples go into rows as they decode. Without torch, for the workers that decode."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpea.errors import MediaError, NoAudioTrack, NoVideoTrack
from avpea.media.container import (
    BLACK_REMEDY,
    SILENCE_REMEDY,
    decoded,
    packets,
    pixel_aspect,
    require_size,
    seconds_of,
)
from avpea.media.found import Found
from avpea.media.growing import Rows
from avpea.media.info import CODEC_PADDING_SECONDS, SAMPLE_RATE_HZ, segments_in
from avpea.media.layout import EQUAL_SECONDS, STILL_SECONDS, Layout, Mender, packet_seconds, shown_seconds
from avpea.media.picture import FramePicker, display_size
from avpea.media.sieve import Sieve
from avpea.media.sound import Timeline

__all__ = ["Span", "Walk", "after_end"]

NOTHING = "nothing in this file decodes; expected an intact video. Get the file anew."
LOSS_SECONDS = 0.05  # less is what encoders leave at the ends of files
REACHED_SECONDS = 1e-3  # rounding of time stamps
PACE_SECONDS = 2.0  # how far behind the other a track is continued that has ended
WARM_UP_SECONDS = 1.0  # after seeking, AAC, MP3 and Opus decode the first packets wrongly


@dataclass(frozen=True)
class Span:
    """What is read of a file; see `avpea.media.read`.

    Attributes:
        steady: Whether a track that has ended goes on with its last frame or with silence as the other is decoded,
            instead of at the end, so that whole segments come one after another.
    """

    start_seconds: float
    segments: int | None
    frame_size: tuple[int, int] | None = None
    frame_at_seconds: float = 0.5
    rate_hz: int = SAMPLE_RATE_HZ
    steady: bool = False


class Walk:
    """One pass over the packets of both tracks, until all segments have their frame and sound.

    Args:
        path: The file.
        container: The open file.
        video: The video track to decode, if any.
        audio: The audio track to decode, if any.
        layout: The clock of these tracks.
        span: What is read of them.
        frames: Where frames go.
        samples: Where the samples of the sound go.
    """

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        video: VideoStream | None,
        audio: AudioStream | None,
        layout: Layout,
        span: Span,
        frames: Rows,
        samples: Rows,
    ) -> None:
        self._path, self._container, self._video, self._audio = path, container, video, audio
        self.layout = layout
        self._zero = layout.zero_seconds
        self._start_seconds, self._segments, self._frame_size = span.start_seconds, span.segments, span.frame_size
        self._mender = Mender(layout) if layout.restarts or layout.holes else None
        self._sought = False
        self._steady, self._drained, self._reached = span.steady, set[Stream](), dict[Stream, float]()
        middle = span.start_seconds + span.frame_at_seconds - 0.5
        self.picker = FramePicker(middle, span.segments, span.frame_size, pixel_aspect(video), frames)
        self._sieve = None if video is None else Sieve(video, self.picker.moment, self._seconds)
        self.timeline = Timeline(span.start_seconds, span.segments, samples, span.rate_hz)
        self.ended = False  # whether the file's end was reached
        self._picture_end = -math.inf
        self._lost_seconds = {"video": 0.0, "audio": 0.0}

    @property
    def end_seconds(self) -> float:
        """End of the last frame or sound that was decoded."""
        return max(self._picture_end, self.timeline.end_seconds)

    def finish(self) -> Found:
        """Complete the rows of what was decoded.

        Raises:
            MediaError: The file ends before the first segment.
        """
        start, length = self._start_seconds, self.layout.length_seconds
        right = length - EQUAL_SECONDS <= self.end_seconds <= length + CODEC_PADDING_SECONDS
        duration = self.end_seconds if self.ended and not right else length
        if start >= duration:
            raise after_end(self._path, start, duration)
        segments = self._segments or segments_in(duration - start)
        frame_seconds = self.picker.finish(segments)
        self.timeline.finish()
        return Found(
            segments=segments,
            frame_seconds=tuple(frame_seconds),
            frame_aspect=self.picker.aspect,
            black=self.picker.black,
            skip=self.timeline.skip,
            duration_seconds=duration,
            declared_seconds=max(self.layout.declared_seconds, length),
            repairs=(*self.layout.remarks(), *self.picker.remarks(), *self.timeline.remarks(), *self._losses()),
        )

    def run(self, seek: bool) -> bool:
        """Decode; False if seeking led to a point from which the first segments cannot be decoded."""
        if seek and not self._seek():
            return False
        tracks = [track for track in (self._video, self._audio) if track is not None]
        for packet in self._packets(tracks):
            if not self._waits_for(packet.stream):
                continue
            if self._steady and packet.size:
                self._reach(packet)
            frames, whole = decoded(packet)
            if not whole:
                self._lose(packet)
            if not all(self._take(frame) for frame in frames):
                return False
            if not any(self._waits_for(track) for track in tracks):
                break
        else:
            self.ended = True
        return not (self._sought and self._video is not None and self.picker.empty)

    def require(self, missing_audio: str, missing_video: str) -> None:
        """Refuse tracks in which nothing can be decoded, unless they may be missing.

        Raises:
            MediaError: Nothing can be decoded at all, or nothing of a required track.
        """
        no_picture = self._video is not None and self.picker.empty
        no_sound = self._audio is not None and self.timeline.empty and self.ended and not self._sought
        nothing = self.picker.empty and self.timeline.empty and not self._sought
        if nothing or (no_picture and (no_sound or self._audio is None)):
            raise MediaError(self._path, _nothing(self._path))
        if no_picture and missing_video == "error":
            raise NoVideoTrack(self._path, f"no frame of the video track decodes. {BLACK_REMEDY}")
        if no_sound and missing_audio == "error":
            raise NoAudioTrack(self._path, f"nothing in the audio track decodes. {SILENCE_REMEDY}")
        if self.timeline.unusable and missing_audio == "error":
            raise NoAudioTrack(self._path, f"all of its sound is NaN, infinite or absurdly loud. {SILENCE_REMEDY}")

    def _packets(self, tracks: Sequence[Stream]) -> Iterator[Packet]:  # type: ignore[type-arg]  # generic in stubs only
        """The packets to decode, with the file's clock."""
        every = packets(self._container, *tracks, path=self._path)
        mended = every if self._mender is None else map(self._mender.mended, every)
        return mended if self._sieve is None else self._sieve.sift(mended)

    def _seconds(self, item: Packet | VideoFrame | AudioFrame) -> float | None:  # type: ignore[type-arg]
        return seconds_of(item, self._zero)

    def _lose(self, packet: Packet) -> None:  # type: ignore[type-arg]  # generic in stubs only
        """Take note of a damaged packet, unless it is one before the start, which are decoded for their effects."""
        if self._sieve is not None:
            self._sieve.stop()
        seconds = self._seconds(packet)
        if packet.size and packet.duration and packet.time_base and (seconds or 0.0) >= self._start_seconds:
            self._lost_seconds[packet.stream.type] += float(packet.duration * packet.time_base)

    def _losses(self) -> Iterator[str]:
        most = self.layout.length_seconds
        picture, sound = (min(self._lost_seconds[kind], most) for kind in ("video", "audio"))
        if picture >= LOSS_SECONDS:
            yield f"{picture:.1f} s of the picture are damaged and do not decode; frames beside them are shown instead."
        if sound >= LOSS_SECONDS:
            yield f"{sound:.1f} s of the sound are damaged and do not decode; they are read as silence."

    def _waits_for(self, track: Stream) -> bool:
        return not (self.picker.done if track is self._video else self.timeline.done)

    def _take(self, frame: VideoFrame | AudioFrame) -> bool:
        """Use a frame; False if it is the first one after seeking, and late or no key frame."""
        seconds = self._seconds(frame)
        if seconds is not None and seconds > self.layout.length_seconds + STILL_SECONDS:
            seconds = None  # a decoder that makes up time stamps of damaged packets
        if isinstance(frame, AudioFrame):
            if self._sought and self.timeline.empty and (seconds or 0) > self.timeline.origin_seconds:
                return False
            self.timeline.add(seconds, frame, float(frame.time_base or 0) if self._sought else 0.0)
            if self._steady and self._is_over(self._video, self.timeline.end_seconds):
                self.picker.hold(self.timeline.end_seconds - PACE_SECONDS)
            return True
        if self._sieve is not None:
            self._sieve.seen(frame)
        seconds = max(self._picture_end, 0.0) if seconds is None else seconds
        if self._sought and self.picker.empty and (not frame.key_frame or seconds > self.picker.first_middle):
            return False
        if self._frame_size is None and self.picker.empty:
            require_size(self._path, *reversed(display_size(frame, pixel_aspect(self._video))))
        self.picker.add(seconds, frame)
        shown = shown_seconds(frame, self._video, self.layout.still_seconds)
        left = self.layout.end_of(self._video) - seconds
        if self._mender is None and left > 0:  # tables of MP4 have times between decoding, and not between showing
            shown = min(shown, left)
        self._picture_end = max(self._picture_end, seconds + shown)
        if self._steady and self._is_over(self._audio, self._picture_end):
            self.timeline.hold(self._picture_end - PACE_SECONDS)
        return True

    def _reach(self, packet: Packet) -> None:  # type: ignore[type-arg]  # generic in stubs only
        """Take note of how far the packets of a track have come."""
        seconds = self._seconds(packet)
        if seconds is not None:
            length = packet_seconds(packet, packet.stream, self.layout.still_seconds)
            end = seconds + length + REACHED_SECONDS
            self._reached[packet.stream] = max(end, self._reached.get(packet.stream, end))

    def _is_over(self, track: Stream | None, seconds: float) -> bool:
        """Whether a track has ended long before a time; then what its decoder still holds is used."""
        end = self.layout.end_of(track)
        if self._mender is not None:
            return False  # where the clock is broken, no end is certain
        if seconds < end + PACE_SECONDS or (track is not None and self._reached.get(track, -math.inf) < end):
            return False  # transport streams keep the last packet of a track back until the file ends
        if track is not None and track not in self._drained:
            self._drained.add(track)
            rest = Packet()
            rest.stream = track
            rest.time_base = track.time_base or rest.time_base
            for frame in decoded(rest)[0]:
                self._take(frame)
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


def after_end(path: Path, start_seconds: float, duration: float) -> MediaError:
    """The error of a file that ends before what is asked for."""
    if start_seconds == 0:
        return MediaError(path, _nothing(path))
    return MediaError(path, f"start_seconds is {start_seconds:g}, but the file ends at {duration:.2f}; start earlier.")


def _nothing(path: Path) -> str:
    """Why nothing decodes: an animated WebP is no broken one, but FFmpeg's decoder knows still ones alone."""
    with path.open("rb") as file:
        head = file.read(21)
    animated = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)
    return "is an animated WebP, which is not read; convert it, for example to GIF or MP4." if animated else NOTHING
