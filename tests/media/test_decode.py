"""Reading: windows of a file, files that are cut off or are none, and errors that name the remedy."""

import ast
import multiprocessing
import pickle
import re
import resource
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from avpea.errors import MediaError, NoAudioTrack, NoVideoTrack
from avpea.media import Clip, decode, probe, read, read_sound, read_spread, segments_in, walk
from avpea.media.container import decoded
from tests.media_factory import make_video, number_of, numbered


def chirp(t: np.ndarray) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * (200 * t + 60 * t * t)) + 0.2 * np.sin(2 * np.pi * 3000 * t)


def long_video(path: Path, seconds: float = 25, **options: Any) -> Path:
    return make_video(
        path, seconds=seconds, key_every=30, size=(64, 48), picture=lambda n, s: numbered(n % 256, s),
        sound=chirp, **options,
    )  # fmt: skip


def fields(clip: Clip) -> tuple[Tensor, Tensor, Tensor]:
    return clip.frames, clip.frame_seconds, clip.waveform


def test_segments_in() -> None:
    assert [segments_in(s) for s in (0.07, 1.0, 1.09, 1.2, 9.4, 10.0, 10.05)] == [1, 1, 1, 2, 10, 10, 10]


def test_probe(tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "a.mp4", seconds=2, fps=12, audio_layout="5.1", audio_hz=48_000, audio_tracks=2))
    assert info.duration_seconds == pytest.approx(2)
    assert (info.has_video, info.has_audio, info.width, info.height, info.fps) == (True, True, 96, 64, 12)
    assert (info.audio_rate_hz, info.audio_channels, info.audio_tracks) == (48_000, 6, 2)
    assert (info.container, info.codecs) == ("mov", ("h264", "aac", "aac"))


def test_probe_of_sound_alone(tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "a.wav", seconds=2, fps=None, audio_codec="pcm_s16le"))
    assert (info.has_video, info.has_audio, info.width, info.height, info.fps) == (False, True, 0, 0, 0)


def test_messages_of_decoders_do_not_reach_python(tmp_path: Path) -> None:
    """A thread that has one waits for the lock of Python; who frees the decoder has it, and waits for the thread."""
    path = make_video(tmp_path / "a.mp4", seconds=2)
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)  # as torchvision 0.21 does
    try:
        probe(path)
        assert av.logging.get_level() is None
    finally:
        av.logging.set_level(before)


def test_a_stream_without_a_header(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.h264", seconds=2, fps=25, audio_hz=None)
    assert probe(path).duration_seconds == pytest.approx(2)
    assert [number_of(f) for f in read(path, missing_audio="silence").frames] == [12, 37]


def test_the_same_file_gives_the_same_tensors(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=3)
    for first, second in zip(fields(read(path)), fields(read(path)), strict=True):
        assert torch.equal(first, second)


def test_a_worker_process_gives_the_same_tensors(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=2)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(digest, (str(path),))
    assert there == digest(path)


def digest(path: str | Path) -> list[float]:
    return [tensor.double().sum().item() for tensor in fields(read(path))]


CONTAINERS: dict[str, dict[str, Any]] = {
    "mp4": {},
    "mkv": {},
    "ts": {},
    "mov": {"audio_codec": "pcm_s16le"},
    "avi": {"video_codec": "mpeg4", "audio_codec": "libmp3lame"},
    "flv": {"video_codec": "flv", "audio_codec": "libmp3lame"},
}


@pytest.mark.parametrize(
    "ending", [pytest.param(one, marks=[] if one in ("mp4", "ts") else [pytest.mark.slow]) for one in CONTAINERS]
)
def test_a_window_equals_that_part_of_the_whole(tmp_path: Path, ending: str) -> None:
    path = long_video(tmp_path / f"a.{ending}", **CONTAINERS[ending])
    whole = read(path)
    for start, segments in ((0, 3), (3, 4), (14, 5), (21, 4)):  # far starts are found by seeking
        window = read(path, start_seconds=start, segments=segments)
        assert torch.equal(window.frames, whole.frames[start : start + segments])
        assert torch.equal(window.frame_seconds, whole.frame_seconds[start : start + segments])
        assert torch.equal(window.waveform, whole.waveform[start * 16_000 : (start + segments) * 16_000])
    between = read(path, start_seconds=17.25, segments=2)
    assert torch.equal(between.waveform, whole.waveform[17 * 16_000 + 4000 :][: 2 * 16_000])


def test_a_far_window_of_opus_in_webm_is_less_than_a_millisecond_off(tmp_path: Path) -> None:
    path = long_video(tmp_path / "a.webm", video_codec="libvpx-vp9", audio_codec="libopus", audio_hz=48_000)
    whole, window = read(path), read(path, start_seconds=14, segments=2)
    assert torch.equal(window.frames, whole.frames[14:16])
    errors = [
        (window.waveform[100:-100] - whole.waveform[14 * 16_000 + 100 + lag :][:31_800]).abs().max()
        for lag in range(-16, 17)
    ]
    assert min(errors) < 1e-3


def test_the_tracks_may_lie_one_after_the_other(tmp_path: Path) -> None:
    path = long_video(tmp_path / "a.mkv", interleaved=False)
    assert read(path).waveform[-8000:].abs().max() > 0.4
    assert read(path, start_seconds=15, segments=2).waveform.abs().max() > 0.4


def test_a_far_window_does_not_decode_what_comes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = long_video(tmp_path / "a.mp4", seconds=120)
    packets: list[Any] = []

    def counted(packet: Any) -> Any:
        packets.append(packet)
        return decoded(packet)

    monkeypatch.setattr(walk, "decoded", counted)
    clip = read(path, start_seconds=110, segments=3)
    assert [number_of(f) for f in clip.frames] == [(1105 + 10 * n) % 256 for n in range(3)]
    assert len(packets) < 500  # of 6,400


def test_seeking_past_the_end_of_a_short_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=3, audio_seconds=30)
    assert [number_of(f) for f in read(path, start_seconds=20, segments=2).frames] == [29, 29]


def test_more_segments_than_the_file_has_hold_the_last_frame_and_are_silent(tmp_path: Path) -> None:
    clip = read(make_video(tmp_path / "a.mp4", seconds=2), segments=4)
    assert [number_of(f) for f in clip.frames] == [5, 15, 19, 19]
    assert not clip.waveform[33_000:].any()
    assert len(clip.waveform) == 64_000
    assert clip.duration_seconds == pytest.approx(2)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_of_a_file_that_is_cut_off_what_decodes_is_used(tmp_path: Path, ending: str) -> None:
    options: dict[str, Any] = {"mux_options": {"movflags": "faststart"}} if ending == "mp4" else {}
    path = make_video(tmp_path / f"cut.{ending}", seconds=20, keep=0.5, **options)
    clip = read(path)
    assert 7 < clip.duration_seconds < 13
    assert clip.cut_off
    assert clip.declared_seconds == pytest.approx(20, abs=0.2)
    assert len(clip.frames) == segments_in(clip.duration_seconds)
    assert number_of(clip.frames[3]) == 35
    held = read(path, start_seconds=5, segments=12)
    assert len(held.frames) == 12
    with pytest.raises(MediaError, match="start_seconds is 18, but the file ends at"):
        read(path, start_seconds=18)


def damage(path: Path, kind: str | None) -> Path:
    import av

    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux() if p.size and (not kind or p.stream.type == kind)]
    data = bytearray(path.read_bytes())
    for position, size in places:
        assert position is not None
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def test_tracks_in_which_nothing_decodes_count_as_missing(tmp_path: Path) -> None:
    no_picture = damage(make_video(tmp_path / "a.mp4", seconds=2), "video")
    with pytest.raises(NoVideoTrack, match=r'no frame of the video track decodes.*missing_video="black"'):
        read(no_picture)
    assert not read(no_picture, missing_video="black").frames.any()
    no_sound = damage(make_video(tmp_path / "b.mp4", seconds=2), "audio")
    with pytest.raises(NoAudioTrack, match=r'nothing in the audio track decodes.*missing_audio="silence"'):
        read(no_sound)
    assert not read(no_sound, missing_audio="silence").waveform.any()
    nothing = damage(make_video(tmp_path / "c.mp4", seconds=2), None)
    with pytest.raises(MediaError, match="nothing in this file decodes"):
        read(nothing, missing_audio="silence", missing_video="black")


def test_missing_tracks_are_errors_unless_allowed(tmp_path: Path) -> None:
    mute = make_video(tmp_path / "mute.mp4", seconds=2, audio_hz=None)
    with pytest.raises(NoAudioTrack, match=r'has no audio track.*missing_audio="silence"'):
        read(mute)
    assert not read(mute, missing_audio="silence").waveform.any()
    blind = make_video(tmp_path / "blind.mp4", seconds=2, fps=None)
    with pytest.raises(NoVideoTrack, match=r'has no video track.*missing_video="black"'):
        read(blind)
    subtitles = tmp_path / "a.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    with pytest.raises(MediaError, match="neither a video nor an audio track"):
        read(subtitles, missing_audio="silence", missing_video="black")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"This is not a video.\n" * 9, "not a video"),
        (b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n", "this is a playlist"),
    ],
    ids=["empty", "text", "playlist"],
)
def test_files_that_are_no_media(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    for opens in (read, probe):
        with pytest.raises(MediaError, match=message) as caught:
            opens(path)
        assert caught.value.path == path
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="there is no such file"):
        read(tmp_path / "nowhere.mp4")
    with pytest.raises(MediaError, match="this is a folder"):
        read(tmp_path)
    with pytest.raises(MediaError, match=r"cut off before its index \(moov\)"):
        read(make_video(tmp_path / "no-index.mp4", seconds=3, keep=0.5))


def test_impossible_wishes(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=2)
    with pytest.raises(MediaError, match=r"start_seconds is 2, but the file ends at 2\.00"):
        read(path, start_seconds=2)
    with pytest.raises(MediaError, match="start_seconds is -1"):
        read(path, start_seconds=-1.0)
    with pytest.raises(MediaError, match="segments is 0"):
        read(path, segments=0)
    with pytest.raises(MediaError, match=r"frame_size is \(0, 9\)"):
        read(path, frame_size=(0, 9))
    for track in (1, -1):
        with pytest.raises(NoAudioTrack, match=f"audio_track is {track}; expected 0 to 0"):
            read(path, audio_track=track, missing_audio="silence")


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "a.mp4", seconds=1).rename(tmp_path / "http:12:30 ü.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read("http:12:30 ü.mp4").frames) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    options = {"preset": "ultrafast"}
    path = make_video(tmp_path / "a.mp4", seconds=60, fps=25, size=(640, 360), audio_hz=None, video_options=options)
    read(path, frame_size=(16, 16), segments=3, missing_audio="silence")
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert len(read(path, frame_size=(16, 16), missing_audio="silence").frames) == 60
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before
    assert grown < 50e6  # all frames would take 500 MB


def harm(path: Path, kind: str, first: int, count: int) -> float:
    """Overwrite consecutive packets of a track; returns how many seconds they are."""
    with av.open(path) as container:
        track = next(one for one in container.streams if one.type == kind)
        packets = [one for one in container.demux(track) if one.size][first : first + count]
    content = bytearray(path.read_bytes())
    for packet in packets:
        assert packet.pos is not None
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    return sum(float((packet.duration or 0) * (packet.time_base or 0)) for packet in packets)


@pytest.mark.parametrize(("kind", "what"), [("audio", "sound"), ("video", "picture")])
def test_what_does_not_decode_is_told_with_its_length(kind: str, what: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=4, fps=10)
    assert read(path).repairs == ()
    seconds = harm(path, kind, first=12, count=10)
    (remark,) = read(path).repairs
    told = float(remark.split(" s of the ")[0])
    assert f"s of the {what} are damaged and do not decode" in remark
    # A decoder may guess one of them, or lose one more that builds on them.
    assert abs(told - seconds) < 0.4 * seconds
    last = read(path, start_seconds=3, segments=1)
    assert not any(what in one for one in last.repairs) or kind == "video"


def test_wrong_arguments_are_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_video(tmp_path / "a.mp4", seconds=3)
    calls: dict[str, Any] = {
        "segments is 2.5; expected 1 or more": lambda wrong: read(video, segments=wrong),
        "audio_track is '0'; expected a whole number": lambda wrong: read(video, audio_track=wrong),
        "video_track is '0'; expected a whole number": lambda wrong: probe(video, video_track=wrong),
        "frame_size is 32; expected a height and a width": lambda wrong: read(video, frame_size=wrong),
        "start_seconds is '1'; expected 0 or more": lambda wrong: read(video, start_seconds=wrong),
        "frame_at_seconds is nan; expected 0 or more": lambda wrong: read(video, frame_at_seconds=wrong),
        "start_seconds is -1; expected 0 or more": lambda wrong: read_sound(video, 16_000, start_seconds=wrong),
        "seconds is -2; expected a whole number": lambda wrong: read_sound(video, 16_000, seconds=wrong),
        "rate_hz is 0; expected a whole number": lambda wrong: read_sound(video, wrong),
        "start_seconds is 1, but the seconds are spread": lambda wrong: read_spread(
            video, 2, "linspace", start_seconds=wrong
        ),
        "segments is 0; expected 1": lambda wrong: read_spread(video, wrong, "every"),
    }
    numbers: Any = {"segments": np.int64(2), "frame_size": np.array([32, 32]), "audio_track": np.int64(0)}
    clip = read(video, **numbers)
    assert clip.frames.shape == (2, 32, 32, 3)
    monkeypatch.setattr(decode, "_done", lambda *asked: pytest.fail("the file is opened"))
    for sentence, call in calls.items():
        value = sentence.split(" is ")[1].split(";")[0].split(",")[0]
        with pytest.raises(MediaError, match=re.escape(sentence)):
            call(float(value) if value == "nan" else ast.literal_eval(value))
