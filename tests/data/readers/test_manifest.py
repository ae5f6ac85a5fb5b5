"""A manifest of one's own videos: windows, labels by second, default splits, and every wrong row."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from avpea import data
from avpea.data.readers.manifest import Event, default_split, second_labels, window_starts
from avpea.data.verify import verify
from avpea.errors import DataError
from tests.media_factory import make_video
from tests.tiny import section

COLUMNS = "video,start_seconds,end_seconds,label,split\n"


def read(path: Path, segments: int = 3) -> Any:  # annotations of events
    return data.read(section("data", "manifest", root=str(path), segments=segments))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 2, 6 and 7 seconds."""
    folder = tmp_path_factory.mktemp("videos")
    for name, seconds in (("short", 2), ("six, of mine", 6), ("seven", 7)):
        make_video(folder / f"{name}.mp4", seconds=seconds, fps=5, size=(32, 32), audio_hz=16_000)
    return folder


# --- windows and labels


def test_windows_events_and_notes(videos: Path) -> None:
    path = write(
        videos / "mine.csv",
        COLUMNS
        + '"six, of mine.mp4",0.6,2.4,whistle,train\n'
        + '"six, of mine.mp4",4,6,bark,train\n'
        + "\n"
        + "seven.mp4,6.4,7,bark,val\n"
        + "short.mp4,,,,test\n",
    )
    found = read(path)
    assert (found.name, found.labels.names, found.labels.background) == ("mine", ("bark", "whistle"), 2)
    assert [(s.start_seconds, s.labels) for s in found.splits["train"]] == [
        (0.0, (2, 1, 2)),
        (3.0, (2, 0, 0)),
    ]
    windows = [(s.start_seconds, s.labels) for s in found.splits["val"]]
    assert windows == [(0.0, (2, 2, 2)), (3.0, (2, 2, 2)), (4.0, (2, 2, 0))]
    assert [(s.start_seconds, s.labels) for s in found.splits["test"]] == [(0.0, (2, 2, 2))]
    assert found.splits["train"][0].video == videos / "six, of mine.mp4"
    assert found.splits["train"][1].key == "train-0000-six__of_mine-00003"
    assert verify(found, workers=0).padded == (str(videos / "short.mp4"),)
    text = " ".join(found.notes)
    assert "1 videos are no multiple of 3 s; their last window repeats" in text


def test_json_lines_say_the_same_as_csv(videos: Path) -> None:
    rows = [
        {"video": "seven.mp4", "start_seconds": 1, "end_seconds": 2.5, "label": "bark", "split": "train"},
        {"video": "short.mp4", "label": None, "split": "val"},
    ]
    lines = write(videos / "same.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n")
    table = write(videos / "same.csv", COLUMNS + "seven.mp4,1,2.5,bark,train\nshort.mp4,,,,val\n")
    assert read(lines) == read(table)


def test_missing_and_broken_videos_are_kept_and_reported(videos: Path) -> None:
    write(videos / "text.mp4", "no video")
    found = read(
        write(
            videos / "gone.csv",
            COLUMNS + "gone.mp4,0,4,bark,train\ntext.mp4,,,,val\nshort.mp4,0,9,bark,val\n",
        )
    )
    assert [s.labels for s in found.splits["train"]] == [(0, 0, 0), (0, 0, 0)]
    assert len(found.splits["val"]) == 2
    report = verify(found, workers=0)
    assert report.missing == (str(videos / "gone.mp4"),)
    assert list(report.broken) == [str(videos / "text.mp4")]
    assert any("short.mp4 (9 s annotated, 2" in note for note in found.notes)


def test_default_split_is_deterministic_and_noted(videos: Path) -> None:
    found = read(write(videos / "no-split.csv", "label,video,start_seconds,end_seconds\nbark,seven.mp4,0,1\n"))
    assert len(found.splits[default_split("seven.mp4")]) == 3
    assert any("80/10/10" in note for note in found.notes)
    shares = Counter(default_split(f"video-{number}.mp4") for number in range(5000))
    assert 3900 < shares["train"] < 4100
    assert 420 < shares["val"] < 580
    assert 420 < shares["test"] < 580


def test_labels_of_one_second_that_two_events_share(videos: Path) -> None:
    found = read(write(videos / "two.csv", COLUMNS + "seven.mp4,0,1.5,a,train\nseven.mp4,0.2,1,b,train\n"))
    assert found.splits["train"][0].labels == (0, 0, 2)
    assert "1 seconds have two labels; the longer cover won: seven.mp4 at 0 s." in found.notes


@pytest.mark.parametrize(
    ("events", "second", "duration", "labels"),
    [
        ([Event("a", 0.0, 0.5)], 0, 10, ["a"]),
        ([Event("a", 0.0, 0.49)], 0, 10, []),
        ([Event("a", 0.3, 0.3 + 0.1 + 0.4)], 0, 10, ["a"]),
        ([Event("a", 0.0, 0.3), Event("a", 0.6, 0.9)], 0, 10, ["a"]),
        ([Event("a", 0.0, 0.3), Event("a", 0.1, 0.4)], 0, 10, []),
        ([Event("a", 0.0, 0.6), Event("b", 0.2, 1.0)], 0, 10, ["b", "a"]),
        ([Event("b", 0.0, 1.0), Event("a", 0.0, 1.0)], 0, 10, ["b", "a"]),
        ([Event("a", 0.0, 9.0)], 9, 10, []),
        ([Event("a", 0.0, 9.3)], 9, 9.4, ["a"]),
        ([Event("a", 0.0, 20.0)], 12, 10, []),
    ],
)
def test_second_labels(events: list[Event], second: int, duration: float, labels: list[str]) -> None:
    assert second_labels(events, second, duration) == labels


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(1, [0]), (10, [0]), (11, [0, 1]), (20, [0, 10]), (25, [0, 10, 15]), (29, [0, 10, 19])],
)
def test_window_starts(seconds: int, starts: list[int]) -> None:
    assert window_starts(seconds, 10) == starts


# --- errors


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("a.mp4,x,2,bark,train", "found start_seconds = 'x'; expected seconds"),
        ("a.mp4,-1,2,bark,train", "found start_seconds = '-1'"),
        ("a.mp4,0,inf,bark,train", "found end_seconds = 'inf'"),
        ("a.mp4,2,2,bark,train", "starts at 2 s and ends at 2 s; expected start < end"),
        ("a.mp4,0,,bark,train", "found label 'bark', start 0 and end ''; expected all three"),
        ("a.mp4,0,2,,train", "found label '', start 0 and end 2"),
        (",0,2,bark,train", "the video is empty"),
        ("a.mp4,0,2,bark,dev", "found the split 'dev'; expected train, val or test"),
        ("a.mp4,0,2,bark", "found 4 fields; expected 5"),
        ("a, b.mp4,0,2,bark,train", "found 6 fields; expected 5"),
        ('"a.mp4,0,2,bark,train', "not CSV"),
        ("./seven.mp4,0,2,bark,val", "'./seven.mp4' is in val, but an earlier row has it in train"),
    ],
)
def test_malformed_csv_row_names_file_and_line(tmp_path: Path, row: str, found: str) -> None:
    path = write(tmp_path / "m.csv", f"{COLUMNS}seven.mp4,0,1,bark,train\n{row}\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert f"{path}, line 3: " in str(error.value)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "not JSON"),
        ("[1]", "found list; expected an object"),
        ('{"vidoe": "a"}', "no column is called 'vidoe'. Did you mean 'video'?"),
        ('{"label": "a"}', "no column 'video'"),
        ('{"video": 3}', "found video = 3; expected text"),
        (
            '{"video": "a", "label": "b", "start_seconds": true, "end_seconds": 3}',
            "found start_seconds = True",
        ),
        ('{"video": "a", "split": "train"}', "in every row or in none"),
    ],
)
def test_malformed_json_line_names_file_and_line(tmp_path: Path, line: str, found: str) -> None:
    path = write(tmp_path / "m.jsonl", '{"video": "b.mp4"}\n\n' + line + "\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert f"{path}, line 3: " in str(error.value)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("video,start_seconds,end_seconds,lable", "no column is called 'lable'. Did you mean 'label'?"),
        (
            "video,start_seconds,label",
            "no column 'end_seconds'; expected video, start_seconds, end_seconds, label",
        ),
        ("video,video,start_seconds,end_seconds,label", "the column 'video' is there twice"),
    ],
)
def test_wrong_header(tmp_path: Path, header: str, found: str) -> None:
    path = write(tmp_path / "m.csv", header + "\na.mp4,0,1,b\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert f"{path}, line 1: {found}" in str(error.value)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no manifest .*none\.csv"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"ends in '\.xlsx'; expected a manifest in \.csv or \.jsonl"):
        read(write(tmp_path / "m.xlsx", "x"))
    with pytest.raises(DataError, match=r"m\.csv has no rows"):
        read(write(tmp_path / "m.csv", COLUMNS))
    with pytest.raises(DataError, match="no row with a label"):
        read(write(tmp_path / "m.csv", COLUMNS + "a.mp4,,,,train\n"))
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read(tmp_path / "m.csv")
