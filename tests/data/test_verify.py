"""Verifying a data set: each fault is found, and named in a report for people and for programs."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avpea import data
from avpea.data.cache import SampleCache
from avpea.data.verify import verify
from avpea.labels import Annotations, EventCounts, EventLabels, EventSample
from tests.data.data_factory import write_ave
from tests.media_factory import make_video
from tests.tiny import section

SMALL: dict[str, Any] = {"fps": 5, "size": (32, 32), "audio_hz": 16_000}


def read(root: Path, segments: int = 4) -> Annotations:
    return data.read(section("data", "ave", root=str(root), segments=segments))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """The small set of `write_ave` with all its videos, four seconds long."""
    write_ave(tmp_path)
    for sample in read(tmp_path).samples:
        sample.video.parent.mkdir(exist_ok=True)
        if not sample.video.exists():
            make_video(sample.video, seconds=4, **SMALL)
    return tmp_path


def test_a_good_set(good: Path) -> None:
    report = verify(read(good), workers=0, progress=False)
    assert report.ok
    assert report.videos == 4
    train = report.splits["train"]
    assert isinstance(train, EventCounts)
    assert (train.samples, train.available, train.seconds, train.background_seconds) == (3, 3, 12, 7)
    assert train.rows == {"Frying (food)": 1, "Male speech, man speaking": 1, "Bark": 1}
    assert train.event_seconds["Frying (food)"] == 3
    assert report.repeated == ("twice",)
    assert report.overlaps == {}
    assert report.unlabelled["test"] == ("Frying (food)", "Bark")
    assert report.extra == ()
    text = "\n".join(report.lines())
    assert "4 videos, 3 classes" in text
    assert "train: 3 samples (3 with a video that opens), 12 seconds, 58.3% of them background." in text
    assert "Every annotated video is there and opens." in text
    assert "Rows without length" in text


def test_every_fault_is_found(good: Path) -> None:
    videos = good / "AVE"
    (videos / "-a.b.mp4").unlink()
    make_video(videos / "-a.b.mp4", seconds=1, **SMALL)
    (videos / "twice.mp4").write_bytes(b"no video")
    make_video(videos / "valid.mp4", seconds=4, fps=5, size=(32, 32), audio_hz=None)
    (videos / "--t.mp4").unlink()
    make_video(videos / "other.mp4", seconds=1, **SMALL)
    report = verify(read(good), workers=0, progress=False)
    assert not report.ok
    assert report.missing == (str(videos / "--t.mp4"),)
    assert list(report.broken) == [str(videos / "twice.mp4")]
    assert report.no_audio == (str(videos / "valid.mp4"),)
    assert list(report.too_short) == [str(videos / "-a.b.mp4")]
    assert "annotated to 3 s" in report.too_short[str(videos / "-a.b.mp4")]
    assert report.extra == (str(videos / "other.mp4"),)
    assert report.splits["train"].available == 1
    text = "\n".join(report.lines())
    for sentence in (
        "Missing: 1 (",
        "Broken: 1 (",
        "Without sound: 1 (",
        "Shorter than annotated: 1 (",
        "not annotated",
    ):
        assert sentence in text
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False


def test_no_picture_and_padding(good: Path) -> None:
    make_video(good / "AVE" / "valid.mp4", seconds=4, fps=None, audio_hz=16_000)
    make_video(good / "AVE" / "--t.mp4", seconds=2, **SMALL)
    report = verify(read(good), workers=0, progress=False)
    assert report.no_video == (str(good / "AVE" / "valid.mp4"),)
    assert report.padded == (str(good / "AVE" / "--t.mp4"),)
    assert report.too_short == {}


def test_damage_inside_a_file_needs_decoding(good: Path) -> None:
    path = good / "AVE" / "--t.mp4"
    make_video(path, seconds=4, fps=5, size=(32, 32), audio_hz=16_000, mux_options={"movflags": "faststart"})
    content = path.read_bytes()
    start = content.index(b"mdat") + 4
    path.write_bytes(content[:start] + bytes(len(content) - start))
    assert verify(read(good), workers=0, progress=False).ok
    report = verify(read(good), decode=True, workers=0, progress=False)
    assert list(report.broken) == [str(path)]
    assert report.decoded


def test_a_file_cut_off_needs_decoding(good: Path) -> None:
    path = good / "AVE" / "--t.mp4"
    make_video(path, seconds=4, **SMALL, keep=0.5, mux_options={"movflags": "faststart"})
    assert verify(read(good), workers=0, progress=False).ok
    report = verify(read(good), decode=True, workers=0, progress=False)
    assert "decodes only to" in report.broken[str(path)]


def test_a_good_set_decodes(good: Path) -> None:
    report = verify(read(good), decode=True, workers=0, progress=False)
    assert report.ok
    assert "Every annotated video is there and decodes to its end." in report.lines()


def test_official_annotations_without_videos(shared_data: Path) -> None:
    annotations = data.read(section("data", "ave", root=str(shared_data / "annotations" / "AVE")))
    report = verify(annotations, workers=0, progress=False)
    assert len(report.missing) == report.videos == 4097
    assert {pair: len(ids) for pair, ids in report.overlaps.items()} == {"train/val": 10, "train/test": 8}
    assert any(line.startswith("Missing: 4097 (") and "and 4092 more" in line for line in report.lines())


def test_a_set_of_captions(tiny_captions: Path) -> None:
    report = verify(data.read(section("data", "valor32k", root=str(tiny_captions))), workers=0, progress=False)
    assert report.ok
    assert "5 captions of 14.0 words on average about 5 videos (5 that open)." in "\n".join(report.lines())


def test_decoding_finds_what_training_leaves_out(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = good / "AVE"
    sound: dict[str, Any] = {"audio_codec": "pcm_f32le", "audio_layout": "mono", "sound": lambda t: t * math.nan}
    (folder / "valid.mp4").unlink()
    make_video(folder / "valid.mkv", seconds=4, **{**SMALL, **sound})  # nothing but NaN
    (folder / "--t.mp4").unlink()
    sound["sound"] = lambda t: np.where(t < 1, np.nan, 0.1)
    make_video(folder / "--t.mkv", seconds=4, **{**SMALL, **sound})
    joined = make_video(good / "one.ts", seconds=2, **SMALL).read_bytes() * 2
    (folder / "-a.b.mp4").unlink()
    (folder / "-a.b.ts").write_bytes(joined)
    assert verify(read(good), workers=0, progress=False).broken == {}
    report = verify(read(good), decode=True, workers=0, progress=False)
    cache = SampleCache(section("data", "ave", cache=str(good / "cache"), workers=0), section("audio"), 16)
    filled = cache.fill(read(good).samples, progress=False)
    assert list(report.broken) == [str(folder / "valid.mkv")]
    assert list(filled.broken) == ["val-0000-valid"]
    assert "all of its sound is NaN" in filled.broken["val-0000-valid"]
    assert {Path(name).name for name in report.repaired} == {"--t.mkv", "-a.b.ts"}
    assert list(filled.repaired) == ["train-0000--a_b", "test-0000---t"]
    assert "1.0 s of the sound are NaN" in filled.repaired["test-0000---t"]
    assert filled.told()[0].startswith("1 sample is left out, such as")
    assert "--data.missing_audio silence" in filled.told()[0]


def test_one_of_a_kind_is_told_as_one(good: Path) -> None:
    (good / "AVE" / "other.mp4").symlink_to(good / "AVE" / "valid.mp4")
    report = verify(read(good), workers=0, progress=False)
    found = dataclasses.replace(
        report, videos=1, classes=1, lost=("a",), padded=("b",), unlabelled={"val": ("dog",)}, repaired={}
    )
    text = "\n".join(found.lines())
    assert ": 1 video, 1 class." in text
    assert "Remark: 1 annotation labels no second, and is lost to training:" in text
    assert "Remark: val has no event of 1 class: dog." in text
    assert "Remark: shorter than the window: 1 file; what is missing is silence" in text
    assert f"Remark: not annotated: 1 video ({good / 'AVE' / 'other.mp4'})." in text


def test_seconds_after_the_end_of_a_video_are_told_where_they_are_scored(good: Path, tmp_path: Path) -> None:
    """As AVE's protocol does; a manifest leaves them out, and a tenth of a second is none."""
    make_video(good / "AVE" / "valid.mp4", seconds=3, **SMALL)
    make_video(good / "AVE" / "--t.mp4", seconds=3.95, **SMALL)
    annotations = read(good)
    report = verify(annotations, workers=0, progress=False)
    assert report.past_end == (str(good / "AVE" / "valid.mp4"),)
    said = "their missing seconds are trained on and scored as background"
    assert any(f"1 file is shorter than the window: {said}" in line for line in report.lines())
    cache = SampleCache(section("data", "ave", cache=str(tmp_path / "cache"), workers=0), section("audio"), 16)
    (line,) = cache.fill(annotations.samples, progress=False).told()
    assert line.startswith("1 video is shorter than the window, such as ")
    assert f"valid.mp4 ends at 3.0 s; 1 of 4 segments are padding: {said}" in line
    table = good / "own.csv"
    table.write_text("video,start_seconds,end_seconds,label,split\nAVE/valid.mp4,0,2,bark,train\n")
    own = data.read(section("data", "manifest", root=str(table), segments=4))
    assert verify(own, workers=0, progress=False).past_end == ()
    assert cache.fill(own.samples, progress=False).told() == []


def test_what_may_be_missing_is_no_fault(good: Path) -> None:
    make_video(good / "AVE" / "valid.mp4", seconds=4, fps=5, size=(32, 32), audio_hz=None)
    config = section("data", "ave", missing_audio="silence")
    for decode in (False, True):
        report = verify(read(good), decode=decode, workers=0, progress=False, config=config)
        assert report.ok
        assert any("Remark: silence for 1 file without sound: " in line for line in report.lines())
    assert not verify(read(good), workers=0, progress=False).ok


def test_a_file_need_not_have_what_is_not_used_of_it(tmp_path: Path) -> None:
    """Neither a mute video with the sound of another file, nor a file of sound alone."""
    mute = make_video(tmp_path / "mute.mp4", seconds=2, fps=5, size=(32, 32), audio_hz=None)
    sound = make_video(tmp_path / "sound.wav", seconds=2, fps=None, audio_hz=16_000, audio_codec="pcm_s16le")

    def found(sound: Path, decode: bool, **options: Any) -> Any:
        one = EventSample("a", "a", mute, 0.0, 2, "train", labels=(0, 0), sound=sound)
        annotations = Annotations("a", tmp_path, EventLabels(("a",)), {"train": (one,), "val": (), "test": ()})
        return verify(annotations, decode, workers=0, progress=False, config=section("data", "ave", **options))

    for decode in (False, True):
        for options in ({}, {"audio_track": 0, "video_track": 0}):
            report = found(sound, decode, **options)
            assert report.ok, report.lines()
            assert (report.no_audio, report.no_video, report.splits["train"].available) == ((), (), 1)
        report = found(mute, decode)
        assert not report.ok
        assert report.no_audio == (str(mute),)
    assert found(tmp_path / "gone.wav", decode=False).splits["train"].available == 0


def test_a_folder_that_cannot_be_listed_is_named(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = read(good)

    def refusing(_: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refusing)
    report = verify(annotations, workers=0, progress=False)
    assert report.unreadable == (f"{good / 'AVE'} cannot be listed: Permission denied",)
