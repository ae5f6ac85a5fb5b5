"""How long a file is whatever it declares, and clocks that restart or jump, against ffmpeg's own behaviour."""

import errno
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from avpea.errors import MediaError
from avpea.media import Clip, layout, probe, read
from tests.media_factory import make_video, number_of, on_a_failing_disk

SMALL: dict[str, Any] = {"size": (64, 48), "fps": 10, "audio_hz": 16_000, "audio_layout": "mono"}


def restamped(source: Path, path: Path, stamp: Any) -> Path:
    """A copy of a file in which `stamp(seconds)` is each packet's new time stamp."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        tracks = {track.index: new.add_stream_from_template(track) for track in old.streams}
        for packet in old.demux():
            if packet.dts is None:
                continue
            tick = float(packet.time_base)
            off = round((stamp(packet.dts * tick) - packet.dts * tick) / tick)
            packet.pts, packet.dts, packet.stream = packet.pts + off, packet.dts + off, tracks[packet.stream.index]
            new.mux(packet)
    return path


def near(clip: Clip, numbers: list[int]) -> bool:
    """Whether the frames have these numbers, up to the 0.1 s that AAC starts before the picture."""
    return [number_of(frame) for frame in clip.frames] == pytest.approx(numbers, abs=2)


MIDDLES = [5, 15, 25, 35]  # numbers of the frames in the middle of each second, at 10 fps


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts", "flv", "mov"])
def test_a_file_that_does_not_start_at_0(tmp_path: Path, ending: str) -> None:
    source = make_video(tmp_path / "a.mp4", seconds=4, **SMALL)
    late = restamped(source, tmp_path / f"late.{ending}", lambda seconds: seconds + 100)
    assert probe(late).duration_seconds == pytest.approx(4, abs=0.1)
    clip = read(late)
    assert clip.duration_seconds == pytest.approx(4, abs=0.1)
    assert clip.remarks() == []
    assert near(clip, MIDDLES)
    assert near(read(late, start_seconds=2, segments=2), MIDDLES[2:])


FEW = {"1 fps": [float(i) for i in range(12)], "5 fps": [i / 5 for i in range(60)]}
FEW |= {"a slide show": [0.0, 0.5, 0.6, 3.0, 3.1, 3.2, 7.0, 8.1, 8.2, 11.0, 11.5, 11.6]}


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov", "ts"])
@pytest.mark.parametrize("times", FEW.values(), ids=FEW)
def test_few_pictures_that_are_stored_in_another_order(
    times: list[float], ending: str, codec: str, tmp_path: Path
) -> None:
    """Matroska has no decoding times: of the first pictures they are not known, and no clock starts again there."""
    options = {"bf": "3", "b_strategy": "0", "x265-params": "log-level=none:bframes=3:b-adapt=0"}
    path = make_video(
        tmp_path / f"a.{ending}", seconds=12, fps=10, size=(64, 48), frame_times=times, audio_hz=16_000,
        video_codec=codec, video_options=options,
    )  # fmt: skip
    clip = read(path)
    assert clip.remarks() == []
    assert clip.duration_seconds == pytest.approx(12, abs=0.2)
    assert probe(path).duration_seconds == pytest.approx(12, abs=0.2)
    late = 0.2  # at most, the sound's first samples before the picture
    shown = [max(number for number, at in enumerate(times) if at <= second + 0.5) for second in range(12)]
    sure = [second for second in range(12) if all(not 0 <= second + 0.5 - at < late for at in times)]
    assert [number_of(clip.frames[second]) for second in sure] == [shown[second] for second in sure]


def test_the_last_picture_of_a_variable_rate_may_be_shown_long_after_it_is_decoded(tmp_path: Path) -> None:
    """The tables of MP4 sum up the times between decoding."""
    times = [0.0, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 9.0]
    path = make_video(
        tmp_path / "a.mp4", seconds=0, fps=10, size=(64, 48), frame_times=times, audio_hz=None,
        video_options={"bf": "3", "b_strategy": "0"},
    )  # fmt: skip
    length = probe(path).duration_seconds
    assert length >= 9
    assert read(path, missing_audio="silence").duration_seconds == pytest.approx(length)
    assert number_of(read(path, start_seconds=9, segments=1, missing_audio="silence").frames[0]) == 7


@pytest.mark.parametrize("ending", ["ts", "mpg"])
def test_joined_streams_are_read_to_the_end(tmp_path: Path, ending: str) -> None:
    codecs = {"video_codec": "mpeg2video", "audio_codec": "mp2"} if ending == "mpg" else {}
    one = make_video(tmp_path / f"one.{ending}", seconds=3, **{**SMALL, "fps": 25, **codecs})
    joined = tmp_path / f"joined.{ending}"
    joined.write_bytes(one.read_bytes() * 2)
    clip = read(joined)
    assert clip.duration_seconds == pytest.approx(6, abs=0.15)
    assert len(clip.frames) == 6
    assert near(clip, [12, 37, 62, 12, 37, 62])
    assert "start again (at 3.0 s)" in clip.remarks()[0]
    assert near(read(joined, start_seconds=4, segments=2), [37, 62])
    assert probe(joined).duration_seconds == pytest.approx(clip.duration_seconds)
    for second in range(6):  # the tone is there in each second, in step with the picture
        assert clip.segment_waveforms()[second][4000:12_000].abs().max() > 0.4


def test_a_jump_of_an_hour_is_closed(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.ts", seconds=4, **SMALL)
    jump = restamped(source, tmp_path / "jump.ts", lambda seconds: seconds + 3600 * (seconds - 1.4 > 2))
    clip = read(jump)
    assert clip.duration_seconds == pytest.approx(4, abs=0.2)
    assert near(clip, MIDDLES)
    assert "jump forward by 3600" in clip.remarks()[0]


def test_a_clock_that_jumps_and_comes_back_is_told_within_the_file(tmp_path: Path) -> None:
    """One packet says that it is 12 days later: the place is that of the file as it is read, without those days."""
    path = make_video(tmp_path / "a.flv", seconds=4, **SMALL)
    content, place, pictures = bytearray(path.read_bytes()), 13, 0  # after the header and the first empty size
    while pictures < 3:
        pictures += content[place] == 9
        place += 15 + int.from_bytes(content[place + 1 : place + 4])
    content[place + 7] = 0x40  # the upper byte of the next packet's time
    assert content[place] in (8, 9)
    path.write_bytes(content)
    about = probe(path)
    (told,) = [one for one in about.remarks if "start again" in one]
    (second,) = (float(one) for one in re.findall(r"at ([\d.]+) s", told))
    assert second <= about.duration_seconds < 60


def test_a_short_gap_stays(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.ts", seconds=4, **SMALL)
    gap = restamped(source, tmp_path / "gap.ts", lambda seconds: seconds + 5 * (seconds - 1.4 > 2))
    assert read(gap).duration_seconds == pytest.approx(9, abs=0.2)
    assert read(gap).remarks() == []


def test_two_pictures_hours_apart_cost_a_minute(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=0, frame_times=[0.0, 7200.0], size=(64, 48), audio_hz=None)
    clip = read(path, missing_audio="silence")
    assert len(clip.frames) <= 62
    assert [number_of(clip.frames[0]), number_of(clip.frames[-1])] == [0, 1]
    assert "jump forward by 7140.0 s" in " ".join(clip.remarks())


def test_a_slide_show_with_sound_keeps_its_clock(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", seconds=150, frame_times=[0.0, 120.0], size=(64, 48), audio_hz=8_000)
    clip = read(path, frame_size=(8, 8))
    assert clip.duration_seconds == pytest.approx(150, abs=0.2)
    assert [number_of(clip.frames[second]) for second in (0, 119, 121, 149)] == [0, 0, 1, 1]
    assert clip.remarks() == []


def declare(path: Path, seconds: float) -> Path:
    """Change the length that a header declares: Matroska's element 0x4489 in milliseconds, FLV's "duration"."""
    data = path.read_bytes()
    mark, scale = (b"\x44\x89\x88", 1000) if path.suffix == ".mkv" else (b"duration\x00", 1)
    place = data.index(mark) + len(mark)
    path.write_bytes(data[:place] + struct.pack(">d", seconds * scale) + data[place + 8 :])
    return path


@pytest.mark.parametrize("ending", ["mkv", "flv"])
def test_a_declared_length_that_is_too_short_or_absurd(tmp_path: Path, ending: str) -> None:
    path = make_video(tmp_path / f"a.{ending}", seconds=4, **{**SMALL, "audio_hz": 44_100})
    clip = read(declare(path, 1.0))
    assert near(clip, MIDDLES)
    assert clip.remarks() == [f"The file declares 1.0 s, but holds {clip.duration_seconds:.1f} s."]
    absurd = read(declare(path, 1e6))
    assert near(absurd, MIDDLES)
    assert absurd.cut_off
    assert absurd.declared_seconds == pytest.approx(1e6, abs=1)


def test_a_header_of_estimates_is_not_believed(tmp_path: Path) -> None:
    """MP3 without an index: FFmpeg guesses the length from the first frame's bit rate."""
    quiet = make_video(tmp_path / "quiet.mp3", seconds=3, fps=None, audio_codec="libmp3lame", sound=lambda t: 0 * t)
    loud = make_video(tmp_path / "loud.mp3", seconds=9, fps=None, audio_codec="libmp3lame")
    options = {"write_xing": "0", "id3v2_version": "0"}
    make_video(loud, seconds=9, fps=None, audio_codec="libmp3lame", mux_options=options)
    make_video(quiet, seconds=3, fps=None, audio_codec="libmp3lame", audio_hz=22_050, mux_options=options)
    clip = read(loud, missing_video="black")
    assert clip.duration_seconds == pytest.approx(9, abs=0.1)
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(loud.read_bytes() * 2)
    assert read(joined, missing_video="black").duration_seconds == pytest.approx(18, abs=0.2)
    assert not read(joined, missing_video="black").cut_off


@pytest.mark.parametrize(("codec", "ending"), [("aac", "aac"), ("libopus", "opus")])
def test_joined_sound(tmp_path: Path, codec: str, ending: str) -> None:
    one = make_video(tmp_path / f"one.{ending}", seconds=3, fps=None, audio_codec=codec, audio_hz=48_000)
    joined = tmp_path / f"joined.{ending}"
    joined.write_bytes(one.read_bytes() * 2)
    clip = read(joined, missing_video="black")
    assert clip.duration_seconds == pytest.approx(6, abs=0.15)
    for second in (0, 1, 2, 3, 4):
        assert clip.segment_waveforms()[second][4000:12_000].abs().max() > 0.4


def test_a_wrong_size_in_the_header_of_wav(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.wav", seconds=3, fps=None, audio_codec="pcm_s16le", audio_hz=16_000)
    data = path.read_bytes()
    place = data.index(b"data") + 4
    for size in (0, 0xFFFFFFFF):  # streamed recordings
        path.write_bytes(data[:place] + struct.pack("<I", size) + data[place + 4 :])
        assert read(path, missing_video="black").duration_seconds == pytest.approx(3, abs=0.01)


def test_a_longer_track_that_is_not_read_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("aac", rate=16_000, layout="mono") for _ in range(2)]
        for track, seconds in zip(tracks, (2, 6), strict=True):
            for first in range(0, 16_000 * seconds, 1024):
                frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frame.sample_rate, frame.pts, frame.time_base = 16_000, first, Fraction(1, 16_000)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    for number, seconds in ((0, 2), (1, 6)):
        clip = read(path, missing_video="black", audio_track=number)
        assert clip.duration_seconds == pytest.approx(seconds, abs=0.1)
        assert clip.remarks() == []


def test_a_layout_is_found_once_for_a_version_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, scans = make_video(tmp_path / "a.mkv", seconds=2, **SMALL), []
    scanned = layout._scanned

    def counted(*given: Any) -> layout.Layout:
        scans.append(given)
        return scanned(*given)

    monkeypatch.setattr(layout, "_scanned", counted)
    for _ in range(3):
        read(path, segments=1)
    assert len(scans) == 1
    make_video(path, seconds=3, **SMALL)
    assert read(path).duration_seconds == pytest.approx(3, abs=0.1)
    with pytest.raises(MediaError, match="the file ends at 3"):
        read(path, start_seconds=4)


@pytest.mark.parametrize("ending", ["ts", "mkv", "mp4", "flv", "avi"])
def test_a_disk_that_fails_is_no_end_of_a_file(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg tells it at the end, whatever it could read of the rest; nothing of it is known afterwards."""
    path = make_video(tmp_path / f"a.{ending}", seconds=4, **SMALL)
    with monkeypatch.context() as failing:
        on_a_failing_disk(path, failing, packets=30)
        with pytest.raises(MediaError, match=r"cannot be read \(Input/output error\); see whether its disk is well"):
            read(path)
    clip = read(path)
    assert clip.duration_seconds == pytest.approx(4, abs=0.15)
    assert clip.remarks() == []


def test_a_disk_that_fails_is_no_missing_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1, **SMALL)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match="cut off before its index"):
        read(path)
    opened = Path.open

    class Failing:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def read(self, count: int) -> bytes:
            if count > 100:
                raise OSError(errno.EIO, "Input/output error")
            return bytes(self.file.read(count))

    monkeypatch.setattr(Path, "open", lambda self, *given: Failing(opened(self, *given)))
    with pytest.raises(MediaError, match=r"cannot be read \(Input/output error\)"):
        read(path)


def test_where_ffmpeg_cannot_go_on_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Ogg with Vorbis of one kind after another: the second half was lost without a word."""
    path = make_video(tmp_path / "a.mkv", seconds=4, **SMALL)
    error = av.error.PatchWelcomeError(1, "Not yet implemented", str(path))
    on_a_failing_disk(path, monkeypatch, 50, error)
    for _ in range(2):
        (remark,) = [one for one in read(path).remarks() if "cannot go on" in one]
        assert re.match(
            r"The file is read up to [12]\.\d s, where FFmpeg cannot go on \(Not yet implemented\); what follows",
            remark,
        )
    monkeypatch.undo()
    assert read(path).remarks() == []
