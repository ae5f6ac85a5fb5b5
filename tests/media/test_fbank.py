"""The log-mel filter bank against torchaudio's, bit for bit."""

import pytest
import torch
from torch import Tensor

from avpea.media import log_mel
from avpea.media.fbank import _mel_bank

SILENCE = -15.942385  # log of float32's eps


def oracle(waveform: Tensor, mel_bins: int, frame_shift_ms: float, rate_hz: int = 16_000) -> Tensor:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi", reason="torchaudio is the oracle")
    return kaldi.fbank(
        waveform[None], sample_frequency=rate_hz, htk_compat=True, use_energy=False, window_type="hanning",
        num_mel_bins=mel_bins, dither=0.0, frame_length=25.0, frame_shift=frame_shift_ms,
    )  # fmt: skip


@pytest.mark.parametrize("frame_shift_ms", [10.0, 5.2, 11.6])
@pytest.mark.parametrize("mel_bins", [80, 84, 128, 192, 224])
def test_equal_to_torchaudio_to_the_last_bit(mel_bins: int, frame_shift_ms: float) -> None:
    generator = torch.Generator().manual_seed(mel_bins)
    noise = 0.1 * torch.randn(2, 3, 16_000, generator=generator)
    ours = log_mel(noise, mel_bins=mel_bins, frame_shift_ms=frame_shift_ms)
    theirs = torch.stack([oracle(w, mel_bins, frame_shift_ms) for w in noise.flatten(0, 1)])
    assert torch.equal(ours.flatten(0, 1), theirs)
    assert torch.equal(log_mel(noise[0, 0], mel_bins=mel_bins, frame_shift_ms=frame_shift_ms), theirs[0])


@pytest.mark.parametrize(("rate_hz", "rows"), [(22_050, 1001), (44_100, 998), (8_000, 998)])
def test_other_sampling_rates_are_equal_to_torchaudio_too(rate_hz: int, rows: int) -> None:
    """VALOR's sound is at 22,050 Hz, where a window has 551 samples and a step 220."""
    samples = 551 + 1000 * 220 if rate_hz == 22_050 else 10 * rate_hz
    noise = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    ours = log_mel(noise, mel_bins=64, rate_hz=rate_hz)
    assert ours.shape == (rows, 64)
    assert torch.equal(ours, oracle(noise, 64, 10.0, rate_hz))


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 25_000])
def test_lengths_of_sound(samples: int) -> None:
    sound = torch.sin(torch.arange(samples) * 0.2)
    ours = log_mel(sound)
    assert ours.shape == (1 + (samples - 400) // 160, 128)
    torch.testing.assert_close(ours, oracle(sound, 128, 10.0), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize(("mel_bins", "empty"), [(80, 0), (128, 1), (192, 8), (224, 16)])
def test_filters_narrower_than_the_spectrum_are_empty_as_in_the_published_code(mel_bins: int, empty: int) -> None:
    never = (_mel_bank(mel_bins) == 0).all(0)
    assert int(never.sum()) == empty
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(log_mel(noise, mel_bins=mel_bins)[:, never], torch.tensor(SILENCE))


def test_silence_is_the_floor() -> None:
    assert torch.allclose(log_mel(torch.zeros(2, 16_000)), torch.tensor(SILENCE))


def test_a_tone_is_in_its_band() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    mel_1000, mel_low, mel_high = (1127 * torch.log1p(torch.tensor(hz) / 700) for hz in (1000.0, 20.0, 8000.0))
    band = (mel_1000 - mel_low) / ((mel_high - mel_low) / 129) - 1
    assert abs(int(log_mel(tone).mean(0).argmax()) - float(band)) <= 1


def test_shorter_than_a_window() -> None:
    with pytest.raises(ValueError, match=r"has 399 samples.*at least 400 samples \(25 ms at 16 kHz\).*Pad"):
        log_mel(torch.zeros(399))
    with pytest.raises(ValueError, match=r"a shift of 0\.0625 ms or more"):
        log_mel(torch.zeros(400), frame_shift_ms=0.01)


def test_what_is_kept_does_not_depend_on_the_first_call() -> None:
    """Later calls and backward passes go on, whatever torch's settings were when the filters were made."""
    from avpea.media.vggish import _mel_matrix, vggish_log_mel
    from avpea.model import _resizing

    kept = (_mel_bank, _mel_matrix, _resizing)
    before, noise = torch.get_default_dtype(), 0.1 * torch.randn(16_000)
    expected = log_mel(noise), vggish_log_mel(noise), _resizing(98, 32)
    for one in kept:
        one.cache_clear()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.inference_mode(), torch.device("meta"):
            first = log_mel(noise), vggish_log_mel(noise), _resizing(98, 32)
    finally:
        torch.set_default_dtype(before)
    for given in (first, (log_mel(noise), vggish_log_mel(noise), _resizing(98, 32))):
        assert all(map(torch.equal, given, expected))
    sound = noise.requires_grad_()
    (log_mel(sound).sum() + vggish_log_mel(sound).sum()).backward()
    assert sound.grad is not None
    torch.autograd.backward((_resizing(98, 32) @ torch.zeros(98, requires_grad=True)).sum())
