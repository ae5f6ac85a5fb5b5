"""Pictures that are left out change none of those that are chosen, in any layout of H.264."""

from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.media import boxed, read
from avpea.media.sieve import Sieve
from tests.media_factory import make_video

FILES: dict[str, dict[str, Any]] = {
    "pyramid.mp4": {"key_every": 250, "video_options": {"bf": "3"}},
    "plain-b.mkv": {"key_every": 250, "video_options": {"bf": "2", "b_strategy": "0", "x264-params": "b-pyramid=none"}},
    "short-gop.mp4": {"key_every": 12, "video_options": {"bf": "3"}},
    "open-gop.ts": {"key_every": 12, "video_options": {"bf": "3", "x264-params": "open-gop=1"}},
    "no-b.mp4": {"key_every": 250, "video_options": {"bf": "0"}},
    "intra.mp4": {"key_every": 1},
    "interlaced.mp4": {"key_every": 50, "video_options": {"bf": "3", "x264-params": "interlaced=1"}},
    "stills.mp4": {"frame_times": [0.0, 0.04, 0.3, 0.49, 0.52, 2.0, 2.1, 2.4, 4.0, 4.5], "video_options": {"bf": "3"}},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sieve")
    return {name: make_video(folder / name, seconds=5, fps=25, **options) for name, options in FILES.items()}


@pytest.mark.parametrize("moment", [pytest.param(0.0, marks=pytest.mark.slow), 0.5, 0.98])
def test_the_pictures_are_those_of_a_full_decode(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, moment: float
) -> None:
    options: dict[str, Any] = {"frame_size": (16, 24), "frame_at_seconds": moment}
    left_out: dict[str, int] = {}
    look = Sieve.look

    def counted(self: Sieve, packet: Any, seconds: float | None) -> None:
        look(self, packet, seconds)
        left_out[name] = left_out.get(name, 0) + (self._context.skip_frame == "NONREF")

    with boxed(None):
        for name, path in files.items():
            monkeypatch.setattr(Sieve, "look", counted)
            sieved = read(path, **options)
            monkeypatch.setattr(Sieve, "look", lambda *_: None)
            full = read(path, **options)
            assert torch.equal(sieved.frames, full.frames), name
            assert torch.equal(sieved.frame_seconds, full.frame_seconds), name
            assert torch.equal(sieved.waveform, full.waveform), name
            assert sieved.repairs == full.repairs == (), name
    assert left_out["pyramid.mp4"] > 40
    assert left_out["plain-b.mkv"] > 60
    assert not left_out["no-b.mp4"]
    assert not left_out["intra.mp4"]


def test_a_part_has_the_pictures_of_the_whole(files: dict[str, Path]) -> None:
    with boxed(None):
        for name, path in files.items():
            whole = read(path, frame_size=(16, 24))
            part = read(path, frame_size=(16, 24), start_seconds=2, segments=2)
            assert torch.equal(part.frames, whole.frames[2:4]), name
