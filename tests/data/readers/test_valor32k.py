"""VALOR-32K's files in both forms: by their counts, by hand, bad ones by their messages."""

import json
from pathlib import Path
from typing import Any

import pytest

from avpea.data import read
from avpea.errors import DataError
from tests.tiny import section


def load(root: Path, **options: Any) -> Any:
    return read(section("data", "valor32k", root=str(root), **options))


def write(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_official_files(shared_data: Path) -> None:
    found = load(shared_data / "annotations" / "VALOR-32K")
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 0, "val": 2823, "test": 3491}
    first = found.splits["test"][0]
    assert (first.video_id, first.video.name) == ("CEfOX4fYlsY_20.000_30.000", "CEfOX4fYlsY_20.000_30.000.mp4")
    assert first.captions == ("In one room, a yellow bird leaped over the fence. The sound of his mouth ringing.",)
    assert "There is no file of train captions." in found.notes
    assert found.sources["test"].startswith("descs_cap_test.json, 3491 captions of 3491 videos, sha256 ")


def test_ave_mini(shared_data: Path) -> None:
    found = load(shared_data / "ave-mini")
    assert [len(found.splits[split]) for split in ("train", "val", "test")] == [392, 84, 112]
    assert all(sample.video.is_file() for sample in found.samples)


def test_ids_apart_from_captions(tmp_path: Path) -> None:
    write(tmp_path / "train_id.json", ["a", "b"])
    write(tmp_path / "test_id.json", ["c"])
    write(tmp_path / "txt_mapper.json", {"a": "one", "b": ["two", "three  words "], "c": "four", "d": "unused"})
    found = load(tmp_path, segments=4, seconds="linspace")
    assert [(s.video_id, s.captions) for s in found.splits["train"]] == [("a", ("one",)), ("b", ("two", "three words"))]
    assert (found.splits["test"][0].segments, found.splits["test"][0].seconds) == (4, "linspace")


def test_a_folder_of_sounds_hides_no_video(tmp_path: Path) -> None:
    """Whatever the folders are called."""
    write(tmp_path / "desc_test.json", [{"video_id": name, "desc": "x"} for name in ("a", "b", "c")])
    for place in ("audio/a.wav", "video/a.mp4", "a.flac", "videos/b.wav", "z/b.MKV", "audio/c.wav"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    found = load(tmp_path)
    places = [sample.video.relative_to(tmp_path).as_posix() for sample in found.splits["test"]]
    assert places == ["video/a.mp4", "z/b.MKV", "audio/c.wav"]
    assert not any("files that differ" in note for note in found.notes)


def test_differing_files_of_a_video_are_named(tmp_path: Path) -> None:
    write(tmp_path / "desc_test.json", [{"video_id": name, "desc": "x"} for name in ("a", "b", "c", "d")])
    contents = {"raw/a.mp4": b"1", "trimmed/a.mp4": b"2", "raw/b.mp4": b"1", "trimmed/b.mp4": b"1", "raw/c.mp4": b"1"}
    for place, content in contents.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(content)
    (tmp_path / "trimmed" / "c.mp4").symlink_to(tmp_path / "raw" / "c.mp4")
    found = load(tmp_path)
    assert found.splits["test"][0].video == tmp_path / "raw" / "a.mp4"
    assert [note for note in found.notes if "files that differ" in note] == [
        "1 video id has several files that differ: raw/a.mp4 and trimmed/a.mp4, of which the first is read. Move those "
        "away that are not meant."
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"expected a list of captions"),
        ([], r"expected a list of captions"),
        ([3], r"caption 1: found 3; expected an object"),
        ([{"desc": "x"}], r"caption 1: found the video_id None; expected a file name"),
        ([{"video_id": "a/b", "desc": "x"}], r"found the video_id 'a/b'"),
        ([{"video_id": "a", "desc": " "}], r"found the caption ' '; expected text"),
        ([{"video_id": "a", "desc": "x"}, {"video_id": "b"}], r"caption 2: found the caption None"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, values: Any, message: str) -> None:
    write(tmp_path / "desc_train.json", values)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_broken_files_say_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"There are no captions in .* or .*captions or .*annotations; expected desc_train"
    ):
        load(tmp_path)
    (tmp_path / "desc_train.json").write_text("[{]", encoding="utf-8")
    with pytest.raises(DataError, match=r"desc_train.json, line 1, column 3: not JSON"):
        load(tmp_path)
    (tmp_path / "desc_train.json").unlink()
    write(tmp_path / "train_id.json", ["a", "b"])
    write(tmp_path / "txt_mapper_en.json", {"a": "one"})
    with pytest.raises(DataError, match=r"lists 1 video without a caption in txt_mapper_en.json, such as 'b'"):
        load(tmp_path)
