"""Seconds spread over a whole video: which they are, and that they are what reading each by itself gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpea.errors import ExperimentError, MediaError
from avpea.media import SpreadRule, chosen_seconds, moments, read, read_spread
from avpea.media import spread as module
from tests.media_factory import make_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds of moving picture and rising tone."""
    return make_video(tmp_path_factory.mktemp("spread") / "nine.mp4", seconds=9, fps=5, size=(48, 32))


@pytest.mark.parametrize(
    ("total", "segments", "rule", "seconds"),
    [
        (60, 10, "every", [0, 6, 12, 18, 24, 30, 36, 42, 48, 54]),
        (60, 10, "linspace", [0, 6, 13, 19, 26, 32, 39, 45, 52, 59]),
        (10, 10, "every", list(range(10))),
        (10, 10, "linspace", list(range(10))),
        (9, 4, "every", [0, 2, 4, 6]),
        (9, 4, "linspace", [0, 2, 5, 8]),
        (3, 4, "every", [0, 1, 2, 3]),
        (60, 1, "linspace", [0]),
    ],
)
def test_which_seconds(total: int, segments: int, rule: SpreadRule, seconds: list[int]) -> None:
    assert chosen_seconds(total, segments, rule) == seconds


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("rule", "seconds"), [("every", [0, 2, 4, 6]), ("linspace", [0, 2, 5, 8])])
def test_each_second_is_what_reading_it_alone_gives(
    video: Path, rule: SpreadRule, seconds: list[int], whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_UP_TO_SECONDS", 180 if whole else 0)
    clip = read_spread(video, 4, rule, frame_size=(32, 48))
    assert clip.starts == tuple(map(float, seconds))
    for index, second in enumerate(seconds):
        alone = read(video, start_seconds=second, segments=1, frame_size=(32, 48))
        assert torch.equal(clip.frames[index], alone.frames[0])
        assert clip.frame_seconds[index] == alone.frame_seconds[0]
        torch.testing.assert_close(clip.segment_waveforms()[index], alone.waveform, rtol=0, atol=1e-4)


def test_a_short_video_is_read_from_its_start_and_padded(video: Path) -> None:
    clip = read_spread(video, 12, "every", frame_size=(32, 48))
    assert clip.starts == tuple(map(float, range(12)))
    assert torch.equal(clip.frames, read(video, segments=12, frame_size=(32, 48)).frames)


@pytest.mark.parametrize("whole", [True, False])
def test_a_truncated_video_is_spread_over_what_there_is(
    tmp_path: Path, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_UP_TO_SECONDS", 180 if whole else 0)
    whole_file = make_video(tmp_path / "whole.mkv", seconds=12, fps=5, size=(48, 32))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole_file.read_bytes()[: int(0.55 * whole_file.stat().st_size)])
    clip = read_spread(cut, 4, "every", frame_size=(32, 48))
    assert len(clip.frames) == 4
    assert clip.starts[-1] < clip.duration_seconds


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        read_spread(tmp_path / "nothing.mp4", 4, "every")


def test_moments_are_those_of_lavishs_public_code(tmp_path: Path) -> None:
    """Sounds of 1 s start at linspace(0, length - 1.1 s, 10), and frames are those at each second's start."""
    video = make_video(tmp_path / "ten.mkv", seconds=10, fps=5, size=(48, 32))
    clip = read(video, frame_at_seconds=0.0, frame_size=(32, 48))
    assert clip.frame_seconds.tolist() == pytest.approx(list(range(10)), abs=1e-3)
    found = moments(clip, 10)
    starts = np.linspace(0, 160_000 - 16_000 * 1.1, num=10, dtype=int)
    assert [round(one * 16_000) for one in found.starts] == starts.tolist()
    assert found.starts[1] == pytest.approx(0.988875)
    assert found.starts[-1] == pytest.approx(8.9)
    for sound, start in zip(found.segment_waveforms(), starts, strict=True):
        assert torch.equal(sound, clip.waveform[start : start + 16_000])
    assert torch.equal(found.frames, clip.frames)


def test_moments_of_a_longer_video_and_of_longer_sounds(tmp_path: Path) -> None:
    """MUSIC-AVQA: 1.95 s of sound; frames as evenly, rounded down."""
    video = make_video(tmp_path / "long.mkv", seconds=21, fps=5, size=(48, 32))
    clip = read(video, frame_at_seconds=0.0, frame_size=(32, 48))
    found = moments(clip, 5, 1.95)
    assert found.segment_waveforms().shape == (5, 31_200)
    assert found.frame_seconds.tolist() == pytest.approx([0, 5, 10, 15, 20], abs=1e-3)
    assert found.starts[-1] == pytest.approx(21 - 2.05, abs=1e-3)


def test_moments_of_a_video_shorter_than_a_sound_are_padded(tmp_path: Path) -> None:
    clip = read(make_video(tmp_path / "short.mkv", seconds=0.6, fps=5, size=(48, 32)), frame_at_seconds=0.0)
    found = moments(clip, 3)
    assert found.segment_waveforms().shape == (3, 16_000)
    assert torch.equal(found.segment_waveforms()[0], found.segment_waveforms()[2])
    assert not found.segment_waveforms()[0, 11_000:].any()


def test_a_rule_that_there_is_none_is_refused(video: Path) -> None:
    wrong: Any = "lin"
    for call in (lambda: chosen_seconds(60, 10, wrong), lambda: read_spread(video, 4, wrong)):
        with pytest.raises(ExperimentError, match=r"^rule is 'lin'; expected 'every' or 'linspace'\.$"):
            call()
