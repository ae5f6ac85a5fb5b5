"""Opening media files, and finding their tracks, their length and the start of their clock."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.frame import Frame
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpea.errors import MediaError, NoAudioTrack, NoVideoTrack

__all__ = [
    "BLACK_REMEDY",
    "SILENCE_REMEDY",
    "decoded",
    "duration_of",
    "opened",
    "packets",
    "picture_track",
    "pixel_aspect",
    "seconds_of",
    "sound_tracks",
    "tracks_of",
    "zero_seconds",
]

ONE_FRAME_SECONDS = 0.04  # of a still image, whose frame has no duration
PLAYLIST = b"#EXTM3U"  # FFmpeg would open what it lists, and wait forever for a live stream
BLACK_REMEDY = 'Use a file with a picture, or missing_video="black".'
SILENCE_REMEDY = 'Use a file with sound, or missing_audio="silence".'


@contextlib.contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file.

    Raises:
        MediaError: The file is missing, empty or not media.
    """
    if not path.exists():
        raise MediaError(path, "there is no such file; check the path.")
    if not path.is_file():
        raise MediaError(path, "this is a folder; expected a video file.")
    try:
        with path.open("rb") as file:
            first_bytes = file.read(len(PLAYLIST))
        if not first_bytes:
            raise MediaError(path, "the file is empty (0 bytes); expected a video. Get it anew.")
        if first_bytes == PLAYLIST:
            raise MediaError(path, "this is a playlist (m3u8); expected the video itself.")
        # With "file:", a colon in a name does not start a protocol; the whitelist allows no other protocol.
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except InvalidDataError:
        raise MediaError(path, "not a video, or cut off before its index (moov); expected a media file.") from None
    except (FFmpegError, OSError) as error:
        raise MediaError(path, f"cannot be opened: {error.strerror}.") from None
    with container:
        yield container


def tracks_of(
    container: InputContainer, path: Path, audio_track: int, missing_audio: str, missing_video: str
) -> tuple[VideoStream | None, AudioStream | None]:
    """Find the video track, and the audio track with index `audio_track`.

    Raises:
        MediaError: A track is missing that is not allowed to be.
    """
    video, sounds = picture_track(container), sound_tracks(container)
    if video is None and not sounds:
        raise MediaError(path, "has neither a video nor an audio track that can be decoded; expected a video.")
    if video is None and missing_video == "error":
        raise NoVideoTrack(path, f"has no video track that can be decoded. {BLACK_REMEDY}")
    if not sounds and missing_audio == "error":
        raise NoAudioTrack(path, f"has no audio track that can be decoded. {SILENCE_REMEDY}")
    if sounds and not 0 <= audio_track < len(sounds):
        raise NoAudioTrack(path, f"audio_track is {audio_track}; expected 0 to {len(sounds) - 1}, the tracks it has.")
    return video, sounds[audio_track] if sounds else None


def picture_track(container: InputContainer) -> VideoStream | None:
    """The first video track that is not the cover image of a sound file, set up for decoding; or None."""
    pictures = (track for track in container.streams.video if track.codec_context is not None)
    video = next((track for track in pictures if not track.disposition & Disposition.attached_pic), None)
    if video is not None:
        video.thread_type = "AUTO"
        # One thread in worker processes, which share the machine; all cores otherwise. The pixels are the same.
        video.codec_context.thread_count = 1 if multiprocessing.parent_process() is not None else 0
    return video


def sound_tracks(container: InputContainer) -> list[AudioStream]:
    """The audio tracks for which FFmpeg has a decoder."""
    return [track for track in container.streams.audio if track.codec_context is not None]


def packets(container: InputContainer, *tracks: Stream) -> Iterator[Packet]:  # type: ignore[type-arg]  # stubs only
    """The packets of the tracks; a truncated file ends early."""
    with contextlib.suppress(FFmpegError):
        yield from container.demux(*tracks)


def decoded(packet: Packet) -> list[VideoFrame | AudioFrame]:  # type: ignore[type-arg]  # generic in stubs only
    """The frames of a packet; none if it is damaged, as in a player."""
    try:
        return list(packet.decode())
    except FFmpegError:
        return []


def seconds_of(item: Packet | Frame, zero_seconds: float) -> float | None:  # type: ignore[type-arg]
    """Time stamp, where the file starts at 0; None if there is none."""
    if item.pts is None or item.time_base is None:
        return None
    return float(item.pts) * float(item.time_base) - zero_seconds


def zero_seconds(container: InputContainer) -> float:
    """Time stamp of the container at which the file starts."""
    return float((container.start_time or 0) / av.time_base)


def duration_of(container: InputContainer, path: Path) -> float:
    """Duration in the header, or computed from all packets if the header has none (raw streams)."""
    if container.duration:
        return float(container.duration / av.time_base)
    end = 0.0
    with opened(path) as again:
        zero = zero_seconds(again)
        for packet in packets(again):
            length = float((packet.duration or 0) * (packet.time_base or 0))
            start = seconds_of(packet, zero)
            end = end + length if start is None else max(end, start + length)
    return max(end, ONE_FRAME_SECONDS)


def pixel_aspect(video: VideoStream | None) -> float:
    """Width / height of a coded pixel."""
    return float((video.sample_aspect_ratio if video is not None else None) or 1)
