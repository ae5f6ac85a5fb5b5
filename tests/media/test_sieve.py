"""Pictures that are left out change none of those that are chosen, in any layout of H.264 and H.265."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from av.packet import Packet
from av.video.frame import VideoFrame

from avpea.media import boxed, read, sieve, walk
from avpea.media.container import decoded, seconds_of
from tests.media_factory import make_video

FILES: dict[str, dict[str, Any]] = {
    "pyramid.mp4": {"key_every": 250, "video_options": {"bf": "3"}},
    "plain-b.mkv": {"key_every": 250, "video_options": {"bf": "2", "b_strategy": "0", "x264-params": "b-pyramid=none"}},
    "short-gop.mp4": {"key_every": 12, "video_options": {"bf": "3"}},
    "short-gop.ts": {"key_every": 12, "video_options": {"bf": "3"}},
    "gop-of-two-seconds.mkv": {"key_every": 50, "video_options": {"bf": "3"}},
    "open-gop.ts": {"key_every": 12, "video_options": {"bf": "3", "x264-params": "open-gop=1"}},
    "no-b.mp4": {"key_every": 250, "video_options": {"bf": "0"}},
    "intra.mp4": {"key_every": 1},
    "interlaced.mp4": {"key_every": 50, "video_options": {"bf": "3", "x264-params": "interlaced=1"}},
    "h265.mp4": {"video_codec": "libx265", "key_every": 25, "video_options": {"x265-params": "open-gop=0"}},
    "h265-radl.mkv": {"video_codec": "libx265", "key_every": 12, "video_options": {"x265-params": "open-gop=0:radl=2"}},
    "h265-open.ts": {"video_codec": "libx265", "key_every": 12, "video_options": {"x265-params": "open-gop=1"}},
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
    shown: dict[str, int] = {}

    def counted(packet: Any) -> Any:
        frames, whole = decoded(packet)
        shown[name] = shown.get(name, 0) + sum(isinstance(frame, VideoFrame) for frame in frames)
        return frames, whole

    with boxed(None):
        for name, path in files.items():
            monkeypatch.setattr(walk, "decoded", counted)
            sifted = read(path, **options)
            monkeypatch.setattr(walk, "decoded", decoded)
            with monkeypatch.context() as context:
                context.setattr(sieve, "UNITS", {})
                full = read(path, **options)
            assert torch.equal(sifted.frames, full.frames), name
            assert torch.equal(sifted.frame_seconds, full.frame_seconds), name
            assert torch.equal(sifted.waveform, full.waveform), name
            assert sifted.repairs == full.repairs == (), name
    # Of 125: half of those between reference pictures, and what a key frame of the same second makes needless, are not.
    assert 50 < shown["pyramid.mp4"] < 75
    assert 30 < shown["plain-b.mkv"] < 50
    assert shown["short-gop.mp4"] < 30
    assert shown["short-gop.ts"] < 30
    assert shown["gop-of-two-seconds.mkv"] < 40
    assert shown["h265-radl.mkv"] < 30
    assert shown["intra.mp4"] < 10
    assert shown["interlaced.mp4"] == shown["h265-open.ts"] == 125


def test_a_part_has_the_pictures_of_the_whole(files: dict[str, Path]) -> None:
    with boxed(None):
        for name, path in files.items():
            whole = read(path, frame_size=(16, 24))
            part = read(path, frame_size=(16, 24), start_seconds=2, segments=2)
            assert torch.equal(part.frames, whole.frames[2:4]), name


@pytest.mark.parametrize(("packets", "size"), [(3, sieve.HELD_BYTES), (sieve.HELD_PACKETS, 3_000)])
def test_what_waits_for_a_key_frame_is_bounded(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, packets: int, size: int
) -> None:
    with boxed(None):
        for name in ("short-gop.mp4", "gop-of-two-seconds.mkv", "intra.mp4"):
            expected = read(files[name], frame_size=(16, 24))
            with monkeypatch.context() as context:
                context.setattr(sieve, "HELD_PACKETS", packets)
                context.setattr(sieve, "HELD_BYTES", size)
                found = read(files[name], frame_size=(16, 24))
            assert torch.equal(found.frames, expected.frames), name
            assert torch.equal(found.waveform, expected.waveform), name


def test_sound_does_not_wait_for_pictures_that_have_ended(tmp_path: Path) -> None:
    path = make_video(tmp_path / "sound-goes-on.mkv", seconds=2, fps=25, audio_seconds=30)
    most, waiting = 0, 0
    with av.open(str(path)) as container:
        tracks = (container.streams.video[0], container.streams.audio[0])
        sifted = sieve.Sieve(
            tracks[0], lambda seconds: math.ceil(seconds - 0.5) + 0.5, lambda one: seconds_of(one, 0.0)
        )

        def every() -> Iterator[Any]:
            nonlocal waiting
            for packet in container.demux(*tracks):
                waiting += 1
                yield packet

        for packet in sifted.sift(every()):
            waiting -= 1
            most = max(most, waiting)
            for frame in decoded(packet)[0]:
                if isinstance(frame, VideoFrame):
                    sifted.seen(frame)
    assert sieve.HELD_PACKETS - 2 <= most <= sieve.HELD_PACKETS + 50  # pictures that are left out never come


def test_a_damaged_key_frame_costs_nothing_but_what_it_shows(files: dict[str, Path], tmp_path: Path) -> None:
    with av.open(str(files["short-gop.mp4"])) as container:
        video = container.streams.video[0]
        keys = [packet for packet in container.demux(video) if packet.is_keyframe]
        lost, seconds = next((one, at) for one in keys if (at := seconds_of(one, 0.0)) is not None and at > 2)
        place, size = lost.pos or 0, lost.size
    content = bytearray(files["short-gop.mp4"].read_bytes())
    content[place : place + size] = bytes(size)
    (damaged := tmp_path / "damaged.mp4").write_bytes(content)
    with boxed(None):
        whole, found = (read(path, frame_size=(16, 24)) for path in (files["short-gop.mp4"], damaged))
    near = [seconds - 1 < shown < seconds + 1 for shown in whole.frame_seconds.tolist()]
    assert sum(near) == 2
    for one, (expected, shown) in enumerate(zip(whole.frames, found.frames, strict=True)):
        assert near[one] or torch.equal(expected, shown), one
    assert torch.equal(found.waveform, whole.waveform)


@pytest.mark.parametrize(
    ("codec", "header", "packet", "begins"),
    [
        (
            "h264",
            "01 64 00 0a ff",
            "00000002 0910 00000003 658880",
            True,
        ),  # a delimiter, then a slice of an IDR picture
        ("h264", "01 64 00 0a ff", "00000002 0910 00000003 419a00", False),  # another picture's
        ("h264", "01 64 00 0a fd", "0002 0910 0003 658880", True),  # lengths of two bytes
        ("h264", "01 64 00 0a ff", "00000000 00000003 658880", True),  # a unit without anything in it
        ("h264", "01 64 00 0a ff", "ffffffff 658880", True),  # longer than the packet
        ("h264", "01 64 00 0a ff", "0000", False),
        ("h264", "", "00000001 0910 000001 658880", True),
        ("h264", "", "00000001 0910 000001 419a00", False),
        ("h264", "", "00000001 0605 80", False),  # no slice
        ("h264", "", "", False),
        ("hevc", "", "000001 460150 000001 2601af", True),
        ("hevc", "", "000001 460150 000001 2801af", True),
        ("hevc", "", "000001 2a01af", False),  # CRA: pictures shown before it refer to earlier ones
        ("hevc", "", "000001 2601ef", False),  # what waits to be shown is not
        ("hevc", "01" + 20 * "00" + "03", "00000003 2601af", True),
    ],
)
def test_a_key_frame_tells_whether_anything_before_is_needed(
    codec: str, header: str, packet: str, begins: bool
) -> None:
    assert sieve.UNITS[codec].begins(Packet(bytes.fromhex(packet)), bytes.fromhex(header)) is begins
