"""The sound alone at another rate, without seams: against the tone it was made of."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avpea.errors import MediaError, NoAudioTrack
from avpea.media import read_sound
from tests.media_factory import make_video, tone

RATE = 22_050


@pytest.mark.parametrize(
    ("start", "seconds", "expected"), [(0.0, None, 4.3), (0.0, 2, 2.0), (1.5, 2, 2.0), (3.0, 5, 1.3)]
)
def test_is_the_tone_that_the_file_was_made_of(
    tmp_path: Path, start: float, seconds: int | None, expected: float
) -> None:
    video = make_video(
        tmp_path / "a.mkv", seconds=4.3, fps=5, size=(48, 32), sound=tone(440.0), audio_codec="pcm_s16le"
    )
    found = read_sound(video, RATE, start_seconds=start, seconds=seconds)
    assert len(found) == pytest.approx(expected * RATE, abs=0.05 * RATE)
    at = start + np.arange(len(found)) / RATE
    wanted = torch.from_numpy(tone(440.0)(at)).float()
    middle = slice(2000, len(found) - 2000)
    torch.testing.assert_close(found[middle], wanted[middle], rtol=0, atol=5e-3)


def test_a_file_without_sound(tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", seconds=1, fps=5, size=(48, 32), audio_hz=None)
    with pytest.raises(NoAudioTrack):
        read_sound(video, RATE)
    assert read_sound(video, RATE, missing_audio="silence").shape == (0,)
    with pytest.raises(MediaError, match="no such file"):
        read_sound(tmp_path / "none.mp4", RATE)
