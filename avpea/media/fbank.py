"""Kaldi's log-mel filter bank, bit-exact with `torchaudio.compliance.kaldi.fbank`.

The settings are those of the published code that AV-PEA builds on: 25 ms Hann windows, `htk_compat=True`,
`use_energy=False`, `dither=0`, everything else as in Kaldi. With many filters, the lowest are narrower than the
resolution of 512-point spectra, so some are empty and give log(eps) = -15.94 for every sound: 1 of 128, 8 of 192, 16 of
224. The published models were trained on such log-mels, so this is kept.
"""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.media.info import SAMPLE_RATE_HZ

__all__ = ["log_mel"]

WINDOW_MS = 25.0
LOW_HZ = 20.0
PREEMPHASIS = 0.97


def log_mel(
    waveform: Float[Tensor, "*batch samples"],
    *,
    mel_bins: int = 128,
    frame_shift_ms: float = 10.0,
    rate_hz: int = SAMPLE_RATE_HZ,
) -> Float[Tensor, "*batch windows {mel_bins}"]:
    """Log energy in mel bands, for each analysis window that lies inside the sound (`snip_edges`).

    Args:
        waveform: Mono sound, at least one window of 25 ms (at 16 kHz: 400 samples) long.
        mel_bins: Number of bands between 20 Hz and half the sampling rate.
        frame_shift_ms: Milliseconds between the starts of windows, rounded down to whole samples.
        rate_hz: Sampling rate of the sound.

    Returns:
        float32; rows are the `1 + (samples - window) // shift` windows, 98 for a second at 16 kHz and 10 ms; columns
        are the bands.

    Raises:
        ValueError: The sound is shorter than a window, or the shift shorter than a sample.
    """
    shift, window = int(rate_hz * frame_shift_ms * 0.001), int(rate_hz * WINDOW_MS * 0.001)
    if waveform.shape[-1] < window or shift < 1:
        raise ValueError(
            f"The waveform has {waveform.shape[-1]} samples and the shift is {frame_shift_ms} ms; expected "
            f"at least {window} samples (25 ms at {rate_hz / 1000:g} kHz) and a shift of {1000 / rate_hz:.4g} ms or "
            "more. Pad the sound with silence, or widen the shift."
        )
    windows = waveform.unfold(-1, window, shift)
    windows = windows - windows.mean(-1, keepdim=True)
    windows = windows - PREEMPHASIS * torch.cat([windows[..., :1], windows[..., :-1]], -1)
    windows = windows * torch.hann_window(window, periodic=False, dtype=torch.float32, device=waveform.device)
    fft = 1 << (window - 1).bit_length()  # the next power of two: 512 at 16 kHz
    power = torch.fft.rfft(windows, fft).abs().square()
    energies: Tensor = power @ _mel_bank(mel_bins, rate_hz, fft).to(waveform.device)
    return energies.clamp_min(torch.finfo(torch.float32).eps).log()


def _mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


@functools.cache
@torch.inference_mode(False)  # what is kept must serve every later call, whatever the first one was in
def _mel_bank(mel_bins: int, rate_hz: int = SAMPLE_RATE_HZ, fft: int = 512) -> Float[Tensor, "frequencies {mel_bins}"]:
    """Triangular filters, equidistant and half overlapping on the mel scale, without the Nyquist frequency."""
    low, high = _mel(LOW_HZ), _mel(rate_hz / 2)
    spacing = (high - low) / (mel_bins + 1)
    # float32 from here on, in Kaldi's order of operations, to be bit-exact.
    number = torch.arange(mel_bins, dtype=torch.float32, device="cpu").unsqueeze(1)
    left, centre, right = (low + (number + edge) * spacing for edge in (0.0, 1.0, 2.0))
    hertz = rate_hz / fft * torch.arange(fft // 2, dtype=torch.float32, device="cpu")
    mel = (1127.0 * (1.0 + hertz / 700.0).log()).unsqueeze(0)
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp_min(0.0)
    return torch.nn.functional.pad(triangles, (0, 1)).T
