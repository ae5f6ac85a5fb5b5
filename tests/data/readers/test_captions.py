"""A table of one's own captions, in both formats; bad rows by their messages."""

from pathlib import Path
from typing import Any

import pytest

from avpea.data import read
from avpea.errors import DataError
from tests.tiny import section


def load(path: Path, text: str, **options: Any) -> Any:
    path.write_text(text, encoding="utf-8")
    return read(section("data", "captions", root=str(path), **options))


def test_csv_with_several_captions_of_a_video(tmp_path: Path) -> None:
    text = 'video,caption,split\na/x.mp4,"A dog, barking",train\n./a/x.mp4,Again  a dog.,train\ny.mp4,Nothing.,test\n'
    found = load(tmp_path / "mine.csv", text, segments=4, seconds="every")
    (sample,) = found.splits["train"]
    assert sample.captions == ("A dog, barking", "Again a dog.")
    assert (sample.video, sample.segments, sample.seconds) == (tmp_path / "a" / "x.mp4", 4, "every")
    assert [s.key for s in found.splits["test"]] == ["test-00001-y"]
    assert found.notes == ()


def test_json_lines_without_splits(tmp_path: Path) -> None:
    text = "".join(f'{{"video": "{n}.mp4", "caption": "number {n}"}}\n' for n in range(100))
    found = load(tmp_path / "mine.jsonl", text)
    counts = [len(found.splits[split]) for split in ("train", "val", "test")]
    assert sum(counts) == 100
    assert counts[0] > 65
    assert "80/10/10" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,text\na,b\n", r"line 1: no column is called 'text'"),
        ("video\na\n", r"line 1: no column 'caption'; expected video, caption, split"),
        ("video,caption\n", r"has no rows"),
        ("video,caption\na.mp4,\n", r"line 2: found video 'a.mp4' and caption ''; expected both"),
        ("video,caption\nb.mp4,words\na.mp4,. . .\n", r"line 3: the caption '\. \. \.' has no words"),
        ("video,caption,split\na.mp4,x,training\n", r"line 2: found the split 'training'; expected train, val or test"),
        (
            "video,caption\na.mp4,\nb.mp4,x\nc.mp4,!\n",
            r"line 2: found video 'a.mp4'.* 1 more row is malformed: line 4\.$",
        ),
        ("video,caption,split\na.mp4,,train\nb.mp4,x,dev\n", r"line 2: found video 'a.mp4'.* malformed: line 3\.$"),
        (
            "video,caption,split\na.mp4,x,train\na.mp4,y,test\n",
            r"line 3: 'a.mp4' is in test, but an earlier row",
        ),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path / "mine.csv", text)


def test_a_table_with_semicolons_and_a_caption_of_two_lines(tmp_path: Path) -> None:
    text = 'video;caption;split\nx.mp4;"A dog;\nbarking, loud";train\n./x.mp4;A dog;train\n'
    found = load(tmp_path / "mine.csv", text)
    (sample,) = found.samples
    assert sample.captions == ("A dog; barking, loud", "A dog")


def test_a_caption_that_is_there_twice_and_a_video_by_two_paths(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"x")
    (tmp_path / "y.mp4").symlink_to("x.mp4")
    found = load(tmp_path / "mine.csv", "video,caption,split\nx.mp4,A dog.,train\ny.mp4,A dog.,train\n")
    assert [(s.video_id, s.captions) for s in found.samples] == [("x.mp4", ("A dog.", "A dog."))]
    assert "1 caption is there twice" in found.notes[0]
