"""Seconds spread over a whole video: which they are, and that they are what reading each by itself gives."""

from pathlib import Path

import pytest
import torch

from avpea.errors import MediaError
from avpea.media import SpreadRule, chosen_seconds, read, read_spread
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
