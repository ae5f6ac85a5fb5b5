"""Opening media files, and finding their tracks and packets."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError, InvalidDataError
from av.frame import Frame
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpea.errors import MediaError, NoAudioTrack, NoVideoTrack
from avpea.media.limits import decoding
from avpea.media.regular import require_file
from avpea.tables import how_many

__all__ = [
    "BLACK_REMEDY",
    "SILENCE_REMEDY",
    "Tracks",
    "audio_track_of",
    "decoded",
    "opened",
    "packets",
    "pixel_aspect",
    "require_size",
    "seconds_of",
    "tracks_of",
    "turn_messages_off",
    "video_track_of",
    "zero_seconds",
]

PLAYLIST = b"#EXTM3U"  # FFmpeg would open what it lists, and wait forever for a live stream
BLACK_REMEDY = 'Use a file with a picture, or missing_video="black".'
SILENCE_REMEDY = 'Use a file with sound, or missing_audio="silence".'
# PyAV's arrays have room for the planes of 8 channels; more of them are read out of bounds. Only damaged packets and
# codecs for more than 7.1 have them.
MOST_PLANES = 8
MOST_CHANNELS = 64  # that FFmpeg can mix
RATES_HZ = range(1000, 2_000_001)  # of sound; a damaged rate makes hours of a second, or gigabytes of a packet
INDEX_BYTES = 1 << 24  # the index of some hours of MP4
WIDEST_PIXEL = 16.0  # width / height; widescreen from DV has 1.46, anamorphic film 2
STILLS = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
Track = TypeVar("Track", VideoStream, AudioStream)
Tracks = tuple[VideoStream | None, AudioStream | None]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file.

    Raises:
        MediaError: The file is missing, empty or not media.
    """
    require_file(path)
    turn_messages_off()
    try:
        with path.open("rb") as file:
            first_bytes = file.read(len(PLAYLIST))
        if not first_bytes:
            raise MediaError(path, "the file is empty (0 bytes); get it anew.")
        if first_bytes == PLAYLIST:
            raise MediaError(path, "this is a playlist (m3u8); expected the video itself.")
        # With "file:", a colon in a name does not start a protocol; the whitelist allows no other protocol.
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except InvalidDataError:
        _require_readable(path)
        raise MediaError(path, "not a video, or cut off before its index (moov); expected a media file.") from None
    except MemoryError:
        raise
    except (FFmpegError, OSError) as error:
        _require_memory(0)
        raise MediaError(path, f"cannot be opened: {error.strerror}.") from None
    with container:
        yield container


def turn_messages_off() -> None:
    """Turn PyAV's messages off, as they are by default; older releases of torchvision turn them on.

    A thread of a codec that has a message waits for Python's lock. What frees the codec holds that lock and waits for
    the thread: the process would hang for good (PyAV's issues 751 and 909).
    """
    if av.logging.get_level() is not None:
        av.logging.set_level(None)


def tracks_of(
    container: InputContainer,
    path: Path,
    missing_audio: str,
    missing_video: str,
    audio_track: int | None = None,
    video_track: int | None = None,
) -> Tracks:
    """Find the video track and the audio track: those with the given numbers, else those that FFmpeg would choose.

    Raises:
        MediaError: A track is missing that is not allowed to be.
    """
    video, audio = video_track_of(container, path, video_track), audio_track_of(container, path, audio_track)
    if video is None and audio is None:
        raise MediaError(path, "has neither a video nor an audio track that can be decoded; get it anew.")
    if video is None and missing_video == "error":
        raise NoVideoTrack(path, f"has no video track that can be decoded. {BLACK_REMEDY}")
    if audio is None and missing_audio == "error":
        raise NoAudioTrack(path, f"has no audio track that can be decoded. {SILENCE_REMEDY}")
    return video, audio


def video_track_of(container: InputContainer, path: Path, number: int | None = None) -> VideoStream | None:
    """The video track with a number, or the one that FFmpeg chooses: the default one, then the largest picture.

    Cover images, stills and thumbnails are no video, unless asked for by number. The track is set up for decoding.

    Raises:
        NoVideoTrack: There is no such number, or no decoder for the track.
    """
    moving = [track for track in _decodable(container.streams.video) if not track.disposition & STILLS]
    video = max(moving, key=lambda track: (_is_default(track), track.width * track.height), default=None)
    if number is not None and container.streams.video:
        video = _numbered(container.streams.video, number, path, "video_track", NoVideoTrack)
    if video is not None:
        require_size(path, video.width, video.height)
        video.codec_context.options = {"max_pixels": str(decoding.limits.megapixels * 1_000_000)}
        video.thread_type = "AUTO"
        video.codec_context.thread_count = decoding.video_threads(video.width * video.height)
    return video


def require_size(path: Path, width: int, height: int) -> None:
    """Refuse a picture that is too large.

    Raises:
        MediaError: It has more pixels than the limits allow.
    """
    if width * height > decoding.limits.megapixels * 1_000_000:
        raise MediaError(
            path,
            f"its picture has {width} x {height} pixels; expected at most {decoding.limits.megapixels} million. If it "
            f"is intact, {decoding.limits.more('megapixels')} allows it.",
        )


def audio_track_of(container: InputContainer, path: Path, number: int | None = None) -> AudioStream | None:
    """The audio track with a number, or the one that FFmpeg chooses: the default one, then the most channels.

    Raises:
        NoAudioTrack: There is no such number, or no decoder for the track.
    """
    if number is not None and container.streams.audio:
        return _numbered(container.streams.audio, number, path, "audio_track", NoAudioTrack)
    sounds = _decodable(container.streams.audio)
    return max(sounds, key=lambda track: (_is_default(track), track.codec_context.layout.nb_channels), default=None)


def _decodable(tracks: Sequence[Track]) -> list[Track]:
    return [track for track in tracks if _has_decoder(track)]


def _has_decoder(track: VideoStream | AudioStream) -> bool:
    context: object = track.codec_context  # None without a decoder, which the stubs do not know
    return context is not None


def _is_default(track: Stream) -> bool:
    return bool(track.disposition & Disposition.default)


def _numbered(tracks: Sequence[Track], number: int, path: Path, name: str, error: type[MediaError]) -> Track:
    if 0 <= number < len(tracks) and _has_decoder(tracks[number]):
        return tracks[number]
    has = "; ".join(f"{index}: {_described(track)}" for index, track in enumerate(tracks))
    raise error(path, f"{name} is {number}; expected 0 to {len(tracks) - 1}, the tracks that it has ({has}).")


def _described(track: VideoStream | AudioStream) -> str:
    if not _has_decoder(track):
        return "no decoder"
    if isinstance(track, VideoStream):
        words = [f"{track.codec_context.name} {track.width}x{track.height}"]
    else:
        channels = track.codec_context.layout.nb_channels
        words = [f"{track.codec_context.name} with {how_many(channels, 'channel')}"]
    if track.language and track.language != "und":
        words.append(track.language)
    flags = ((Disposition.default, "default"), (STILLS, "still"))
    return ", ".join([*words, *(text for flag, text in flags if track.disposition & flag)])


def packets(
    container: InputContainer,
    *tracks: Stream,
    path: Path,
    stopped: Callable[[str], None] = lambda why: None,
) -> Iterator[Packet]:  # type: ignore[type-arg]  # generic in stubs only
    """The packets of the tracks; a truncated file ends early.

    Args:
        container: The open file.
        tracks: The tracks.
        path: The file.
        stopped: Called with FFmpeg's words if it cannot go on before the file's end.

    Raises:
        MediaError: The file cannot be read, as on a disk or a network that fails.
    """
    wanted = {track.index for track in tracks}
    try:
        for packet in container.demux(*tracks):
            decoding.progressed(packet)
            if packet.stream_index in wanted:  # damage can make new tracks with the numbers of others
                yield packet
    except MemoryError:  # an FFmpegError as well
        raise
    except (EndOfFile, InvalidDataError, IndexError):
        # PyAV raises IndexError at the end of a file in which a track began that was not there at its start.
        _require_memory(0)
    except OSError as error:  # FFmpeg's, too; it comes at the end, although what was lost may lie long before it
        raise _unreadable(path, error) from None
    except FFmpegError as error:
        _require_memory(0)
        stopped(error.strerror or type(error).__name__)


def _unreadable(path: Path, error: OSError) -> MediaError:
    """The error of a file that the system does not read, now at least: it may be intact."""
    return MediaError(path, f"cannot be read ({error.strerror}); see whether its disk is well, and try again.")


def _require_readable(path: Path) -> None:
    """Raise what the system says of a file that FFmpeg takes for damaged, where its index may lie: at its ends."""
    try:
        with path.open("rb") as file:
            file.read(INDEX_BYTES)
            file.seek(max(0, os.fstat(file.fileno()).st_size - INDEX_BYTES))
            file.read(INDEX_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None


def decoded(packet: Packet) -> tuple[list[VideoFrame | AudioFrame], bool]:  # type: ignore[type-arg]  # stubs only
    """The frames of a packet, and whether it is whole; a damaged one has none or fewer, as in a player."""
    try:
        frames = packet.decode()
    except MemoryError:
        raise
    except FFmpegError:
        _require_memory(packet.stream.width * packet.stream.height if isinstance(packet.stream, VideoStream) else 0)
        return [], False
    plausible: list[VideoFrame | AudioFrame] = [frame for frame in frames if _is_plausible(frame)]
    return plausible, len(plausible) == len(frames)


def _require_memory(pixels: int) -> None:
    """Raise the MemoryError that FFmpeg may have meant."""
    if decoding.is_short(pixels):
        raise MemoryError


def _is_plausible(frame: VideoFrame | AudioFrame) -> bool:
    if isinstance(frame, VideoFrame):
        return True
    most = MOST_PLANES if frame.format.is_planar else MOST_CHANNELS
    return frame.layout.nb_channels <= most and frame.sample_rate in RATES_HZ


def seconds_of(item: Packet | Frame, zero_seconds: float) -> float | None:  # type: ignore[type-arg]
    """Time stamp, where the file starts at 0; None if there is none."""
    if item.pts is None or item.time_base is None:
        return None
    return float(item.pts) * float(item.time_base) - zero_seconds


def zero_seconds(container: InputContainer) -> float:
    """Time stamp of the container at which the file starts."""
    return float((container.start_time or 0) / av.time_base)


def pixel_aspect(video: VideoStream | None) -> float:
    """Width / height of a coded pixel; 1 if the file says what no camera has."""
    aspect = float((video.sample_aspect_ratio if video is not None else None) or 1)
    return aspect if 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL else 1.0
