"""The sound of an av-digits clip: at most one word per second, within its second, and noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16

from avpea.data.samples._plan import SECONDS
from avpea.data.samples._speech import SPEECH_RATE_HZ

__all__ = ["SOUND_RATE_HZ", "Noise", "choose_noise", "compose"]

SOUND_RATE_HZ = 16_000
_SPEECH_LEVEL = 0.08  # root mean square of a word
_EDGE_SECONDS = 0.03  # without speech at both ends of a second, as AAC smears sound by some milliseconds

# Exponent k of the power spectrum 1/f^k.
_NOISES = {"white": 0.0, "pink": 1.0, "brown": 2.0}


@dataclass(frozen=True)
class Noise:
    """The background noise of a clip."""

    color: str
    below_speech_db: float

    @property
    def name(self) -> str:
        """Description for the timeline."""
        return f"{self.color} noise, {self.below_speech_db:.0f} dB below speech"


def choose_noise(rng: np.random.Generator) -> Noise:
    """Draw the noise of a clip."""
    return Noise(str(rng.choice(list(_NOISES))), float(rng.uniform(6, 25)))


def compose(
    words: Sequence[Int16[np.ndarray, " _samples"] | None], noise: Noise, rng: np.random.Generator
) -> Float32[np.ndarray, " samples"]:
    """Place word s at a random time within second s, and add noise.

    Args:
        words: The word spoken in each second, at `SPEECH_RATE_HZ`, or None.
        noise: The background noise.
        rng: Random generator for times and noise.

    Returns:
        `SECONDS` of sound at `SOUND_RATE_HZ`, in [-1, 1].

    Raises:
        ValueError: A word is longer than its second.
    """
    speech = np.zeros(SECONDS * SOUND_RATE_HZ, np.float32)
    for second, spoken in enumerate(words):
        if spoken is not None:
            _lay(speech, second, _resampled(spoken), rng)
    level = _SPEECH_LEVEL * 10 ** (-noise.below_speech_db / 20)
    mixed = speech + level * _noise(_NOISES[noise.color], rng)
    # Random loudness of the clip, so that loudness carries no information.
    gain = min(rng.uniform(0.5, 2.0), 0.95 / float(np.abs(mixed).max()))
    return np.asarray(mixed * gain, dtype=np.float32)


def _lay(
    speech: Float32[np.ndarray, " samples"],
    second: int,
    word: Float32[np.ndarray, " word"],
    rng: np.random.Generator,
) -> None:
    first = round(_EDGE_SECONDS * SOUND_RATE_HZ)
    room = SOUND_RATE_HZ - 2 * first - len(word)
    if room < 0:
        raise ValueError(f"a word of {len(word) / SOUND_RATE_HZ:.2f} s does not fit into a second")
    at = second * SOUND_RATE_HZ + first + int(rng.integers(room + 1))
    speech[at : at + len(word)] += word


def _resampled(spoken: Int16[np.ndarray, " samples"]) -> Float32[np.ndarray, " resampled"]:
    from scipy.signal import resample_poly  # type: ignore[import-untyped]

    divisor = int(np.gcd(SOUND_RATE_HZ, SPEECH_RATE_HZ))
    word = resample_poly(spoken.astype(np.float32), SOUND_RATE_HZ // divisor, SPEECH_RATE_HZ // divisor)
    return np.asarray(word * (_SPEECH_LEVEL / np.sqrt(np.mean(word**2))), dtype=np.float32)


def _noise(exponent: float, rng: np.random.Generator) -> Float32[np.ndarray, " samples"]:
    """Noise with a root mean square of 1 and slowly varying loudness."""
    samples = SECONDS * SOUND_RATE_HZ
    spectrum = np.fft.rfft(rng.standard_normal(samples, np.float32))
    # Below 50 Hz, which loudspeakers and mel filters hardly use, the spectrum is flat.
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / SOUND_RATE_HZ), 50)
    noise = np.fft.irfft(spectrum * hertz ** (-exponent / 2), samples)
    wander = np.interp(np.arange(samples), np.linspace(0, samples, 21), rng.uniform(0.6, 1.4, 21))
    noise *= wander
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), dtype=np.float32)
