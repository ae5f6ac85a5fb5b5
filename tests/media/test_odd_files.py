"""Thirty-five technically odd files and some natural clips, against what others measured of them."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from avpea.errors import MediaError
from avpea.media import probe, read, segments_in


def rows_of(shared_data: Path, name: str) -> list[dict[str, str]]:
    with (shared_data / "clips" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def broken(row: dict[str, str]) -> bool:
    return row["probe"].startswith("error") and "index intact" not in row["what"]


def test_every_odd_file_reads_or_says_why_not(shared_data: Path, subtests: pytest.Subtests) -> None:
    rows = rows_of(shared_data, "odd.csv")
    assert len(rows) == 35
    for row in rows:
        path = shared_data / "clips" / row["file"]
        with subtests.test(row["file"]):
            if broken(row):
                with pytest.raises(MediaError):
                    read(path, missing_audio="silence", missing_video="black")
            elif row["probe"].startswith("error"):
                assert read(path).duration_seconds < probe(path).duration_seconds
            else:
                compare(path, json.loads(row["probe"]))


def compare(path: Path, known: dict[str, Any]) -> None:
    info = probe(path)
    assert info.container == known["container"]
    assert info.duration_seconds == pytest.approx(known["duration"], abs=0.02)
    assert (info.has_video, info.has_audio) == ("vcodec" in known, "acodec" in known)
    clip = read(path, missing_audio="silence", missing_video="black")
    segments = segments_in(known["duration"])
    assert len(clip.frames) == len(clip.frame_seconds) == segments
    assert len(clip.waveform) == segments * 16_000
    assert clip.duration_seconds == pytest.approx(info.duration_seconds)
    assert (clip.frame_seconds.diff() >= 0).all()
    if info.has_video:
        assert clip.frames.shape[1:3] == (info.height, info.width)
        assert float(clip.frames.float().std()) > 10
        assert known["height"] in clip.frames.shape[1:3]  # some have pixels that are not square
    if info.has_audio:
        assert (info.audio_rate_hz, info.audio_channels) == (known["rate"], known["channels"])
        power = float(clip.waveform.square().sum()) / (known["audio_seconds"] * 16_000)
        decibel = 10 * math.log10(power + 1e-12)
        # Mixing channels down loses what they do not share, and 16 kHz loses what is above 8 kHz.
        lost = 4 + 4 * math.log2(known["channels"])
        assert known["rms_dbfs"] - lost < decibel < known["rms_dbfs"] + 1


def test_of_natural_clips(shared_data: Path, subtests: pytest.Subtests) -> None:
    for path in sorted((shared_data / "clips" / "natural").glob("*.mp4"))[::12]:
        with subtests.test(path.name):
            clip = read(path, frame_size=(84, 84), missing_audio="silence")
            assert clip.frames.shape == (segments_in(probe(path).duration_seconds), 84, 84, 3)


def test_of_the_small_event_data_set(shared_data: Path) -> None:
    for path in sorted((shared_data / "ave-mini" / "AVE").glob("*.mp4"))[::150]:
        clip = read(path, segments=10, frame_size=(84, 84))
        assert clip.frames.shape == (10, 84, 84, 3)
        assert clip.frame_seconds.tolist() == pytest.approx([n + 0.5 for n in range(10)], abs=0.1)
        assert clip.waveform.abs().max() > 0.01
