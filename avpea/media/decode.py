"""Reading a `Clip` from any file that FFmpeg reads, in one pass over the file.

Every file starts at 0 s, even where the container's time stamps do not (MPEG-TS). Both tracks are placed by their time
stamps, so sound that starts late stays in step with the picture. Inside `avpea.media.boxed`, as in all commands,
another process decodes.
"""

import math
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avpea.media import box
from avpea.media.asked import MissingAudio, MissingVideo, checked
from avpea.media.clip import Clip
from avpea.media.found import Found, Heard, Stored
from avpea.media.growing import Growing
from avpea.media.info import SAMPLE_RATE_HZ, MediaInfo
from avpea.media.regular import require_file
from avpea.stopping import interruptible

__all__ = ["probe", "read", "read_sound", "read_stored"]

Answer = TypeVar("Answer")


def probe(path: str | Path, *, audio_track: int | None = None, video_track: int | None = None) -> MediaInfo:
    """What a file contains; decodes a single frame, because only that shows how the picture is rotated.

    The packets of all files but MP4 and MOV are read to find the length, without decoding them.

    Args:
        path: A file in any container and codec that FFmpeg reads.
        audio_track: Number of the audio track; see `read`.
        video_track: Number of the video track; see `read`.

    Raises:
        MediaError: The file is missing, empty or not media, or has no such track; or an argument cannot be.
    """
    options = checked(path, audio_track=audio_track, video_track=video_track)
    return _done("probe", MediaInfo, Path(path), Growing(np.uint8), Growing(np.float32), options)


def read(
    path: str | Path,
    *,
    start_seconds: float = 0.0,
    segments: int | None = None,
    frame_size: tuple[int, int] | None = None,
    missing_audio: MissingAudio = "error",
    missing_video: MissingVideo = "error",
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
        MediaError: The file is missing, empty, not media or broken, or ends before `start_seconds`; or an argument
            cannot be.
    """
    path = Path(path)
    options = checked(
        path,
        start_seconds=start_seconds,
        segments=segments,
        frame_size=frame_size,
        frame_at_seconds=frame_at_seconds,
        missing_audio=missing_audio,
        missing_video=missing_video,
        audio_track=audio_track,
        video_track=video_track,
    )
    frames, samples = Growing(np.uint8, min(options["segments"] or 16, 64)), Growing(np.float32, SAMPLE_RATE_HZ)
    found = _done("clip", Found, path, frames, samples, options)
    pictures = torch.from_numpy(frames.finish(1 if found.black else found.segments))
    sound = samples.finish(found.skip + found.segments * SAMPLE_RATE_HZ)
    return Clip(
        frames=pictures.expand(found.segments, -1, -1, -1) if found.black else pictures,
        frame_seconds=torch.tensor(found.frame_seconds, dtype=torch.float64),
        frame_aspect=found.frame_aspect,
        waveform=torch.from_numpy(sound)[found.skip :],
        duration_seconds=found.duration_seconds,
        declared_seconds=found.declared_seconds,
        start_seconds=options["start_seconds"],
        path=path,
        audio_track=options["audio_track"],
        repairs=found.repairs,
    )


def read_sound(
    path: str | Path,
    rate_hz: int,
    *,
    start_seconds: float = 0.0,
    seconds: int | None = None,
    missing_audio: MissingAudio = "error",
    audio_track: int | None = None,
) -> Float[Tensor, " samples"]:
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
    options = checked(
        path,
        rate_hz=rate_hz,
        start_seconds=start_seconds,
        seconds=seconds,
        missing_audio=missing_audio,
        audio_track=audio_track,
    )
    rate_hz = options["rate_hz"]
    samples = Growing(np.float32, rate_hz)
    heard = _done("sound", Heard, Path(path), Growing(np.uint8), samples, options)
    if not heard.seconds:
        return torch.zeros(0)
    whole = samples.finish(heard.skip + math.ceil(heard.seconds) * rate_hz)
    return torch.from_numpy(whole)[heard.skip :][: round(heard.seconds * rate_hz)]


def read_stored(
    path: str | Path,
) -> tuple[Int[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"], Stored]:
    """Read a single picture with each of its values as it is in the file: upright, not scaled, in its own depth.

    Returns:
        Its colours (RGB) with 16 bits each, of which one of 8 bits is 257 times what it was; its opacity, 255 where
        nothing shines through; and how they are in the file.

    Raises:
        MediaError: The file is missing, empty or no picture, or shows several.
    """
    rows = Growing(np.uint8, 3)
    found = _done("stored", Stored, Path(path), rows, Growing(np.float32), {})
    upper, lower, opacity = rows.finish(3)
    return upper.astype(np.int64) << 8 | lower, opacity[..., 0], found


def _done(
    job: str, kind: type[Answer], path: Path, frames: Growing, samples: Growing, options: dict[str, Any]
) -> Answer:
    """Do a job of `avpea.media.jobs` here, or in the worker of the box that is open."""
    require_file(path)
    if (worker := box.current()) is not None:
        return worker.run(job, kind, path, frames, samples, options)
    from avpea.media.jobs import JOBS, answered  # PyAV: only in a process that decodes

    with interruptible(), answered(path):
        found: Answer = JOBS[job].run(path, frames, samples, **options)
    return found
