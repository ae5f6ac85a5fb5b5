"""What a worker does with a file, and this process where there is no worker: one way to decode for both."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from av.container import InputContainer
from av.video.frame import VideoFrame

from avpea.errors import AvpeaError, MediaError
from avpea.media.container import (
    audio_track_of,
    decoded,
    opened,
    packets,
    pixel_aspect,
    tracks_of,
    video_track_of,
)
from avpea.media.found import Found, Heard, Stored
from avpea.media.growing import Rows
from avpea.media.info import MediaInfo
from avpea.media.layout import layout_of
from avpea.media.limits import decoding
from avpea.media.picture import as_stored, display_size
from avpea.media.walk import Span, Walk, after_end

__all__ = ["JOBS", "Job", "answered"]

LOSSY = {"mjpeg", "jpeg2000"}  # even of grey
SEEK_FROM_SECONDS = 10.0  # reading from the start is quick and safe up to here

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Job(Generic[Answer]):
    """Something to do with a file.

    Attributes:
        name: Name of the job.
        run: Function of the file, the rows for frames, those for samples, and options that JSON can hold.
        answer: Class of what it returns, a dataclass of plain values.
    """

    name: str
    run: Callable[..., Answer]
    answer: type[Answer]


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
    except MemoryError as error:
        raise MediaError(path, _too_large()) from error
    except Exception as error:
        what = str(error).split("\n")[0][:200] or "no message"
        raise MediaError(path, f"cannot be decoded ({type(error).__name__}: {what}); get the file anew.") from error


def _too_large() -> str:
    if not decoding.boxed:
        return "decoding it takes more memory than there is; get the file anew, or read a part of it."
    limits = decoding.limits
    return (
        f"decoding it takes more than {limits.memory_mb} MB; get the file anew, or if it is intact, "
        f"{limits.more('memory_mb')} allows it."
    )


def _probe(path: Path, frames: Rows, samples: Rows, *, audio_track: int | None, video_track: int | None) -> MediaInfo:
    with opened(path) as container:
        video = video_track_of(container, path, video_track)
        audio = audio_track_of(container, path, audio_track)
        height, width = stored = (video.height, video.width) if video is not None else (0, 0)
        if video is not None:
            found = packets(container, video, path=path)
            frame = next((frame for packet in found for frame in decoded(packet)[0]), None)
            if isinstance(frame, VideoFrame):
                height, width = display_size(frame, pixel_aspect(video))
                stored = display_size(frame)
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
            stored_width=stored[1],
            stored_height=stored[0],
            seekable=layout.seekable,
        )


def _read(
    path: Path, frames: Rows, samples: Rows, *,
    start_seconds: float, segments: int | None, frame_size: tuple[int, int] | None, frame_at_seconds: float,
    missing_audio: str, missing_video: str, audio_track: int | None, video_track: int | None, steady: bool = False,
) -> Found:  # fmt: skip
    def walk_of(container: InputContainer) -> Walk:
        tracks = tracks_of(container, path, missing_audio, missing_video, audio_track, video_track)
        layout = layout_of(container, path, tracks)
        if start_seconds >= layout.length_seconds:
            raise after_end(path, start_seconds, layout.length_seconds)
        size = frame_size and (frame_size[0], frame_size[1])
        span = Span(start_seconds, segments, size, frame_at_seconds, steady=steady)
        return Walk(path, container, *tracks, layout, span, frames, samples)

    with opened(path) as container:
        walk = walk_of(container)
        found = walk.run(seek=start_seconds >= SEEK_FROM_SECONDS and walk.layout.seekable)
    if not found:  # seeking led past the start of the segments: read from the start of the file instead
        frames.clear()
        samples.clear()
        with opened(path) as container:
            walk = walk_of(container)
            walk.run(seek=False)
    walk.require(missing_audio, missing_video)
    return walk.finish()


def _read_sound(
    path: Path, frames: Rows, samples: Rows, *,
    rate_hz: int, start_seconds: float, seconds: int | None, missing_audio: str, audio_track: int | None,
) -> Heard:  # fmt: skip
    with opened(path) as container:
        tracks = tracks_of(container, path, missing_audio, "black", audio_track)
        if tracks[1] is None:
            return Heard(0, 0.0)
        span = Span(start_seconds, seconds, rate_hz=rate_hz)
        walk = Walk(path, container, None, tracks[1], layout_of(container, path, tracks), span, frames, samples)
        walk.run(seek=False)
        walk.require(missing_audio, "black")
        heard = walk.timeline.end_seconds - start_seconds
        walk.timeline.finish()
        return Heard(walk.timeline.skip, max(0.0, heard if seconds is None else min(heard, seconds)))


def _read_stored(path: Path, frames: Rows, samples: Rows) -> Stored:
    with opened(path) as container:
        video = video_track_of(container, path)
        found = packets(container, video, path=path) if video else iter(())
        every = (frame for packet in found for frame in decoded(packet)[0])
        pictures = [frame for frame in itertools.islice(every, 2) if isinstance(frame, VideoFrame)]
        if not pictures:
            raise MediaError(path, "shows nothing that can be decoded; expected a picture. Get it anew.")
        if len(pictures) > 1:
            raise MediaError(path, "shows several pictures, one after another; expected a single one.")
        rows, bits = as_stored(pictures[0])
        frames.append(rows)
        # Pictures without loss are of red, green and blue, of grey, or of a palette.
        lossy = video is not None and (video.codec_context.name in LOSSY or pictures[0].format.name.startswith("yuv"))
    return Stored(bits, lossy)


_EVERY = (
    Job("probe", _probe, MediaInfo),
    Job("clip", _read, Found),
    Job("sound", _read_sound, Heard),
    Job("stored", _read_stored, Stored),
)
JOBS: dict[str, Job[Any]] = {job.name: job for job in _EVERY}
