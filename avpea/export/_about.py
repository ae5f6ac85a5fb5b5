"""What an exported graph takes and gives, in words and numbers for those who call it from their own programs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea.data.inputs import sample_from_clip
from avpea.experiment import Experiment
from avpea.media import SAMPLE_RATE_HZ, Clip
from avpea.model import AVModel
from avpea.sections import ContinuousOptions, LogMelOptions, RowsOptions

__all__ = ["inputs_of", "preprocessing"]


def inputs_of(
    experiment: Experiment, image_size: int, batch: int, segments: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Frames and log-mels of made-up windows, noise in both, by the same function that makes those of a video."""
    chance = torch.Generator().manual_seed(seed)
    frames, sounds = [], []
    for _ in range(batch):
        # Blocks of one colour, so that frames differ after the patches are averaged, too.
        small = torch.rand(segments, 3, 4, 4, generator=chance)
        large = torch.nn.functional.interpolate(small, (image_size, image_size)).permute(0, 2, 3, 1)
        picture = (255 * large).to(torch.uint8)
        loud = 0.5 * torch.rand(segments, 1, generator=chance)
        sound = loud * torch.randn(segments, SAMPLE_RATE_HZ, generator=chance)
        frames.append(picture)
        sounds.append(_log_mel(picture, sound.flatten().clamp(-1, 1), experiment))
    return torch.stack(frames), torch.stack(sounds)


def _log_mel(frames: Tensor, waveform: Tensor, experiment: Experiment) -> Tensor:
    audio, seconds = experiment.audio, float(len(frames))
    if isinstance(audio, ContinuousOptions):  # of a whole file, which a made-up clip does not have
        return audio.mean + audio.std * torch.randn(audio.slices, audio.rows, audio.mel_bins).clamp(-3, 3)
    moments = torch.arange(len(frames), dtype=torch.float64) + 0.5
    clip = Clip(frames, moments, 1.0, waveform, seconds, seconds, 0.0, Path("made-up"))
    return sample_from_clip(clip, audio)[1]


def preprocessing(experiment: Experiment, model: AVModel, example: tuple[Tensor, Tensor]) -> list[dict[str, Any]]:
    """The inputs of a graph: names, types, shapes, and how they are made of a video."""
    frames, log_mel = example
    moment = 0.0 if _as_lavish(experiment) else experiment.data.frame_at_seconds
    sounds = "segments" if log_mel.shape[1] == frames.shape[1] else log_mel.shape[1]
    return [
        {
            "name": "frames",
            "type": "uint8",
            "shape": ["batch", "segments", *frames.shape[2:]],
            "about": f"RGB, 0 to 255, of one frame for each second, that at {moment:g} s in it, upright, the whole of "
            f"it resized to {model.image_size}x{model.image_size} pixels (bicubic, without cropping). The graph "
            "normalises the pixels.",
        },
        {
            "name": "log_mel",
            "type": "float32",
            "shape": ["batch", sounds, *log_mel.shape[2:]],
            "about": _about_sound(experiment),
            **_settings(experiment),
        },
    ]


def _settings(experiment: Experiment) -> dict[str, Any]:
    audio: Any = experiment.audio
    rate = getattr(audio, "sample_rate_hz", SAMPLE_RATE_HZ)
    return {"sample_rate_hz": rate, "mel_bins": audio.mel_bins, "frame_shift_ms": audio.frame_shift_ms}


def _about_sound(experiment: Experiment) -> str:
    audio, which = experiment.audio, "of each second"
    if _as_lavish(experiment):
        which = (
            "of as many sounds of 1 s as there are seconds, which start evenly from the window's start to 1.1 s before "
            "its end, and may overlap: at 0, 0.99, ..., 8.9 s of ten (`avpea.media.moments`)"
        )
    if not isinstance(audio, LogMelOptions):
        return f"VGGish's log-mel (`avpea.media.vggish_log_mel`) of mono sound at 16 kHz, {which}, not normalised."
    what = (
        "Kaldi's log-mel (25 ms Hann windows, pre-emphasis 0.97, mean of each window removed, power, htk_compat, no "
        "dither; `avpea.media.log_mel`) of mono sound in [-1, 1] from which the mean over the whole video was removed"
    )
    if isinstance(audio, ContinuousOptions):
        return f"{what}, of the whole sound, in slices of {audio.rows} rows. The graph normalises it."
    kept = "pads or cuts" if isinstance(audio, RowsOptions) else "resizes"
    return f"{what}, {which}. The graph normalises and {kept} it."


def _as_lavish(experiment: Experiment) -> bool:
    return getattr(experiment.data, "seconds", "") == "lavish"
