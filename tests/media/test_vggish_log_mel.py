"""VGGish's log-mel against its published definition, window by window and band by band in numpy's float64."""

import math

import numpy as np
import pytest
import torch

from avpea.media import vggish_log_mel


def mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def transcribed(sound: np.ndarray) -> np.ndarray:
    """The published steps with loops and no library but numpy's FFT."""
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / 400) for n in range(400)])
    step = (mel(7500.0) - mel(125.0)) / 65
    rows = []
    for window in range(96):
        padded = np.zeros(512)
        padded[:400] = sound[window * 160 : window * 160 + 400] * hann
        spectrum = np.abs(np.fft.fft(padded))[:257]
        row = []
        for band in range(64):
            low, centre, high = (mel(125.0) + (band + i) * step for i in range(3))
            total = 0.0
            for index in range(1, 257):  # HTK leaves out frequency 0
                at = mel(index * 16_000 / 512)
                weight = max(0.0, min((at - low) / (centre - low), (high - at) / (high - centre)))
                total += weight * spectrum[index]
            row.append(math.log(total + 0.01))
        rows.append(row)
    return np.array(rows)


def test_equals_the_published_definition() -> None:
    generator = np.random.default_rng(0)
    seconds = np.arange(16_000) / 16_000
    sound = 0.3 * np.sin(2 * np.pi * 700 * seconds) + 0.05 * generator.standard_normal(16_000)
    ours = vggish_log_mel(torch.from_numpy(sound)[None])
    assert ours.shape == (1, 96, 64)
    assert ours.dtype == torch.float64
    expected = transcribed(sound)
    assert np.abs(ours[0].numpy() - expected).max() < 1e-10
    rough = vggish_log_mel(torch.from_numpy(sound).float())
    assert rough.dtype == torch.float32
    assert np.abs(rough.numpy() - expected).max() < 1e-4


def test_silence_is_the_offset_and_no_more_is_read_than_an_example() -> None:
    assert torch.allclose(vggish_log_mel(torch.zeros(2, 16_000)), torch.tensor(math.log(0.01)))
    sound = torch.randn(16_000)
    later = torch.cat([sound[:15_600], torch.randn(400)])
    assert torch.equal(vggish_log_mel(sound), vggish_log_mel(later))


def test_shorter_than_an_example() -> None:
    with pytest.raises(ValueError, match=r"has 15599 samples; expected at least 15600 .* Pad"):
        vggish_log_mel(torch.zeros(15_599))
