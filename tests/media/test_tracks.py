"""Which tracks are read: those that FFmpeg would choose, or those asked for; and what is no file at all."""

import os
import socket
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from avpea.errors import MediaError, MissingFile, NoAudioTrack, NoVideoTrack
from avpea.media import probe, read
from tests.media_factory import make_video, tone

SIZES = [(32, 32), (96, 64)]


def several(path: Path, sizes: list[tuple[int, int]], flags: list[Disposition], tones: list[int]) -> Path:
    """A file with several video and audio tracks; picture n is of gray level 50 (n + 1)."""
    with av.open(str(path), "w") as container:
        pictures = [container.add_stream("mpeg4", rate=5) for _ in sizes]
        for track, (width, height), flag in zip(pictures, sizes, flags, strict=True):
            track.width, track.height, track.pix_fmt, track.disposition = width, height, "yuv420p", flag
        sounds = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in tones]
        for number, track in enumerate(pictures):
            for index in range(10):
                gray = np.full((track.height, track.width, 3), 50 * (number + 1), np.uint8)
                frame = av.VideoFrame.from_ndarray(gray, format="rgb24").reformat(format="yuv420p")
                frame.pts = index
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
        for channel, hertz in zip(sounds, tones, strict=True):
            values = (tone(hertz)(np.arange(32_000) / 16_000) * 32_767).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(values[None], format="s16", layout="mono")
            sound.sample_rate, sound.pts = 16_000, 0
            container.mux(channel.encode(sound))
            container.mux(channel.encode(None))
    return path


def pitch(path: Path, **options: Any) -> int:
    return int(torch.fft.rfft(read(path, segments=1, **options).waveform).abs().argmax())


@pytest.mark.parametrize("ending", ["mkv", "mov"])
def test_the_default_track_then_the_largest(tmp_path: Path, ending: str) -> None:
    default, none = Disposition.default, Disposition(0)
    for flags, size in (([none, default], (96, 64)), ([default, none], (32, 32)), ([none, none], (96, 64))):
        path = several(tmp_path / f"a.{ending}", SIZES, flags, [500])
        if ending == "mkv" or flags != [none, none]:  # MP4's muxer makes the first track a default one
            info = probe(path)
            assert (info.width, info.height) == size
            assert read(path).frames.shape[1:3] == size[::-1]


def test_tracks_by_number(tmp_path: Path) -> None:
    path = several(tmp_path / "a.mkv", SIZES, [Disposition(0)] * 2, [500, 1500])
    for number, (width, height) in enumerate(SIZES):
        clip = read(path, video_track=number)
        assert clip.frames.shape[1:3] == (height, width)
        assert abs(int(clip.frames.float().mean()) - 50 * (number + 1)) < 8
        assert probe(path, video_track=number).width == width
    assert [pitch(path, audio_track=number) for number in (0, 1)] == [500, 1500]
    with pytest.raises(NoVideoTrack, match=r"video_track is 2; expected 0 to 1.*0: mpeg4 32x32.*1: mpeg4 96x64"):
        read(path, video_track=2)
    with pytest.raises(NoAudioTrack, match=r"audio_track is 5; expected 0 to 1.*pcm_s16le with 1 channel"):
        read(path, audio_track=5)


def test_stills_are_no_video(tmp_path: Path) -> None:
    flags = [Disposition.attached_pic, Disposition.default]
    path = several(tmp_path / "a.mkv", [(200, 200), (32, 32)], flags, [500])
    assert probe(path).width == 32


def test_a_pixel_aspect_that_lies(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1, pixel_aspect=Fraction(60_000, 1))
    assert probe(path).width == 96


# --- what is no file


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "nothing")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        for name, message in (
            ("pipe.mp4", "this is a named pipe"),
            ("folder.mp4", "this is a folder"),
            ("socket.mp4", "this is a socket"),
            ("loop.mp4", "leads back to itself"),
            ("broken.mp4", "there is no such file"),
            ("q" * 300 + ".mp4", "longer than the file system allows"),
            ("deep/" * 1000 + "a.mp4", "longer than the file system allows"),
            ("zero\0.mp4", "there is no such file"),
        ):
            for reading in (probe, read):
                with pytest.raises(MediaError, match=message) as caught:
                    reading(tmp_path / name)
                assert isinstance(caught.value, MissingFile) == ("there is no such" in str(caught.value))
    with pytest.raises(MediaError, match="this is a device"):
        read("/dev/null")


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    make_video(tmp_path / "a.mp4", seconds=1).rename(path)
    assert len(read(path).frames) == 1


def test_an_exception_of_a_decoder_is_the_files_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1)

    def failing(_: Any) -> Any:
        raise OverflowError("too large")

    for module in ("walk", "jobs"):
        monkeypatch.setattr(f"avpea.media.{module}.decoded", failing)
    for reading in (probe, read):
        with pytest.raises(MediaError, match=r"a\.mp4: cannot be decoded \(OverflowError: too large\)"):
            reading(path)


def test_damage_that_pyav_reads_out_of_bounds(tmp_path: Path) -> None:
    """More than eight planes of sound; a process that crashed would end the tests."""
    code = (
        "import av, numpy as np; from avpea.media.container import decoded\n"
        "class Packet:\n"
        "    def decode(self): return [av.AudioFrame(format='fltp', layout='22.2', samples=64)]\n"
        "print(decoded(Packet()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "([], False)"
