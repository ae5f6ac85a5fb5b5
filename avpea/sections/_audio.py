"""Section `audio`: how one second of sound becomes an image."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from avpea.options import Options, require

__all__ = [
    "AudioOptions",
    "ContinuousOptions",
    "LogMelOptions",
    "PrecomputedOptions",
    "RowsOptions",
    "VGGishOptions",
    "audio_options",
]

Layout = Literal["image", "native", "slices", "continuous"]


@dataclass(frozen=True)
class AudioOptions(Options):
    """Section `audio`: how one second of sound becomes an image for the encoder.

    Attributes:
        features: `kaldi`: Kaldi's log-mel, for image networks; `vggish`: the log-mel that VGGish takes; `precomputed`:
            none, as the data set holds features instead of videos.
    """

    features: Literal["kaldi", "vggish", "precomputed"] = "kaldi"


@dataclass(frozen=True)
class LogMelOptions(AudioOptions):
    """Kaldi's log-mel, by default resized to the frames' size, so both streams have as many tokens (R^((n+1) x D)).

    Attributes:
        layout: `image`: resized to the frame's size, as in the paper. `native`: not resized, but padded or cut to
            `rows`, as in LAVISH (102 x 128 gives 48 patches of 16 x 16 and the CLS token). `slices`: the log-mel of
            the video's seconds one after another, zero-padded and cut into images of `rows` rows (VALOR: 512).
            `continuous`: the same of the whole sound at another sampling rate, without the seams between seconds, as
            in VALOR's public code.
        mel_bins: Number of mel filters, which are the columns of the image.
        frame_shift_ms: Step between the 25 ms analysis windows, in milliseconds.
        mean: Mean of the log-mel values; the default is LAVISH's for AVE with 128 bins.
        std: Standard deviation of the log-mel values; the image is (x - mean) / (2 std), as in AST and LAVISH.
    """

    layout: Layout = "image"
    mel_bins: int = 128
    frame_shift_ms: float = 10.0
    mean: float = -4.1426
    std: float = 3.2001

    def __post_init__(self) -> None:
        shift = self.frame_shift_ms
        require(1 <= self.mel_bins <= 257, f"audio.mel_bins is {self.mel_bins}; expected 1 to 257.")
        require(0.0625 <= shift <= 100, f"audio.frame_shift_ms is {shift}; expected 0.0625 (one sample) to 100.")
        require(self.std > 0, f"audio.std is {self.std}; expected a number above 0.")


@dataclass(frozen=True)
class RowsOptions(LogMelOptions):
    """Kaldi's log-mel in the layouts `native` and `slices`, which do not resize it.

    Attributes:
        rows: Number of rows of the image; each is one analysis window.
    """

    layout: Layout = "native"
    rows: int = 102

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.rows <= 16_384, f"audio.rows is {self.rows}; expected 1 to 16384.")


@dataclass(frozen=True)
class ContinuousOptions(RowsOptions):
    """Kaldi's log-mel in the layout `continuous`: of the whole sound, as in VALOR's public code.

    It is always zero-padded, even if its length is a multiple of `rows`. The slices are divided into `slices` parts, of
    each of which the middle one is used; if there are fewer, the last is repeated.

    Attributes:
        sample_rate_hz: Sampling rate of the sound in Hz.
        slices: Number of slices of a video (VALOR: 2 for VALOR-32K, 8 for MUSIC-AVQA).
    """

    layout: Layout = "continuous"
    rows: int = 512
    sample_rate_hz: int = 22_050
    slices: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        rate = self.sample_rate_hz
        require(1000 <= rate <= 192_000, f"audio.sample_rate_hz is {rate}; expected 1000 to 192000.")
        require(1 <= self.slices <= 32, f"audio.slices is {self.slices}; expected 1 to 32.")


@dataclass(frozen=True)
class VGGishOptions(AudioOptions):
    """VGGish's log-mel: 96 windows x 64 bands from 125 to 7,500 Hz, neither normalised nor resized.

    Attributes:
        mel_bins: Number of mel filters, which VGGish fixes at 64.
    """

    layout: ClassVar[Layout] = "image"
    frame_shift_ms: ClassVar[float] = 10.0

    features: Literal["kaldi", "vggish", "precomputed"] = "vggish"
    mel_bins: Literal[64] = 64


@dataclass(frozen=True)
class PrecomputedOptions(AudioOptions):
    """Features that a data set holds instead of videos; there is nothing to set."""

    features: Literal["kaldi", "vggish", "precomputed"] = "precomputed"


def audio_options(values: dict[str, Any]) -> type[AudioOptions]:
    """The options class of a section `audio`."""
    if values.get("features") == "vggish":
        return VGGishOptions
    if values.get("features") == "precomputed":
        return PrecomputedOptions
    if values.get("layout") == "continuous":
        return ContinuousOptions
    return RowsOptions if values.get("layout") in ("native", "slices") else LogMelOptions
