"""A table of one's own with lanes: several events at once, windows, and every wrong row."""

from pathlib import Path
from typing import Any

import pytest

from avpea import data
from avpea.errors import DataError
from tests.media_factory import make_video
from tests.tiny import section

COLUMNS = "video,start_seconds,end_seconds,label,lane,split\n"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, seconds in (("two", 2), ("five", 5)):
        make_video(folder / f"{name}.mp4", seconds=seconds, fps=5, size=(32, 32), audio_hz=16_000)
    return folder


def read(path: Path, text: str, segments: int = 3) -> Any:  # annotations with lanes
    path.write_text(text, encoding="utf-8")
    return data.read(section("data", "lanes", root=str(path), segments=segments))


def test_events_overlap_and_none_outweighs_another(videos: Path) -> None:
    rows = "five.mp4,0,3,dog,both,train\nfive.mp4,1.2,4,bell,heard,train\nfive.mp4,0.4,2,cat,seen,train\n"
    found = read(videos / "a.csv", f"{COLUMNS}{rows}two.mp4,,,,,val\n")
    assert found.labels.names == ("bell", "cat", "dog")
    first, second = found.splits["train"]
    assert first.seen == ((1, 2), (1, 2), (2,))
    assert first.heard == ((2,), (0, 2), (0, 2))
    assert first.classes == (0, 1, 2)
    assert (second.start_seconds, second.seen, second.heard) == (2.0, ((2,), (), ()), ((0, 2), (0,), ()))
    (quiet,) = found.splits["val"]
    assert (quiet.classes, quiet.seen, quiet.heard, quiet.padding) == ((), ((), (), ()), ((), (), ()), 1)
    assert found.lost == ()


def test_without_lanes_events_are_seen_and_heard(videos: Path) -> None:
    found = read(videos / "b.csv", "video,start_seconds,end_seconds,label\nfive.mp4,0,2,dog\nfive.mp4,1,3,bell\n")
    (first, _) = found.splits["train"]
    assert first.seen == first.heard == ((1,), (0, 1), (0,))
    assert "No column 'lane': every event is taken as seen and heard." in found.notes
    assert found.division is not None


def test_events_that_label_nothing_are_told(videos: Path) -> None:
    rows = "five.mp4,0.8,1.3,dog,seen,train\nfive.mp4,7,8,bell,heard,train\nfive.mp4,0,1,cat,both,train\n"
    found = read(videos / "c.csv", COLUMNS + rows)
    assert [one.partition(" s ")[2] for one in found.lost] == [
        "covers less than half of each second that it touches",
        "begins after the end of the video (5.0 s)",
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("five.mp4,0,2,dog,smelt,train", r"line 2: found the lane 'smelt'; expected seen, heard or both"),
        ("five.mp4,0,2,dog,,train", r"found the lane ''; expected seen, heard or both"),
        ("five.mp4,,,,seen,train", r"found the lane 'seen'; expected .* none without an event"),
        ("five.mp4,3,2,dog,seen,train", r"starts at 3 s and ends at 2 s; expected start < end"),
    ],
)
def test_a_wrong_row_is_named(row: str, said: str, videos: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(videos / "wrong.csv", f"{COLUMNS}{row}\n")


def test_a_lane_is_in_every_event_or_in_none(videos: Path) -> None:
    """A video without events needs none."""
    rows = [
        '{"video": "five.mp4", "start_seconds": 0, "end_seconds": 2, "label": "dog", "lane": "seen"}',
        '{"video": "two.mp4"}',
        '{"video": "five.mp4", "start_seconds": 1, "end_seconds": 3, "label": "bell"}',
    ]
    with pytest.raises(DataError, match=r"line 3: found no lane; expected seen, heard or both in every event or in"):
        read(videos / "some.jsonl", "\n".join(rows))
    with pytest.raises(DataError, match=r"line 1: found no lane"):
        read(videos / "some.jsonl", "\n".join(reversed(rows)))
    assert len(read(videos / "all.jsonl", "\n".join(rows[:2])).samples) == 3
    assert len(read(videos / "none.jsonl", "\n".join(rows[1:])).samples) == 3


def test_a_table_with_lanes_is_none_of_plain_events(videos: Path) -> None:
    (videos / "d.csv").write_text(f"{COLUMNS}five.mp4,0,2,dog,seen,train\n")
    with pytest.raises(DataError, match="no column is called 'lane'"):
        data.read(section("data", "manifest", root=str(videos / "d.csv")))
