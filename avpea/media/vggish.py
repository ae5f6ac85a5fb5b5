"""VGGish's log-mel of one second of sound, the input of the network behind AudioSet's released features.

As published with VGGish (Hershey et al., ICASSP 2017; AudioSet's public code, `mel_features.py` and
`vggish_params.py`): 16 kHz, 25 ms periodic Hann windows every 10 ms, magnitudes (not power) of 512-point spectra,
64 bands on HTK's mel scale between 125 and 7,500 Hz, log(x + 0.01), and 96 windows (0.96 s) in an example.

In the published code examples follow one another without a gap. Here an example begins with each second of the video,
so that it belongs to that second's frame; the last 25 ms of a second are not read.
"""

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.media.info import SAMPLE_RATE_HZ

__all__ = ["vggish_log_mel"]

BANDS = 64
WINDOWS = 96
WINDOW_SAMPLES = 400  # 25 ms
SHIFT_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 512
LOW_HZ, HIGH_HZ = 125.0, 7_500.0
OFFSET = 0.01
EXAMPLE_SAMPLES = WINDOW_SAMPLES + (WINDOWS - 1) * SHIFT_SAMPLES  # 15,600


def vggish_log_mel(waveform: Float[Tensor, "*batch samples"]) -> Float[Tensor, "*batch 96 64"]:
    """Log magnitude in mel bands, for the first 96 analysis windows.

    Args:
        waveform: Mono sound in [-1, 1] at 16 kHz, at least 15,600 samples (0.975 s); later samples are ignored.

    Returns:
        The log-mel in the waveform's type; rows are windows, columns are bands from low to high.

    Raises:
        ValueError: The sound is shorter than an example.
    """
    if waveform.shape[-1] < EXAMPLE_SAMPLES:
        raise ValueError(
            f"The waveform has {waveform.shape[-1]} samples; expected at least {EXAMPLE_SAMPLES} (96 windows of 25 ms "
            "every 10 ms at 16 kHz). Pad the sound with silence."
        )
    windows = waveform[..., :EXAMPLE_SAMPLES].unfold(-1, WINDOW_SAMPLES, SHIFT_SAMPLES)
    hann = torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=torch.float64, device="cpu").to(waveform)
    magnitude = torch.fft.rfft(windows * hann, FFT_SAMPLES).abs()
    answer: Tensor = (magnitude @ _mel_matrix().to(waveform) + OFFSET).log()
    return answer


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * (1.0 + hertz / 700.0).log()


@functools.cache
@torch.inference_mode(False)  # what is kept must serve every later call, whatever the first one was in
def _mel_matrix() -> Float[Tensor, "frequencies 64"]:
    """Triangular filters in float64, equidistant and half overlapping on the mel scale, without frequency 0."""
    low, high = _mel(torch.tensor([LOW_HZ, HIGH_HZ], dtype=torch.float64, device="cpu")).tolist()
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64, device="cpu")
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    hertz = torch.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64, device="cpu")
    mel = _mel(hertz)[:, None]
    triangles = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp_min(0.0)
    triangles[0] = 0.0
    return triangles
