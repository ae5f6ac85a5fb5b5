"""From decoded audio of any rate and layout to a mono 16 kHz waveform that is aligned with the time stamps."""

import math
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from avpea.media.growing import Rows
from avpea.media.info import SAMPLE_RATE_HZ

__all__ = ["Timeline"]

Samples = np.ndarray[Any, np.dtype[Any]]  # rows are planes

# Smaller deviations of time stamps are rounding (Matroska and FLV have milliseconds), and the samples are consecutive;
# larger ones are a gap or an overlap. Shorter than the shortest common packet (20 ms).
JITTER_SECONDS = 0.015
# Sound before and after the requested span for the resampler's filter, so that a part of a file gets the same samples
# as the whole file.
MARGIN_SECONDS = 1
# A sample that is 100 times full scale (+40 dB), or no number at all, is damage or has another unit.
LOUDEST = 100.0
MOST_AT_ONCE = 200_000  # samples of silence, of each channel
FLOATS = {"flt", "fltp", "dbl", "dblp"}
# By default, float channels are summed and can exceed 1; normalised, the downmix of stereo is its mean.
DOWNMIX = {"rematrix_maxval": "1.0"}


class Timeline:
    """Collects the sound of `[start_seconds, start_seconds + seconds)`; gaps become silence, overlaps are dropped.

    The resampler always starts at a whole second, where its phase is the same for every rate, so a part of a file gets
    the same samples as the whole file. If time stamps are not exact (Opus in Matroska, after seeking), the part is off
    by less than one of their ticks, 1 ms.

    Args:
        start_seconds: Start of the sound.
        seconds: Length of the sound; None for as long as there is any.
        samples: Where the samples go, those of up to 2 s before the start included.
        rate_hz: Sampling rate of the result.
    """

    def __init__(self, start_seconds: float, seconds: int | None, samples: Rows, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self.rate_hz = rate_hz
        self.origin_seconds = max(0, math.floor(start_seconds) - MARGIN_SECONDS)
        self.end_seconds = -math.inf  # of the last sample that was added
        self.skip = round((start_seconds - self.origin_seconds) * rate_hz)
        self._stop_seconds = math.inf if seconds is None else start_seconds + seconds + MARGIN_SECONDS
        self._samples = samples
        self._values = self._unusable = 0  # samples of all channels
        self._unusable_seconds = 0.0
        self._resampler: AudioResampler | None = None
        self._setup: tuple[str, str, int] | None = None
        # In input samples, counted from the start of the current resampler:
        self._first_seconds = float(self.origin_seconds)
        self._next = 0  # index of the next sample for the resampler
        self._run_start: float | None = None  # start of the current run of frames without a gap,
        self._run_bounds = (-math.inf, math.inf)  # bounds of that start, where time stamps are rounded,
        self._run_samples = 0  # and number of its samples so far

    @property
    def empty(self) -> bool:
        """Whether no sample was added."""
        return self.end_seconds == -math.inf

    @property
    def unusable(self) -> bool:
        """Whether there are samples, but not one that is a number of a plausible size."""
        return 0 < self._values == self._unusable

    @property
    def done(self) -> bool:
        """Whether all of the requested sound was added."""
        return self.end_seconds >= self._stop_seconds

    def add(self, seconds: float | None, frame: AudioFrame, tick_seconds: float = 0.0) -> None:
        """Add the next samples.

        Args:
            seconds: Time stamp of the first sample; None if it follows the last one.
            frame: Samples in any format, layout and rate.
            tick_seconds: Unit that time stamps are rounded to, if reading started after a seek, else 0. A single time
                stamp is then inexact, so the start is estimated from several.
        """
        rate = frame.sample_rate
        setup = (frame.format.name, frame.layout.name, rate)
        if setup != self._setup:
            self._restart(setup)
        frame = self._usable(frame)
        index = self._place(seconds, rate, tick_seconds)
        self._run_samples += frame.samples
        self.end_seconds = max(self.end_seconds, self._first_seconds + (index + frame.samples) / rate)
        gap = index - self._next
        if gap > 0:
            left = (self._stop_seconds - self._first_seconds) * rate - self._next
            self._push_silence(frame, math.ceil(min(gap, left)))
        elif -gap >= frame.samples:
            return
        self._push(_slice(frame, -gap) if gap < 0 else frame)

    def _place(self, seconds: float | None, rate: int, tick_seconds: float) -> int:
        """Index of a frame's first sample: right after the last frame, unless its time stamp shows a gap."""
        if seconds is None:
            self._run_start = self._run_start or 0.0
            return round(self._run_start) + self._run_samples
        stamped = (seconds - self._first_seconds) * rate
        if self._run_start is None or abs(stamped - self._run_start - self._run_samples) > JITTER_SECONDS * rate:
            self._run_start, self._run_bounds, self._run_samples = stamped, (-math.inf, math.inf), 0
        if tick_seconds and self._next == 0:  # no sample is used yet: narrow down the start of the run
            start, doubt = stamped - self._run_samples, tick_seconds * rate / 2
            low, high = self._run_bounds
            self._run_bounds = low, high = max(low, start - doubt), min(high, start + doubt)
            self._run_start = (low + high) / 2
        return round(self._run_start) + self._run_samples

    def remarks(self) -> tuple[str, ...]:
        """Sentences for the user about sound that could not be used."""
        if not self._unusable:
            return ()
        return (
            f"{self._unusable_seconds:.1f} s of the sound are NaN, infinite or over {LOUDEST:.0f} times full scale, "
            "and are read as silence.",
        )

    def hold(self, seconds: float) -> None:
        """Continue the sound, which has ended, up to a time: with silence."""
        self._flush()
        missing = math.floor((seconds - self.origin_seconds) * self.rate_hz) - len(self._samples)
        while missing > 0:
            self._samples.append(np.zeros(count := min(missing, MOST_AT_ONCE), np.float32))
            missing -= count
        self._first_seconds, self._setup = self.origin_seconds + len(self._samples) / self.rate_hz, None

    def finish(self) -> None:
        """Complete the samples. The sound begins with number `skip`; after the last there is silence."""
        self._flush()

    def _usable(self, frame: AudioFrame) -> AudioFrame:
        """The frame with samples silenced that are no number or absurdly large, which a filter would spread."""
        if frame.format.name not in FLOATS:
            self._values += frame.samples
            return frame
        values = frame.to_ndarray()
        self._values += values.size
        if np.abs(values).max(initial=0.0) <= LOUDEST:
            return frame
        unusable = ~(np.abs(values) <= LOUDEST)
        self._unusable += int(unusable.sum())
        self._unusable_seconds += int(unusable.sum()) / (frame.layout.nb_channels * frame.sample_rate)
        return _frame(np.where(unusable, values.dtype.type(0), values), frame)

    def _push(self, frame: AudioFrame) -> None:
        self._next += frame.samples
        frame.pts = None  # consecutive for the resampler, as gaps and overlaps are already resolved
        self._resample(frame)

    def _resample(self, frame: AudioFrame | None) -> None:
        assert self._resampler is not None
        for part in self._resampler.resample(frame):
            self._samples.append(np.clip(part.to_ndarray()[0], -1, 1))

    def _push_silence(self, like: AudioFrame, samples: int) -> None:
        values = like.to_ndarray()
        level = 128 if like.format.name.startswith("u8") else 0  # silence in unsigned samples is 128
        while samples > 0:
            count = min(samples, like.sample_rate, MOST_AT_ONCE)
            self._push(_frame(np.full((len(values), count * _step(like)), level, values.dtype), like))
            samples -= count

    def _restart(self, setup: tuple[str, str, int]) -> None:
        """Start a resampler, for the first frame and whenever format, layout or rate change."""
        if self._setup is not None:
            self._flush()
            self._first_seconds = self.origin_seconds + len(self._samples) / self.rate_hz
        self._setup, self._next, self._run_start, self._run_samples = setup, 0, None, 0
        self._resampler = AudioResampler("fltp", "mono", self.rate_hz, frame_size=self.rate_hz, options=DOWNMIX)

    def _flush(self) -> None:
        if self._resampler is not None:
            self._resample(None)
        self._resampler = None


def _step(frame: AudioFrame) -> int:
    """Array columns per sample; interleaved channels share one row."""
    return 1 if frame.format.is_planar else frame.layout.nb_channels


def _slice(frame: AudioFrame, first: int) -> AudioFrame:
    return _frame(np.ascontiguousarray(frame.to_ndarray()[:, first * _step(frame) :]), frame)


def _frame(samples: Samples, like: AudioFrame) -> AudioFrame:
    frame = AudioFrame.from_ndarray(samples, format=like.format.name, layout=like.layout.name)
    frame.sample_rate = like.sample_rate
    return frame
