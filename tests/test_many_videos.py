"""Many videos in one command: which are found, what is printed and written, and going on after those that fail."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from avpea.batch import Batch, Job, Outputs, find_jobs, plan
from avpea.cli import main
from avpea.errors import AvpeaError
from avpea.media.folder import media_below


@pytest.fixture
def folder(tiny_data: Path, tmp_path: Path) -> Path:
    """Three videos, one of them in a folder below and with the stem of another; one broken; and what is no video."""
    root = tmp_path / "videos"
    (root / "below" / "=deep").mkdir(parents=True)
    videos = sorted((tiny_data / "AVE").iterdir())
    shutil.copy(videos[0], root / "a.mp4")
    shutil.copy(videos[1], root / "a.MOV")
    shutil.copy(videos[2], root / "below" / "=deep" / "b.mp4")
    (root / "broken.mkv").write_bytes(b"no video")
    (root / "notes.txt").write_text("no video either")
    (root / ".hidden.mp4").write_bytes(b"")
    (root / ".trash").mkdir()
    (root / ".trash" / "c.mp4").write_bytes(b"")
    return root


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_is_its_media_files_in_order(folder: Path) -> None:
    (folder / "below" / "up").symlink_to(folder)
    (folder / "below" / "self").symlink_to(folder / "below" / "self")
    (folder / "gone.mp4").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "below" / "sound.WAV").write_bytes(b"")
    (folder / "cam.mts").write_bytes(b"")
    found = media_below(folder)
    names = [path.relative_to(folder).as_posix() for path in found.files]
    assert names == ["a.MOV", "a.mp4", "below/=deep/b.mp4", "below/sound.WAV", "broken.mkv", "cam.mts"]
    assert {path.name: reason.split(" ")[-7:-4] for path, reason in found.unreadable.items()}.keys() == {
        "gone.mp4", "pipe.mp4",
    }  # fmt: skip


def test_a_folder_by_way_of_a_link_is_searched(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "linked").symlink_to(folder / "below")
    assert [path.name for path in media_below(tmp_path / "other").files] == ["b.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_listed_is_one_line(folder: Path) -> None:
    (folder / "below").chmod(0)
    try:
        found = media_below(folder)
    finally:
        (folder / "below").chmod(0o755)
    assert [path.name for path in found.files] == ["a.MOV", "a.mp4", "broken.mkv"]
    assert "cannot be listed" in found.unreadable[folder / "below"]


def test_a_name_that_is_no_utf8(folder: Path) -> None:
    strange = os.fsdecode(os.fsencode(folder) + b"/bad\xff.mp4")
    try:
        Path(strange).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert Path(strange) in media_below(folder).files


def test_results_never_meet(folder: Path, tmp_path: Path) -> None:
    jobs, out = find_jobs([folder, folder / "a.mp4"]), tmp_path / "out"
    assert len(jobs) == 4
    where = [some["srt"] for some in plan(jobs, Outputs(formats=("srt",), out=out)).by_format]
    assert [path.relative_to(out).as_posix() for path in where] == [
        "a.MOV.srt", "a.mp4.srt", "below/=deep/b.srt", "broken.srt",
    ]  # fmt: skip
    beside = plan(jobs, Outputs(formats=("csv",))).by_format
    assert beside[2]["csv"] == folder / "below" / "=deep" / "b.csv"
    two = find_jobs([folder / "below", folder])
    assert two[0].inside.as_posix() == "below/=deep/b.mp4"


def test_a_file_is_not_written_twice(folder: Path, tmp_path: Path) -> None:
    """A table of one video's answers has the name that a table of all may have been given."""
    jobs, picture = [Job(folder / "a.mp4", Path("a.mp4"))], tmp_path / "a.png"
    (tmp_path / "linked").symlink_to(folder)
    for table in (folder / "a.csv", folder / "below" / ".." / "A.csv", tmp_path / "linked" / "a.csv"):
        with pytest.raises(
            AvpeaError, match=r"[aA]\.csv would be written twice, with different things; choose another"
        ):
            plan(jobs, Outputs(formats=("csv",), csv=table, overwrite=True))
    for drawn in (Outputs(csv=picture, plot=picture), Outputs(csv=picture, plots=tmp_path)):
        with pytest.raises(AvpeaError, match=r"a\.png would be written twice"):
            plan(jobs, drawn)
    plan(jobs, Outputs(formats=("csv",), csv=tmp_path / "a.csv", plot=picture))
    (tmp_path / "a.csv").touch()
    with pytest.raises(
        AvpeaError, match=r"a\.csv exists; --overwrite replaces what exists, and --csv names another table"
    ):
        plan(jobs, Outputs(csv=tmp_path / "a.csv"))


def test_a_picture_replaces_one_of_before_but_no_video(tmp_path: Path) -> None:
    photo, before = tmp_path / "photo.png", tmp_path / "before.png"
    photo.touch()
    before.touch()
    jobs = [Job(photo, Path("photo.png"))]
    with pytest.raises(
        AvpeaError, match=r"photo\.png is one of the videos, and would be replaced; choose another place"
    ):
        plan(jobs, Outputs(plot=photo, overwrite=True))
    assert plan(jobs, Outputs(plot=before)).plots == [before]


def test_what_exists_is_refused_before_anything_is_done(folder: Path) -> None:
    jobs = find_jobs([folder])
    (folder / "broken.vtt").write_text("mine")
    with pytest.raises(AvpeaError, match=r"broken\.vtt exists; --overwrite"):
        plan(jobs, Outputs(formats=("vtt",)))
    plan(jobs, Outputs(formats=("vtt",), overwrite=True))
    with pytest.raises(AvpeaError, match=r"a\.mp4 is one of the videos"):
        plan(jobs, Outputs(csv=folder / "a.mp4", overwrite=True))


def test_json_lines_and_a_table_with_failures(
    tiny_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "new" / "events.csv", tmp_path / "out"
    words = ["predict", str(tiny_run), str(folder), "--json", "--csv", str(table), "--out", str(out), "--quiet"]
    formats = [word for name in ("vtt", "srt", "audacity", "elan", "csv") for word in ("--format", name)]
    assert main([*words, *formats]) == 1
    printed = capsys.readouterr()
    found = lines(printed.out)
    assert [Path(one["video"]).name for one in found] == ["a.MOV", "a.mp4", "b.mp4", "broken.mkv"]
    assert found[3].keys() == {"video", "error"}
    assert "broken.mkv" in found[3]["error"]
    assert printed.err.splitlines()[-1] == "avpea: 3 of 4 videos done, 1 failed."

    rows = read_table(table)
    assert {"video", "start_seconds", "end_seconds", "label", "confidence", "error"} <= rows[0].keys()
    for one in found:
        of_it = [row for row in rows if row["video"] == one["video"]]
        events = [(row["label"], float(row["start_seconds"])) for row in of_it if row["label"]]
        assert events == [(event["label"], event["start_seconds"]) for event in one.get("events", ())]
        assert len(of_it) == max(1, len(events))
    assert rows[-1]["error"]
    assert not any(rows[-1][name] for name in ("start_seconds", "label", "confidence"))
    assert all(not row["error"] for row in rows[:-1])

    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert [name for name in written if name.startswith("below")] == [
        f"below/=deep/b{ending}" for ending in (".csv", ".eaf", ".srt", ".txt", ".vtt")
    ]
    assert len(written) == 15
    texts = [v.text for v in ET.parse(out / "below" / "=deep" / "b.eaf").getroot().iter("ANNOTATION_VALUE")]
    assert texts == [event["label"] for event in found[2]["events"]]
    assert main([*words, *formats]) == 1  # nothing is replaced unasked
    assert "16 files exist" in capsys.readouterr().err


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse whatever makes a file longer, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_room_ends_a_table_ends_with_all_rows_of_a_video(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, new = tmp_path / "events.csv", tmp_path / "new.csv"
    words = ["predict", str(tiny_run), str(tiny_data / "AVE"), "--json", "--quiet", "--csv"]
    assert main([*words, str(table)]) == 0
    rows = table.read_bytes().splitlines(keepends=True)
    videos = [row.split(b",")[0] for row in rows]
    wanted = [b"".join(rows[:end]) for end in range(1, len(rows)) if videos[end - 1] != videos[end]]
    for cut in (1, 5):  # inside of this row
        with largest_file(len(b"".join(rows[: cut + 1])) - 2):
            assert main([*words, str(table), "--overwrite"]) == 1
        assert table.read_bytes() in wanted
        assert f"{table} cannot be written (File too large)" in capsys.readouterr().err
    with largest_file(10):
        assert main([*words, str(new)]) == 1
    assert not new.exists()


def test_where_room_ends_json_ends_with_a_whole_line(
    tiny_run: Path, tiny_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(tiny_run), *map(str, sorted((tiny_data / "AVE").iterdir())[:3]), "--json", "--quiet"]
    assert main(words) == 0
    answers = capfd.readouterr().out
    with largest_file(len(answers) - 2):
        assert main(words) == 1
    assert capfd.readouterr().out == "".join(answers.splitlines(keepends=True)[:-1])


def test_the_only_video_fails_as_it_always_did(
    tiny_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tiny_run), str(folder / "broken.mkv")]) == 1
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert main(["predict", str(tiny_run), str(folder / "broken.mkv"), "--json"]) == 1
    assert lines(capsys.readouterr().out)[0].keys() == {"video", "error"}


def test_an_empty_folder_is_told(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(tiny_run), str(tmp_path / "empty")]) == 1
    assert "There is no media file in" in capsys.readouterr().err


def test_pictures_of_several_videos_go_to_a_folder(
    tiny_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [str(folder / "a.mp4"), str(folder / "a.MOV")]
    assert main(["predict", str(tiny_run), *two, "--plot", str(tmp_path / "t.png")]) == 1
    assert "name a folder" in capsys.readouterr().err
    assert main(["predict", str(tiny_run), *two, "--plot", str(tmp_path / "pictures"), "--quiet"]) == 0
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a.MOV.png", "a.mp4.png"]


def test_attention_of_one_video_is_drawn_and_told(
    tiny_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "attention.png"
    assert main(["predict", str(tiny_run), str(folder / "a.mp4"), "--attention", str(picture), "--second", "1"]) == 0
    assert f"Attention at 1 s: {picture}" in capsys.readouterr().err
    assert picture.stat().st_size > 1000
    assert main(["predict", str(tiny_run), str(folder), "--attention", str(picture)]) == 1
    assert "--attention draws one video" in capsys.readouterr().err


def test_any_error_is_one_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Task:
        columns, stretches = ("label",), ""

    class Model:
        task = Task()

    class Predictor:
        model, info = (
            Model(),
            types.SimpleNamespace(experiment=types.SimpleNamespace(task=types.SimpleNamespace(name=""))),
        )

    def answer_of(video: Path) -> Any:
        raise RuntimeError("out of memory" if video.name == "a.mp4" else "odd")

    told: list[str] = []
    batch = Batch(Predictor(), find_jobs([folder]), Outputs())
    with pytest.raises(AvpeaError, match="0 of 4 videos done, 4 failed"):
        list(batch.run(answer_of, print, lambda _, error: told.append(str(error)), False))
    assert "RuntimeError: out of memory" in told[1]


def test_answers_without_times_are_refused_as_subtitles_and_have_a_table(
    tiny_asked_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["ask", str(tiny_asked_run), str(tiny_data / "AVE"), "Is the red ever seen", "--quiet"]
    with pytest.raises(SystemExit):
        main([*asked, "--format", "vtt"])
    capsys.readouterr()
    assert main([*asked, "--csv", str(tmp_path / "answers.csv")]) == 0
    rows = read_table(tmp_path / "answers.csv")
    assert len(rows) == len(list((tiny_data / "AVE").iterdir()))
    assert {row["question"] for row in rows} == {"Is the red ever seen"}
    assert all(row["answer"] in ("green", "no", "yes", "red") and 0 < float(row["probability"]) <= 1 for row in rows)


@pytest.mark.slow
def test_ctrl_c_leaves_whole_lines_and_files(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    video = min((tiny_data / "AVE").iterdir())
    for number in range(400):
        (tmp_path / f"v{number:03}.mp4").symlink_to(video)
    table, out = tmp_path / "t.csv", tmp_path / "out"
    code = "import sys; from avpea.cli import main; sys.exit(main())"
    words = [
        "predict",
        str(tiny_run),
        str(tmp_path),
        "--json",
        "--csv",
        str(table),
        "--format",
        "elan",
        "--out",
        str(out),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()  # lines come as they are made
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=120)
    assert process.returncode == 130
    found = lines((first + rest).decode())
    assert 0 < len(found) < 400
    assert b"videos done, 0 failed" in said
    files = sorted(out.iterdir())
    assert len(found) <= len(files) <= len(found) + 1
    assert all(ET.parse(path).getroot().tag == "ANNOTATION_DOCUMENT" for path in files)
    text = table.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert len({len(row) for row in csv.reader(text.splitlines())}) == 1


def test_names_that_some_systems_take_for_one_are_refused(tmp_path: Path) -> None:
    """Whichever differ in capitals, or in how Unicode writes an accent."""
    for one, other in (("a.mp4", "A.mp4"), ("\u00e9.mp4", "e\u0301.mp4")):
        jobs = [Job(tmp_path / name, Path(name)) for name in (one, other)]
        with pytest.raises(AvpeaError, match="Two videos would both be written to"):
            plan(jobs, Outputs(formats=("srt",), out=tmp_path / "out"))
