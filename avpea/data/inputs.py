"""What a model takes in: the frames of a clip, and the log-mel of its sound."""

import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from avpea.errors import MediaError
from avpea.media import Clip, log_mel, read_sound, vggish_log_mel
from avpea.sections import AudioOptions, ContinuousOptions, LogMelOptions

__all__ = ["features", "middles", "sample_from_clip"]

ANALYSED_SECONDS = 600  # of sound at a time


def sample_from_clip(
    clip: Clip, audio: AudioOptions, sound: Path | None = None
) -> tuple[UInt8[Tensor, "segments height width 3"], Float[Tensor, "sounds rows mel_bins"]]:
    """Turn a clip into the input of a model, for training (through the cache) and for prediction.

    Args:
        clip: The clip.
        audio: Section `audio` of the experiment.
        sound: File to take the whole sound from, for the layout `continuous`; None means the clip's own.

    Returns:
        The clip's frames, and the log-mel of each second or slice. Before Kaldi's log-mel the mean of the waveform is
        removed, as in LAVISH; for VGGish's it is not. The model itself normalises the log-mel and resizes it.
    """
    if audio.features == "precomputed":
        raise MediaError(
            clip.path,
            "is a video, but this model reads features that others computed; make a run that computes them: "
            "`avpea import` with a recipe for videos.",
        )
    if isinstance(audio, ContinuousOptions):
        return clip.frames, _continuous(clip, audio, sound or clip.path)
    waveform = clip.waveform if audio.features == "vggish" else _centred(clip.waveform)
    return clip.frames, features(waveform.reshape(clip.frames.shape[0], -1), audio)


def _centred(waveform: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """The waveform less its mean, whose bits are the same with any number of threads: those of torch's mean are not."""
    return waveform - float(waveform.numpy().mean(dtype=np.float64))


def _continuous(clip: Clip, audio: ContinuousOptions, path: Path) -> Float[Tensor, "slices rows mel_bins"]:
    """Slices of the log-mel of a clip's sound: of the whole file, if the clip's seconds are spread over it.

    A file without sound gives what is 0 after normalisation, as in VALOR's public code.
    """
    whole = bool(clip.segment_starts)
    start, seconds = (0.0, None) if whole else (clip.start_seconds, len(clip.frames))
    rate = audio.sample_rate_hz
    waveform = read_sound(
        path, rate, start_seconds=start, seconds=seconds, missing_audio="silence", audio_track=clip.audio_track
    )
    if len(waveform) < rate // 40:  # less than one window of 25 ms
        return torch.full((audio.slices, audio.rows, audio.mel_bins), audio.mean)
    rows = log_mel(_centred(waveform), mel_bins=audio.mel_bins, frame_shift_ms=audio.frame_shift_ms, rate_hz=rate)
    every: Tensor = F.pad(rows, (0, 0, 0, audio.rows - len(rows) % audio.rows)).view(-1, audio.rows, rows.shape[1])
    return every[middles(len(every), audio.slices)]


def middles(count: int, parts: int) -> list[int]:
    """The middle of each of some almost equal parts of `count` slices; the last one is repeated if there are fewer.

    >>> middles(12, 8), middles(1, 2)
    ([0, 2, 4, 6, 8, 9, 10, 11], [0, 0])
    """
    if count < parts:
        return [min(index, count - 1) for index in range(parts)]
    size, longer = divmod(count, parts)
    bounds = [index * size + min(index, longer) for index in range(parts + 1)]
    return [first + (last - first + 1) // 2 - 1 for first, last in itertools.pairwise(bounds)]


def features(
    seconds: Float[Tensor, "segments samples"], audio: AudioOptions
) -> Float[Tensor, "segments rows mel_bins"]:
    """The log-mel of each second of a waveform at 16 kHz, with the settings of an experiment."""
    # In parts, as the analysis windows of a second take 20 times the memory of its sound.
    return torch.cat([_features(part, audio) for part in torch.split(seconds, ANALYSED_SECONDS)])


def _features(
    seconds: Float[Tensor, "segments samples"], audio: AudioOptions
) -> Float[Tensor, "segments rows mel_bins"]:
    if not isinstance(audio, LogMelOptions):
        return vggish_log_mel(seconds)
    return log_mel(seconds, mel_bins=audio.mel_bins, frame_shift_ms=audio.frame_shift_ms)
