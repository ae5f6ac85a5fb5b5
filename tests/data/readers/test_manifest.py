"""A manifest of one's own videos: windows, labels by second, default splits, and every wrong row."""

import json
from pathlib import Path
from typing import Any

import pytest

from avpea import data
from avpea.data.readers._divide import by_hash
from avpea.data.readers.manifest import Event, second_labels, window_starts
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
    assert "1 video is no multiple of 3 s; the last window repeats" in text


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


def test_without_splits_each_class_is_divided_and_the_old_rule_can_be_asked_for(videos: Path) -> None:
    rows = "label,video,start_seconds,end_seconds\n" + "".join(
        f"bark,{name}.mp4,0,1\n" for name in ("seven", "short", '"six, of mine"')
    ).replace('"six, of mine".mp4', '"six, of mine.mp4"')
    path = write(videos / "no-split.csv", rows)
    found = read(path)
    assert [len({s.video_id for s in found.splits[split]}) for split in ("train", "val", "test")] == [1, 1, 1]
    assert any("each class were divided 70/15/15" in note for note in found.notes)
    old = data.read(section("data", "manifest", root=str(path), segments=3, divide="by_hash"))
    assert {s.video_id: s.split for s in old.samples} == {
        name: by_hash(name) for name in ("seven.mp4", "short.mp4", "six, of mine.mp4")
    }
    assert any("80/10/10" in note for note in old.notes)


def test_labels_of_one_second_that_two_events_share(videos: Path) -> None:
    found = read(write(videos / "two.csv", COLUMNS + "seven.mp4,0,1.5,a,train\nseven.mp4,0.2,1,b,train\n"))
    assert found.splits["train"][0].labels == (0, 0, 2)
    assert (
        "1 second has two labels; the longer cover won, of equal ones the earlier row: seven.mp4 at 0 s (a, not b)."
        in found.notes
    )


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


def test_all_malformed_rows_are_named_at_once(tmp_path: Path) -> None:
    """A thousand rows are not mended one by one."""
    rows = ["a.mp4,x,2,bark,train", "b.mp4,0,1,bark,train", *[f"c{n}.mp4,2,1,bark,train" for n in range(23)]]
    path = write(tmp_path / "m.csv", COLUMNS + "\n".join(rows) + "\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert f"{path}, line 2: found start_seconds = 'x'" in str(error.value)
    assert "23 more rows are malformed: line 4, line 5, " in str(error.value)
    assert str(error.value).endswith("line 23 and 3 more.")
    objects = [{"video": 3}, {"video": "a", "label": {}}, {"video": "b"}, {"video": "a", "start_seconds": []}]
    path = write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, objects)) + "\n")
    with pytest.raises(DataError, match=r"line 1: found video = 3; .* 2 more rows are malformed: line 2, line 4\.$"):
        read(path)


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


@pytest.mark.parametrize("content", ["", "sep=;\n"])
def test_a_table_without_a_line_is_empty(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"m\.csv is empty; expected a table with the columns video, start_seconds"):
        read(write(tmp_path / "m.csv", content))


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no manifest .*none\.csv"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"ends in '\.xlsx'; expected a manifest in \.csv or \.jsonl"):
        read(write(tmp_path / "m.xlsx", "x"))
    with pytest.raises(DataError, match=r"m\.csv has no rows"):
        read(write(tmp_path / "m.csv", COLUMNS))
    with pytest.raises(DataError, match="no row with a label"):
        read(write(tmp_path / "m.csv", COLUMNS + "a.mp4,,,,train\n"))
    (tmp_path / "m.csv").write_bytes(b"video,caf\xe9")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read(tmp_path / "m.csv")


# --- what spreadsheets write, and times as people write them

EVENTS = [("seven.mp4", "0.6", "2.5", "whistle"), ("seven.mp4", "4", "6", "bark")]


def table(separator: str = ",", times: list[tuple[str, str]] | None = None, header: str = COLUMNS) -> str:
    lines = [header.strip().replace(",", separator)]
    for (video, start, end, label), (first, last) in zip(EVENTS, times or [(e[1], e[2]) for e in EVENTS], strict=True):
        del start, end
        lines.append(separator.join((video, first, last, label, "train")))
    return "\n".join(lines) + "\n"


GERMAN = [("0,6", "2,5"), ("4", "6,0")]
CLOCK = [("0:00.6", "00:00:02.5"), ("0:04", "0:00:06")]


@pytest.mark.parametrize(
    "data",
    [
        table(";", GERMAN).encode(),
        table("\t", GERMAN).encode(),
        table("|").encode(),
        table(times=CLOCK).encode(),
        table(";", [("0:00,6", "0:02,5"), CLOCK[1]]).encode(),
        ("sep=;\r\n" + table(";", GERMAN).replace("\n", "\r\n")).encode("utf-8-sig"),
        ("sep=\t\n" + table("\t", GERMAN)).encode(),
        table().encode("utf-16"),
        table().encode("utf-16-le"),
        table().encode("utf-32"),
        table().replace("\n", "\r\n").encode("utf-8-sig"),
        table().replace("\n", "\r").encode(),
        table(header="Video, Start_Seconds, End_Seconds, Label, Split").encode(),
        table().replace("\n", ",,\n").encode(),
        table().replace("whistle", '"whi\nstle"').replace("whi\nstle", "whistle").encode(),
    ],
    ids=["german", "tabs", "bars", "clock", "german clock", "excel", "excel tabs", "utf-16", "no mark", "utf-32",
         "windows", "mac", "capitals", "empty columns", "quotes"],
)  # fmt: skip
def test_tables_as_spreadsheets_write_them(videos: Path, data: bytes) -> None:
    plain, other = write(videos / "plain.csv", table()), videos / "other.csv"
    other.write_bytes(data)
    assert read(other).splits == read(plain).splits


@pytest.mark.parametrize("text", ["1,234", "2.5 s", "0:75", "1:60:00", "1:02:03:15", "-1", "nan", "½", "true"])
def test_times_that_can_be_misread_are_answered_with_the_remedy(videos: Path, text: str) -> None:
    path = write(videos / "wrong.csv", COLUMNS + f'seven.mp4,0,"{text}",bark,train\n')
    with pytest.raises(DataError, match=r"wrong\.csv, line 2: found end_seconds = .*or a time as in 1:02:03"):
        read(path)


# --- nothing is lost in silence


def test_events_that_label_no_second_are_named(videos: Path) -> None:
    rows = [
        ("seven.mp4,2.4,2.8,click", "seven.mp4: 'click' 2.4-2.8 s covers less than half of each second"),
        ("seven.mp4,2.7,3.4,clack", "seven.mp4: 'clack' 2.7-3.4 s covers less than half of each second"),
        ("seven.mp4,9,12,late", "seven.mp4: 'late' 9-12 s begins after the end of the video (7.0 s)"),
        ("seven.mp4,4,6,long", ""),
        ("seven.mp4,4.2,4.9,over", "seven.mp4: 'over' 4.2-4.9 s is outweighed by other events in each of its seconds"),
        ("seven.mp4,0.5,1,half", ""),
    ]
    found = read(write(videos / "lost.csv", COLUMNS + "".join(f"{row},train\n" for row, _ in rows)))
    expected = [reason for _, reason in rows if reason]
    assert len(found.lost) == len(expected)
    assert all(one.startswith(reason) for one, reason in zip(found.lost, expected, strict=True))
    report = verify(found, workers=0, progress=False)
    assert "Remark: 4 annotations label no second, and are lost to training:" in report.lines()
    assert report.to_dict()["lost"] == found.lost


@pytest.mark.parametrize("label", ["background", "Background ", "BACKGROUND", "b\u0430ckground", "back\u200bground"])
def test_the_models_own_category_is_reserved(videos: Path, label: str) -> None:
    path = write(videos / "reserved.csv", COLUMNS + f"seven.mp4,0,2,bark,train\nseven.mp4,3,5,{label},train\n")
    with pytest.raises(DataError, match=r"reserved\.csv, line 3: the label '.*' is reserved"):
        read(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Dog", "dog"), ("car horn", "car_horn"), ("caf\u00e9", "cafe\u0301"), ("cat", "c\u0430t")],
)
def test_classes_that_look_alike_are_named(videos: Path, one: str, other: str) -> None:
    path = write(videos / "alike.csv", COLUMNS + f"seven.mp4,0,2,{one},train\nseven.mp4,3,5,{other},train\n")
    found = read(path)
    assert len(found.labels.names) == 2
    assert any("names that look alike" in note for note in found.notes)


def test_different_classes_do_not_look_alike(videos: Path) -> None:
    rows = "".join(f"seven.mp4,{n},{n + 1},{name},train\n" for n, name in enumerate(["C", "C#", "dog", "dogs"]))
    assert not any("look alike" in note for note in read(write(videos / "other.csv", COLUMNS + rows)).notes)


def test_one_video_by_two_paths_is_one_video(videos: Path) -> None:
    (videos / "link.mp4").unlink(missing_ok=True)
    (videos / "link.mp4").symlink_to(videos / "seven.mp4")
    (videos / "sub").mkdir(exist_ok=True)
    rows = "seven.mp4,0,2,bark,train\nlink.mp4,3,5,whistle,train\nsub/../seven.mp4,5,7,bark,train\n"
    found = read(write(videos / "twice.csv", COLUMNS + rows + "seven.mp4,0,2,bark,train\n"))
    assert [s.labels for s in found.samples] == [(0, 0, 2), (1, 1, 0), (1, 0, 0)]
    assert "1 path leads to the same video as another path: link.mp4 and seven.mp4." in found.notes
    assert any(note.startswith("1 row says the same as an earlier row") for note in found.notes)
    with pytest.raises(DataError, match=r"'link\.mp4' is in test, but an earlier row has it in train as 'seven\.mp4'"):
        read(write(videos / "leak.csv", COLUMNS + "seven.mp4,0,2,bark,train\nlink.mp4,3,5,bark,test\n"))


def test_a_path_that_is_too_long_is_a_missing_video(videos: Path) -> None:
    found = read(write(videos / "long.csv", COLUMNS + f"seven.mp4,2,5,x,train\n{'q' * 300}.mp4,2,5,x,train\n"))
    report = verify(found, workers=0, progress=False)
    assert report.missing == (str(videos / f"{'q' * 300}.mp4"),)
    assert not report.broken


def test_what_is_no_segment_at_the_end_has_no_label(tmp_path: Path) -> None:
    """8.05 s are eight segments: the ninth would be padding, and no event."""
    make_video(tmp_path / "a.mp4", seconds=8.05, fps=20)
    path = write(tmp_path / "rows.csv", "video,start_seconds,end_seconds,label\na.mp4,0,8.05,bang\n")
    (sample,) = read(path, segments=10).samples
    assert sample.labels == (0,) * 8 + (1,) * 2


def test_a_table_of_predictions_is_a_manifest(videos: Path) -> None:
    rows = (
        "video,start_seconds,end_seconds,label,confidence,doubtful,error\n"
        "seven.mp4,0.0,3.0,bark,0.61,no,\n"
        "short.mp4,,,,,,\n"
    )
    found = read(write(videos / "predicted.csv", rows))
    assert found.labels.class_names == ("bark",)
    failed = write(videos / "failed.csv", rows + "bad.mp4,,,,,,bad.mp4 is broken.\n")
    with pytest.raises(DataError, match=r"line 4: bad\.mp4 could not be read when this table was written; mend it, or"):
        read(failed)
