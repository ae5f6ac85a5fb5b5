"""Where sound lies on the file's clock, how it is mixed down, and what fills its holes."""

import math
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.audio.frame import AudioFrame
from torch import Tensor

from avpea.errors import NoAudioTrack
from avpea.media import SAMPLE_RATE_HZ, read
from avpea.media.growing import Growing
from avpea.media.sound import Timeline
from tests.media_factory import make_video, tone


def finished(timeline: Timeline, seconds: int) -> Tensor:
    timeline.finish()
    rows = timeline._samples
    assert isinstance(rows, Growing)
    return torch.from_numpy(rows.finish(timeline.skip + seconds * SAMPLE_RATE_HZ)[timeline.skip :])


def onset_seconds(waveform: Tensor, threshold: float = 0.1) -> float:
    return int((waveform.abs() > threshold).nonzero()[0]) / SAMPLE_RATE_HZ


def level(waveform: Tensor) -> float:
    return float(waveform.square().mean().sqrt())


@pytest.mark.parametrize(
    ("ending", "codec", "rate"),
    [
        ("mp4", "aac", 44_100),
        ("mp4", "aac", 8_000),
        ("mp4", "libmp3lame", 44_100),
        ("mkv", "aac", 48_000),
        ("mkv", "flac", 22_050),
        ("mov", "pcm_s16le", 16_000),
        ("ts", "aac", 44_100),
        ("webm", "libopus", 48_000),
    ],
)
def test_an_onset_is_where_it_was_put(tmp_path: Path, ending: str, codec: str, rate: int) -> None:
    video: dict[str, Any] = {"video_codec": "libvpx-vp9"} if ending == "webm" else {}
    path = make_video(
        tmp_path / f"a.{ending}", seconds=3, audio_codec=codec, audio_hz=rate, sound=tone(1000, 1.25), **video
    )
    # MPEG-TS has no way to say that the encoder's first 23 ms are padding.
    assert onset_seconds(read(path).waveform) == pytest.approx(1.25, abs=0.025)


def test_delayed_sound_stays_in_step_with_the_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=4, audio_start=1.5, audio_seconds=1, sound=tone(1000, 2.0))
    waveform = read(path).waveform
    assert len(waveform) == 64_000
    assert not waveform[: round(1.47 * SAMPLE_RATE_HZ)].any()
    assert onset_seconds(waveform) == pytest.approx(2.0, abs=0.005)
    assert not waveform[round(2.6 * SAMPLE_RATE_HZ) :].any()


@pytest.mark.parametrize("layout", ["mono", "stereo", "2.1", "quad", "5.0", "5.1"])
def test_mixing_down_keeps_the_level(tmp_path: Path, layout: str) -> None:
    path = make_video(tmp_path / "a.mkv", seconds=2, audio_layout=layout, audio_codec="flac", audio_hz=48_000)
    waveform = read(path).waveform
    assert waveform.abs().max() == pytest.approx(0.5, abs=0.01)
    assert waveform.dtype == torch.float32


def test_stereo_is_mixed_to_its_mean(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", seconds=1, audio_codec="flac", channel_gains=[1.0, 0.2])
    assert read(path).waveform.abs().max() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("channels", [3, 16])
def test_channels_without_a_known_layout(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.wav"
    samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes((samples * 32_767).astype("<i2").repeat(channels).tobytes())
    assert read(path, missing_video="black").waveform.abs().max() == pytest.approx(0.5, abs=0.01)


def test_the_waveform_never_leaves_one(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1, sound=lambda t: np.sign(np.sin(2 * np.pi * 100 * t)))
    assert read(path).waveform.abs().max() == 1


def test_audio_tracks_are_counted_from_0(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1, audio_tracks=3, tone_hz=500)
    for track in range(3):
        spectrum = torch.fft.rfft(read(path, audio_track=track).waveform)
        assert int(spectrum.abs().argmax()) == 500 * (track + 1)


def test_silence_follows_sound_that_ends_early(tmp_path: Path) -> None:
    waveform = read(make_video(tmp_path / "a.mp4", seconds=4, audio_seconds=1.5)).waveform
    assert level(waveform[:24_000]) == pytest.approx(0.35, abs=0.01)
    assert not waveform[26_000:].any()


def test_segment_waveforms(tmp_path: Path) -> None:
    clip = read(make_video(tmp_path / "a.mp4", seconds=3))
    segments = clip.segment_waveforms()
    assert segments.shape == (3, 16_000)
    assert torch.equal(segments.flatten(), clip.waveform)


# The timeline by itself: holes, overlaps, changes in the middle, as broken recordings have them.


def frame(
    value: float, samples: int = 1600, rate: int = 16_000, layout: str = "mono", sample_format: str = "fltp"
) -> AudioFrame:
    rows = {"mono": 1, "stereo": 2}[layout]
    frame = AudioFrame.from_ndarray(np.full((rows, samples), value, np.float32), sample_format, layout)
    frame.sample_rate = rate
    return frame


def test_a_hole_between_frames_is_silent() -> None:
    timeline = Timeline(0, 1, Growing(np.float32))
    timeline.add(0.0, frame(0.5))
    timeline.add(0.3, frame(0.25))
    waveform = finished(timeline, 1)
    assert (waveform[:1600] == 0.5).all()
    assert not waveform[1600:4800].any()
    assert (waveform[4800:6400] == 0.25).all()
    assert not waveform[6400:].any()


def test_time_stamps_off_by_their_rounding_leave_no_hole() -> None:
    timeline = Timeline(0, 1, Growing(np.float32))
    for number, jitter in enumerate([0.0, 0.004, -0.004, 0.009]):
        timeline.add(number / 10 + jitter, frame(0.5))
    timeline.add(None, frame(0.5))
    assert (finished(timeline, 1)[:8000] == 0.5).all()


def test_what_overlaps_is_dropped() -> None:
    timeline = Timeline(0, 1, Growing(np.float32))
    timeline.add(0.0, frame(0.5))
    timeline.add(0.05, frame(0.25))
    timeline.add(0.0, frame(0.75))
    waveform = finished(timeline, 1)
    assert (waveform[:1600] == 0.5).all()
    assert (waveform[1600:2400] == 0.25).all()
    assert not waveform[2400:].any()


def test_a_change_of_layout_and_rate_in_the_middle() -> None:
    timeline = Timeline(0, 1, Growing(np.float32))
    timeline.add(0.0, frame(0.5, samples=8000))
    timeline.add(0.5, frame(0.25, samples=24_000, rate=48_000, layout="stereo"))
    waveform = finished(timeline, 1)
    assert (waveform[:7900] == 0.5).all()
    assert (waveform[8100:15_900] - 0.25).abs().max() < 1e-3


def test_a_hole_of_hours_costs_no_more_than_what_was_asked_for() -> None:
    timeline = Timeline(0, 2, Growing(np.float32))
    timeline.add(0.0, frame(0.5))
    timeline.add(1e6, frame(0.25))
    assert timeline.done
    assert len(timeline._samples) < 4 * SAMPLE_RATE_HZ


def test_sound_from_before_the_span_is_dropped() -> None:
    timeline = Timeline(5.5, 1, Growing(np.float32))
    for number in range(60, 80):
        timeline.add(number / 10 - 2, frame(number / 100))
    waveform = finished(timeline, 1)
    assert waveform[0] == pytest.approx(0.75)
    assert not waveform[8000:].any() or waveform[-1] == pytest.approx(0.79)


# --- sound that is no number


def float_sound(path: Path, values: np.ndarray) -> Path:
    """A Matroska file of 16 kHz float samples as they are, and black pictures."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("pcm_f32le", rate=16_000, layout="mono")
        for index in range(5 * len(values) // 16_000):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            picture = picture.reformat(format="yuv420p")
            picture.pts = index
            container.mux(video.encode(picture))
        sound = AudioFrame.from_ndarray(values.astype(np.float32)[None], format="flt", layout="mono")
        sound.sample_rate, sound.pts = 16_000, 0
        for packets in (audio.encode(sound), audio.encode(None), video.encode(None)):
            container.mux(packets)
    return path


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, 32_768.0])
def test_samples_that_are_no_sound(tmp_path: Path, bad: float) -> None:
    good = tone(440)(np.arange(48_000) / 16_000)
    values = good.copy()
    values[16_000:32_000] = bad
    clip = read(float_sound(tmp_path / "a.mkv", values))
    assert torch.isfinite(clip.waveform).all()
    silent = np.where(np.isin(np.arange(48_000), np.arange(16_000, 32_000)), 0, good)
    assert (clip.waveform - torch.from_numpy(silent).float()).abs().max() < 1e-6
    assert "1.0 s of the sound are NaN, infinite or over 100 times full scale" in clip.remarks()[0]
    nothing = float_sound(tmp_path / "b.mkv", np.full(48_000, bad))
    with pytest.raises(NoAudioTrack, match=r"b\.mkv: all of its sound is NaN, infinite or absurdly loud"):
        read(nothing)
    assert not read(nothing, missing_audio="silence").waveform.any()
