"""What a page shows of a video beside its own bytes: frames, the waveform, the spectrogram, and attention."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from avpea.media import SAMPLE_RATE_HZ, Clip, log_mel, read, read_sound, segments_in
from avpea.serve.models import Run
from avpea.serve.problems import Problem, about_file
from avpea.serve.server import Server
from avpea.serve.videos import Video
from avpea.serve.work import Piece

__all__ = ["attention", "frame", "spectrogram", "waveform"]

FRAME_PIXELS, THUMBNAIL_PIXELS = 960, 320  # longer side
DRAWN_SECONDS = 30  # of a spectrogram at a time
# From quiet to loud: black, violet, orange, pale yellow.
COLOURS = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float32)


def within(server: Server, video: Video, piece: Piece, second: float) -> Video:
    """The video with what is in it; a second outside of it is refused.

    Raises:
        Problem: It is.
    """
    with piece.decoding(0):
        looked = server.videos.looked_at(video)
    assert looked.info is not None
    last = segments_in(looked.info.duration_seconds)
    if second >= last:
        raise Problem(422, f"Second {second:g} is outside {video.name}, which has {last}; ask for an earlier one.")
    return looked


def frame(server: Server, video: Video, second: float, small: bool, piece: Piece) -> bytes:
    """The frame that is displayed at a second, as JPEG."""
    looked = within(server, video, piece, second)
    assert looked.info is not None
    if not looked.info.has_video:
        raise Problem(404, f"{video.name} has no picture.", "no-picture")
    most = THUMBNAIL_PIXELS if small else FRAME_PIXELS
    scale = min(1.0, most / max(looked.info.width, looked.info.height, 1))
    size = max(1, round(looked.info.height * scale)), max(1, round(looked.info.width * scale))
    clip = _read(looked, piece, second, frame_size=size, missing_audio="silence", frame_at_seconds=0.0)
    written = io.BytesIO()
    Image.fromarray(clip.frames[0].numpy()).save(written, "JPEG", quality=85)
    return written.getvalue()


def waveform(server: Server, video: Video, bins: int, piece: Piece) -> dict[str, Any]:
    """The loudest sample of each part of the sound, in [0, 1]."""
    sound, seconds, _ = _sound(server, video, piece)
    count = max(1, min(bins, len(sound)))
    edges = np.linspace(0, len(sound), count + 1).astype(int)[:-1]
    peaks = np.maximum.reduceat(np.abs(sound), edges) if len(sound) else np.zeros(1)
    return {"seconds": round(seconds, 3), "peaks": [round(float(one), 3) for one in peaks.clip(0, 1)]}


def spectrogram(server: Server, video: Video, columns: int, piece: Piece) -> bytes:
    """The log-mel of the whole sound as PNG: time from left to right, low notes at the bottom."""
    sound, _, heard = _sound(server, video, piece)
    length = len(sound)
    if length < SAMPLE_RATE_HZ:
        sound = np.pad(sound, (0, SAMPLE_RATE_HZ - length))
    step = DRAWN_SECONDS * SAMPLE_RATE_HZ  # of a long sound, all windows together would take gigabytes
    parts = [torch.from_numpy(sound[start : start + step]) for start in range(0, len(sound), step)]
    found = [log_mel(part) for part in parts if len(part) >= SAMPLE_RATE_HZ // 10]
    values = torch.cat(found).numpy().T[::-1]  # mel bins from high to low, by time
    values = values[:, : max(1, round(values.shape[1] * length / len(sound)))]
    count = max(1, min(columns, values.shape[1]))
    edges = np.linspace(0, values.shape[1], count + 1).astype(int)[:-1]
    values = np.maximum.reduceat(values, edges, axis=1)
    # Where there is a sound: the silence after it would take the colours from it.
    low, high = np.percentile(values[:, : max(1, round(values.shape[1] * heard))], [5, 99.8])
    shares = ((values - low) / max(high - low, 1e-6)).clip(0, 1) * (len(COLOURS) - 1)
    lower = shares.astype(int).clip(0, len(COLOURS) - 2)
    pixels = COLOURS[lower] + (shares - lower)[..., None] * (COLOURS[lower + 1] - COLOURS[lower])
    written = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(written, "PNG")
    return written.getvalue()


def attention(server: Server, run: Run, video: Video, second: int, piece: Piece) -> dict[str, Any]:
    """Where each stream attends in the other during a second: the mean over blocks, on the grid of patches."""
    looked = within(server, video, piece, second)
    predictor = server.predictor(run, piece, looked)
    side = predictor.model.encoder.backbone.image_size
    clip = _read(looked, piece, second, frame_size=(side, side), missing_audio="silence", missing_video="black")
    clip = replace(clip, path=video.path)
    with about_file(video.path, video.name):
        maps = server.engine.call(lambda: predictor.attention(clip, 0))
    looks = {"sound_looked": maps.sound_looked, "image_listened": maps.image_listened}
    found = {name: None if one is None else one.mean(dim=0) for name, one in looks.items()}
    return {
        "second": second,
        "frame_aspect": round(maps.frame_aspect, 4),
        **{
            name: None if one is None else [[round(value, 6) for value in row] for row in one.tolist()]
            for name, one in found.items()
        },
    }


def _read(video: Video, piece: Piece, second: float, **options: Any) -> Clip:
    with about_file(video.path, video.name), piece.decoding(1):
        return read(video.path, start_seconds=second, segments=1, **options)


def _sound(server: Server, video: Video, piece: Piece) -> tuple[Any, float, float]:
    """The samples of a video's sound, as long as the video; its length in seconds; the share of it that has sound."""
    looked = within(server, video, piece, 0)
    assert looked.info is not None
    with about_file(video.path, video.name), piece.decoding(looked.info.duration_seconds):
        sound = read_sound(looked.path, SAMPLE_RATE_HZ, missing_audio="silence").numpy()
    # A page draws it over the video's time: a sound that ends earlier, or later, would be stretched.
    length = round(looked.info.duration_seconds * SAMPLE_RATE_HZ)
    heard = min(len(sound), length)
    return np.pad(sound[:heard], (0, length - heard)), looked.info.duration_seconds, heard / max(length, 1)
