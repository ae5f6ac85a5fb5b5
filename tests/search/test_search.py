"""A library of indexed videos: what is found, what is indexed anew, who may write, and what is refused."""

import io
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from avpea.checkpoint import fingerprint_of
from avpea.errors import AvpeaError, CheckpointError, NoAudioTrack, WeightsError
from avpea.predict import load
from avpea.search import Library, Query, _query, _windows, index, search
from avpea.search._candidates import BEFORE, COMPARED, Candidates, together
from avpea.search._index import IndexReport, _with_ray, _Worker
from avpea.search._query import spread_over
from avpea.search._shown import SHOWN, shown, unpacked_shown
from avpea.search._windows import FileState, embedded, rows_of
from avpea.tensors import read_tensors, write_tensors
from tests.media_factory import make_video, number_of, on_a_failing_disk
from tests.tiny import coloured_video

pytest.importorskip("lancedb")
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def own_thumbnails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def filled(place: Path, tiny_captions: Path) -> Path:
    """Three short videos and one of eight seconds."""
    (place / "below").mkdir(parents=True)
    for name in ("g4", "r4"):
        shutil.copy(tiny_captions / "videos" / f"{name}.mp4", place / f"{name}.mp4")
    shutil.copy(tiny_captions / "videos" / "r5.mp4", place / "below" / "it's here.mp4")
    coloured_video(place / "long.mp4", "green", 4, 8, seconds=8)
    (place / "notes.txt").write_text("no video")
    return place


def indexed(folder: Path, run: Path) -> str:
    """A library beside a folder that `filled` made."""
    place = str(folder.parent / "library")
    report = index(run, folder, place, progress=False)
    assert (report.indexed, report.unchanged, report.removed, report.windows) == (4, 0, 0, 6)
    return place


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, tiny_captions: Path) -> Path:
    """The folder of `filled`. Read only."""
    return filled(tmp_path_factory.mktemp("filled") / "videos", tiny_captions)


@pytest.fixture(scope="module")
def kept(videos: Path, tiny_matched_run: Path) -> str:
    """Its library. Read only."""
    return indexed(videos, tiny_matched_run)


@pytest.fixture
def folder(tmp_path: Path, tiny_captions: Path) -> Path:
    """A folder of one's own."""
    return filled(tmp_path / "videos", tiny_captions)


@pytest.fixture
def library(folder: Path, tiny_matched_run: Path) -> str:
    """Its library."""
    return indexed(folder, tiny_matched_run)


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory, tiny_captions: Path, tiny_matched_run: Path) -> Path:
    """A library of one short video, to be copied."""
    place = tmp_path_factory.mktemp("smallest")
    (place / "videos").mkdir()
    shutil.copy(tiny_captions / "videos" / "g4.mp4", place / "videos")
    index(tiny_matched_run, place / "videos", str(place / "library"), progress=False)
    return place / "library"


def test_vectors_that_are_no_numbers_are_not_kept(
    tmp_path: Path, tiny_captions: Path, tiny_matched_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a run whose numbers overflow: the file is told, and nothing of it is in the library."""
    from avpea.search import _windows

    def broken(*given: Any, **tracks: Any) -> Any:
        for window in embedded(*given, **tracks):
            assert window.seen is not None
            with torch.inference_mode():
                window.seen.tokens[0, 0, 0] = float("nan")
            yield window

    monkeypatch.setattr(_windows, "embedded", broken)
    (tmp_path / "videos").mkdir()
    shutil.copy(tiny_captions / "videos" / "g4.mp4", tmp_path / "videos")
    report = index(tiny_matched_run, tmp_path / "videos", str(tmp_path / "library"), progress=False)
    (reason,) = report.broken.values()
    assert (report.indexed, report.windows) == (0, 0)
    assert "the run's vectors of the window that begins at 0 s are no finite numbers" in reason


@pytest.fixture
def small(tmp_path: Path, smallest: Path) -> str:
    """A library of one short video."""
    return str(shutil.copytree(smallest, tmp_path / "library"))


def test_windows_of_a_long_video(videos: Path, tiny_matched_run: Path) -> None:
    found = list(embedded(load(tiny_matched_run), videos / "long.mp4"))
    assert [(one.start_seconds, round(one.end_seconds)) for one in found] == [(0, 3), (3, 6), (5, 8)]
    assert all(one.seen is not None and one.seen.tokens.shape == (1, 3, 512) for one in found)


def test_stretches_of_a_very_long_video_are_the_same(
    videos: Path, tiny_matched_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = load(tiny_matched_run)
    whole = list(embedded(predictor, videos / "long.mp4"))
    monkeypatch.setattr("avpea.media.film.PART_SECONDS", 3)
    parts = list(embedded(predictor, videos / "long.mp4"))
    assert [one.start_seconds for one in parts] == [one.start_seconds for one in whole]
    for one, other in zip(parts, whole, strict=True):
        assert one.seen is not None
        assert other.seen is not None
        torch.testing.assert_close(one.seen.tokens, other.seen.tokens, rtol=0, atol=1e-5)


def candidates(rows: list[dict[str, Any]]) -> Candidates:
    import pyarrow as pa

    values = [{"_rowid": number, COMPARED: row[COMPARED]} for number, row in enumerate(rows)]
    return Candidates.of(
        pa.Table.from_pylist(values, schema=pa.schema({"_rowid": pa.uint64(), COMPARED: pa.binary()})), 512
    )


@pytest.mark.parametrize("ending", ["ts", "avi", "mp4", "mkv"])
def test_thumbnails_are_the_middles_of_windows_in_one_pass_where_reading_a_part_is_reading_all_before(
    ending: str, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(tmp_path / f"a.{ending}", seconds=8, size=(640, 360), audio_hz=16_000)
    reads = []
    whole: Any = vars(_windows)["read"]

    def counted(*given: Any, **more: Any) -> Any:
        reads.append(given)
        return whole(*given, **more)

    monkeypatch.setattr(_windows, "read", counted)
    rows = rows_of(load(tiny_matched_run), video)
    assert len(reads) == (0 if ending in ("ts", "avi") else 3)
    pictures = [Image.open(io.BytesIO(row["thumbnail"])) for row in rows]
    assert [one.size for one in pictures] == 3 * [(320, 180)]
    assert [number_of(np.asarray(one)) for one in pictures] == pytest.approx([15, 45, 65], abs=1)


def test_no_score_is_above_1(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens are kept as float16, whose rounding may make them longer than 1."""
    monkeypatch.setattr(_query, "ranked", lambda found, *_: ([1.0003, 0.5, -1.0003], [0, 1, 2]))
    assert [one.score for one in Query(kept).text("a green light")] == [1.0, 0.5, -1.0]


def test_a_row_holds_what_was_computed(videos: Path, tiny_matched_run: Path) -> None:
    predictor = load(tiny_matched_run)
    (window,), (row,) = list(embedded(predictor, videos / "g4.mp4")), rows_of(predictor, videos / "g4.mp4")
    for by in ("both", "picture", "sound"):
        embeddings = window.embeddings(by)
        assert embeddings is not None
        found = candidates([row]).embeddings(by)
        assert F.cosine_similarity(found.tokens, embeddings.tokens, dim=-1).min() > 0.995
        torch.testing.assert_close(found.weights, embeddings.weights)
    assert row["thumbnail"].startswith(b"\xff\xd8")


def test_windows_of_several_lengths_are_embedded_at_once(videos: Path, tiny_matched_run: Path) -> None:
    predictor = load(tiny_matched_run)
    rows = [row for name in ("g4.mp4", "long.mp4") for row in rows_of(predictor, videos / name)]
    rows[1][COMPARED] = together(rows[1]["tokens"], rows[1]["scores"], 0)
    for by in ("both", "picture", "sound"):
        every = candidates(rows).embeddings(by)
        for place, row in enumerate(rows):
            alone, there = candidates([row]).embeddings(by), every.mask[place]
            torch.testing.assert_close(every.tokens[place][there], alone.tokens[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(every.scores[place][there], alone.scores[0])
            assert not every.tokens[place][~there].any()


@torch.no_grad()
def test_search_ranks_as_the_model_does(kept: str) -> None:
    query = Query(kept)
    task = query.task
    text = task.head.read(task.head.text.sentences(["a green light"]))
    for by, group in (("both", "tva"), ("picture", "tv"), ("sound", "ta")):
        found = query.text("A green light!", by=by)
        assert len(found) == 6
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            (window,) = [w for w in embedded(query.predictor, Path(one.file)) if w.start_seconds == one.start_seconds]
            embeddings = window.embeddings(by)
            assert embeddings is not None, group
            assert one.score == pytest.approx(float(text.similarity(embeddings)), abs=0.01)  # five bits a number


def test_a_clip_finds_itself(kept: str, videos: Path) -> None:
    for by in ("both", "picture", "sound"):
        best = search(kept, example=videos / "r4.mp4", by=by, top=1)[0]
        assert best.score == pytest.approx(1.0, abs=2e-3)
    assert best.thumbnail is not None
    assert Path(best.thumbnail).read_bytes().startswith(b"\xff\xd8")


def test_without_a_place_for_thumbnails_all_else_is_answered(
    kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = Query(kept)
    with_them = query.text("a green light")
    shutil.rmtree(tmp_path / "home")
    (tmp_path / "home").write_text("no folder")
    without = query.text("a green light")
    assert without == [replace(one, thumbnail=None) for one in with_them]
    said = capsys.readouterr().err
    assert said.count("avpea: there are no thumbnails: ") == 1
    assert str(tmp_path / "home") in said


def test_only_what_is_new_or_changed_is_read(library: str, folder: Path, tiny_matched_run: Path) -> None:
    again = index(tiny_matched_run, folder, library, progress=False)
    assert (again.indexed, again.unchanged, again.removed, again.windows) == (0, 4, 0, 6)
    coloured_video(folder / "long.mp4", "red", 0, 2, seconds=4)  # shorter than it was
    (folder / "r4.mp4").unlink()
    coloured_video(folder / "new.mkv", "red", 0, 2)
    after = index(tiny_matched_run, folder, library, progress=False)
    assert (after.indexed, after.unchanged, after.removed) == (2, 2, 1)
    assert after.windows == len(Library(library)) == 1 + 1 + 2 + 1
    assert not any("r4.mp4" in one.file for one in search(library, "a red light", top=50))


def test_another_folder_keeps_the_first_ones_files(library: str, tiny_matched_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "videos2"  # whose name begins like the other's
    other.mkdir()
    coloured_video(other / "a.mp4", "red", 0, 2)
    report = index(tiny_matched_run, other, library, progress=False)
    assert (report.indexed, report.removed, report.windows) == (1, 0, 7)


def test_missing_tracks_and_broken_files(library: str, folder: Path, tiny_matched_run: Path) -> None:
    make_video(folder / "silent.mp4", seconds=3, fps=10, size=(48, 48), audio_hz=None)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video at all")
    report = index(tiny_matched_run, folder, library, progress=False)
    assert report.indexed == 1
    assert {Path(name).name for name in report.broken} == {"empty.mp4", "text.mp4"}
    assert json.loads(json.dumps(report.to_dict()))["windows"] == 7
    assert not any("silent" in one.file for one in search(library, "a light", by="sound", top=50))
    assert any("silent" in one.file for one in search(library, "a light", by="picture", top=50))
    with pytest.raises(AvpeaError, match=r"silent.mp4 has no sound, so there is nothing to search by"):
        search(library, example=folder / "silent.mp4", by="sound")


def test_what_is_refused(
    kept: str, videos: Path, tiny_captioned: Make, tiny_run: Path, tiny_matched_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(AvpeaError, match=r"There is no library .*nowhere; `avpea index RUN FOLDER --library"):
        search(str(tmp_path / "nowhere"), "a light")
    with pytest.raises(AvpeaError, match=r"is no library; `avpea index"):
        search(str(videos), "a light")
    with pytest.raises(AvpeaError, match="one of the two"):
        search(kept)
    with pytest.raises(AvpeaError, match="has no words"):
        search(kept, "?!")
    with pytest.raises(AvpeaError, match="task is 'avel', which compares no texts with videos"):
        index(tiny_run, videos, str(tmp_path / "other"), progress=False)
    with pytest.raises(AvpeaError, match="top is 0; expected 1 or more"):
        search(kept, "a light", top=0)
    with pytest.raises(AvpeaError, match="workers is -1"):
        index(tiny_matched_run, videos, kept, workers=-1, progress=False)
    with pytest.raises(AvpeaError, match="There is no folder"):
        index(tiny_matched_run, tmp_path / "none", kept, progress=False)
    from avpea.train import train

    another = train(tiny_captioned("avr", **{"train.seed": 1, "train.epochs": 1}), tmp_path / "run", progress=False).run
    with pytest.raises(AvpeaError, match=r"was made by .* is another model .* Index into another library"):
        index(another, videos, kept, progress=False)
    with pytest.raises(AvpeaError, match="is another model"):
        search(kept, "a light", run=another)


def test_a_run_that_moved_is_asked_for(tiny_matched_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_matched_run, moved)
    place = str(tmp_path / "second")
    (tmp_path / "few").mkdir()
    coloured_video(tmp_path / "few" / "a.mp4", "red", 0, 2)
    index(moved, tmp_path / "few", place, progress=False)
    shutil.rmtree(moved)
    with pytest.raises(AvpeaError, match=r"is not there; say where with --run"):
        search(place, "a light")
    assert len(search(place, "a light", run=tiny_matched_run)) == 1


def test_a_strangers_library_opens_no_run(
    kept: str, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [one.to_dict() for one in search(kept, "a light")]
    assert Library(kept).own
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "of-another-user"))
    assert not Library(kept).own
    with pytest.raises(AvpeaError, match=r"says that '.*' made it, but it is not a library of yours; .* --run RUN, or"):
        search(kept, "a light")
    assert [one.to_dict() for one in search(kept, "a light", run=tiny_matched_run)] == found
    assert [one.to_dict() for one in search(kept, "a light", trust=True)] == found


def test_a_library_that_names_a_hub_repository_asks_nobody(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_: object) -> None:
        raise AssertionError("the hub is asked")

    monkeypatch.setattr("avpea.sharing.fetch", called)
    rewrite(small, run="owner/name")
    with pytest.raises(AvpeaError, match="'owner/name' made it, but it is not a library of yours"):
        search(small, "a light")


def rewrite(library: str, text: str = "", **changes: Any) -> None:
    import lancedb

    table = lancedb.connect(library).open_table("about")
    about = json.loads(table.search().limit(1).to_list()[0]["json"])
    table.update(values={"json": text or json.dumps({**about, **changes})})


@pytest.mark.parametrize(
    ("text", "changes", "reason"),
    [
        ("null", {}, "has format None"), ("[]", {}, "has format None"), ("{", {}, "not JSON"),
        ("[" * 5000, {}, "more than 50 levels"), ("", {"format": "other"}, "has format 'other'"),
        ("", {"model": None}, "has the model None"), ("", {"run": 5}, "has the run 5"),
        ("", {"width": "512"}, "has the width '512'"), ("", {"width": 10**30}, "less than"),
        ("", {"segments": True}, "has the segments True"), ("", {"tracks": [1]}, r"has the tracks \[1\]"),
        ("", {"tracks": {"audio_track": "1"}}, "has the tracks"),
    ],
)  # fmt: skip
def test_a_description_that_is_none_is_refused(
    text: str, changes: dict[str, Any], reason: str, small: str, tiny_matched_run: Path
) -> None:
    rewrite(small, text, **changes)
    with pytest.raises(AvpeaError, match=reason) as error:
        search(small, "a light", run=tiny_matched_run)
    assert str(error.value).startswith(small)


SIX = 6 * [0.5]  # scores


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({COMPARED: b"abc"}, "no vectors"), ({COMPARED: b""}, "no vectors"), ({COMPARED: "NULL"}, "no compared"),
        ({COMPARED: together(bytes(6 * 322), SIX, 7)}, "7 frames of 6"),
        ({COMPARED: together(bytes(6 * 322 - 1), SIX, 3)}, "no vectors"),
        ({COMPARED: together(b"\xff\x7f" * 966, SIX, 3)}, "no numbers"),
        ({COMPARED: together(bytes(6 * 322), [*SIX[:5], float("nan")], 3)}, "no numbers"),
        ({SHOWN: b""}, "no file"), ({SHOWN: shown("a", 0, 1, b"")[:-1]}, "no file"),
        ({SHOWN: shown("a", 0, 1, b"")[:-1] + b"\xff"}, "no file"), ({SHOWN: shown("a", math.nan, 1, b"")}, "no time"),
    ],
)  # fmt: skip
def test_windows_that_are_none_are_refused(values: dict[str, Any], reason: str, small: str) -> None:
    refused(small, values, reason)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"tokens": b"abc"}, "no vectors"), ({"tokens": b""}, "no vectors"),
        ({"frames": -1}, "-1 frames"), ({"frames": 99}, "99 frames"), ({"scores": "NULL"}, "no scores"),
        ({"tokens": b"\xff\xff" * 3072}, "no numbers"), ({"tokens": b"\xff\x7f" * 966}, "no numbers"),
        ({"start": "CAST('NaN' AS DOUBLE)"}, "no time"),
    ],
)  # fmt: skip
def test_windows_of_an_earlier_version_that_are_none_are_refused(
    values: dict[str, Any], reason: str, small: str
) -> None:
    as_before(small)
    refused(small, values, reason)


def as_before(library: str) -> None:
    """Make a library one of an earlier version, with a column each for all that is read of a window."""
    import lancedb
    import pyarrow as pa

    base = lancedb.connect(library)
    table = base.open_table("windows").search().with_row_id(True).to_arrow()
    found = Candidates.of(table, 512)
    scores = pa.ListArray.from_arrays([0, *found.counts.cumsum().tolist()], pa.array(found.scores))
    columns = pa.array(found.tokens, pa.binary()), scores, pa.array(found.frames, pa.int32())
    thumbnails = pa.array([unpacked_shown(one)["thumbnail"] for one in table[SHOWN].to_pylist()], pa.binary())
    table = table.drop_columns([COMPARED, SHOWN, "_rowid"])
    for name, column in zip([*BEFORE, "thumbnail"], [*columns, thumbnails], strict=True):
        table = table.append_column(name, column)
    base.create_table("windows", table, mode="overwrite")


def test_a_library_of_an_earlier_version_is_searched_and_goes_on(
    library: str, folder: Path, tiny_matched_run: Path
) -> None:
    answers = [search(library, "a green light", by=by) for by in ("both", "picture", "sound")]
    as_before(library)
    assert [search(library, "a green light", by=by) for by in ("both", "picture", "sound")] == answers
    (folder / "g4.mp4").touch()  # is read again
    assert index(tiny_matched_run, folder, library, progress=False).indexed == 1
    assert not {COMPARED, SHOWN} & {*Library(library)._windows.schema.names}
    assert search(library, "a green light") == answers[0]


def refused(library: str, values: dict[str, Any], reason: str) -> None:
    import lancedb

    table = lancedb.connect(library).open_table("windows")
    if any(isinstance(value, str) for value in values.values()):
        table.update(values_sql=values)  # lancedb 0.34 knows no NaN as a value
    else:
        table.update(values=values)
    with pytest.raises(AvpeaError, match=f"is damaged: a window has .*{reason}"):
        search(library, "a light")
    lancedb.connect(library).drop_table("windows")
    with pytest.raises(AvpeaError, match="has no windows"):
        search(library, "a light")


def test_a_folder_without_videos_is_refused_and_removes_nothing(
    library: str, folder: Path, tiny_matched_run: Path, tmp_path: Path
) -> None:
    for path in folder.rglob("*.mp4"):
        path.unlink()  # as if the disk were not there
    with pytest.raises(AvpeaError, match=r"There is no video or sound in .*videos\. 1 file without .* \(\.txt\)"):
        index(tiny_matched_run, folder, library, progress=False)
    assert len(Library(library)) == 6


def test_one_bad_entry_is_named_and_the_others_are_indexed(
    library: str, folder: Path, tiny_matched_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / "g4.mp4", folder / "cam.ts")
    shutil.copy(folder / "g4.mp4", folder / "cam.MTS")
    make_video(folder / "sound.ogg", seconds=2, fps=None, audio_codec="libopus", audio_hz=48_000)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "below" / "up").symlink_to(folder)
    shutil.copy(folder / "g4.mp4", os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4"))
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name == "below":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = index(tiny_matched_run, folder, library, progress=False)
    assert (report.indexed, report.unchanged, report.removed) == (3, 3, 0)  # the file in `below` is kept
    names = {Path(name).name: reason for name, reason in report.broken.items()}
    assert names.keys() == {"pipe.mp4", "loop.mp4", "below", "caf\udce9.mp4"}
    assert "its name is not UTF-8" in names["caf\udce9.mp4"]
    assert "Permission denied" in names["below"]
    assert report.remarks == ["1 file without the ending of a video or sound left out (.txt)."]


def test_any_error_is_one_files(
    folder: Path, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [RuntimeError("a kernel\nfailed"), WeightsError("Gone.")]

    def failing(*given: Any, **tracks: Any) -> Any:
        if errors:
            raise errors.pop()
        return rows_of(*given, **tracks)

    monkeypatch.setattr("avpea.search._index.rows_of", failing)
    report = index(tiny_matched_run, folder, str(tmp_path / "library"), progress=False)
    assert report.indexed == 2
    own, other = sorted(report.broken.values(), key=len)
    assert own == "Gone."
    assert "mp4: RuntimeError: a kernel failed This is no fault of yours; index a folder with this file" in other


def test_a_file_whose_disk_fails_is_indexed_by_the_next_run_and_what_one_lacks_is_told(
    tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, library = tmp_path / "videos", str(tmp_path / "library")
    folder.mkdir()
    whole, cut = (coloured_video(folder / f"{name}.mkv", "green", 4, 8, seconds=8) for name in ("whole", "cut"))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with monkeypatch.context() as failing:
        on_a_failing_disk(whole, failing, packets=30)
        report = index(tiny_matched_run, folder, library, progress=False)
    assert (report.indexed, list(report.broken)) == (1, [str(whole)])
    assert "cannot be read (Input/output error)" in report.broken[str(whole)]
    (remark,) = report.remarks
    assert remark.startswith(f"{cut}: The file declares 8.0 s, of which ")
    assert remark in report.lines()
    assert index(tiny_matched_run, folder, library, progress=False).indexed == 1
    assert max(end for _, end in spans(library, "whole.mkv")) == pytest.approx(8, abs=0.1)


def test_workers_that_fail_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    data, errors = pytest.importorskip("ray.data"), pytest.importorskip("ray.exceptions")

    class Items:
        def map_batches(self, *_: Any, **__: Any) -> "Items":
            return self

        def iter_rows(self) -> Any:
            yield {"source": "a.mp4", "outcome": "indexed", "remarks": '["It is short."]'}
            raise errors.RayError("A traceback\nactor died")

    monkeypatch.setattr(data, "from_items", lambda *_, **__: Items())
    into: Any = SimpleNamespace(place="library", about={})
    report, files = IndexReport("library"), [FileState("a.mp4", 1, 1), FileState("b.mp4", 1, 1)]
    with pytest.raises(
        AvpeaError, match=r"^Ray's workers failed \(actor died\); what is indexed is kept, and the same"
    ):
        _with_ray(into, files, report, 2, {}, 0.0, run="run")
    assert (report.indexed, report.remarks) == (1, ["a.mp4: It is short."])


def test_a_worker_elsewhere_writes_into_the_same_library_and_with_no_other_model(
    smallest: Path, videos: Path, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, given = pytest.importorskip("ray.data"), {}
    monkeypatch.setattr("avpea.search._index.open_for_good", lambda limits: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)

    class Items:
        def map_batches(self, worker: Any, *, fn_constructor_kwargs: dict[str, Any], **_: Any) -> "Items":
            given.update(fn_constructor_kwargs)
            return self

        def iter_rows(self) -> Any:
            return iter(())

    monkeypatch.setattr(data, "from_items", lambda *_, **__: Items())
    shutil.copytree(smallest, tmp_path / "library")
    shutil.copytree(tiny_matched_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    state = FileState.of(videos / "g4.mp4")
    _with_ray(Library("library"), [state], IndexReport("library"), 1, {}, 0.0, run="run", device="cpu")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    worker = _Worker(**given)
    worker({"source": [state.source], "size": [state.size], "modified": [state.modified]})
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(Library(str(tmp_path / "library"))) == 2
    changed(tmp_path / "run")
    with pytest.raises(AvpeaError, match=r"is another model .*; vectors of two models cannot be compared"):
        _Worker(**given)
    shutil.rmtree(tmp_path / "library")
    with pytest.raises(AvpeaError, match="There is no library"):
        _Worker(**given)


def changed(run: Path) -> None:
    """Write other weights into a run, as training does after an epoch."""
    file = run / "model.safetensors"
    found = read_tensors(file)
    write_tensors(file, {name: value + 1 for name, value in found.tensors.items()}, found.metadata, signed=True)


def test_a_library_is_named_after_the_model_that_made_it(
    videos: Path, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training may write another epoch after the model was loaded, or while the folder is indexed."""
    run, library = shutil.copytree(tiny_matched_run, tmp_path / "run"), str(tmp_path / "library")

    def loaded(*given: Any, **more: Any) -> Any:
        predictor = load(*given, **more)
        changed(run)
        return predictor

    monkeypatch.setattr("avpea.search._index.load", loaded)
    with pytest.raises(CheckpointError, match="has been written anew since it was loaded, as by a training"):
        index(run, videos / "below", library, progress=False)
    assert not (tmp_path / "library").exists()
    monkeypatch.undo()
    model = load(run).info
    assert model.model == fingerprint_of(run)
    index(run, videos / "below", library, progress=False)
    changed(run)
    assert Library(library).about["model"] == model.model != fingerprint_of(run)
    with pytest.raises(AvpeaError, match="is another model"):
        Query(library)


def test_a_sentence_that_the_model_cannot_read_is_refused_or_told(
    kept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    query = Query(kept)
    for sentence in ("🐕🐕", "🐕, 🚂!"):
        with pytest.raises(AvpeaError, match="The model knows nothing of the sentence"):
            query.text(sentence)
    query.text("a green light")
    assert capsys.readouterr().err == ""
    query.text("a green 🐕")
    assert "the model does not know these words of the sentence: 🐕" in capsys.readouterr().err
    query.text("green " * 100 + "light")
    told = capsys.readouterr().err
    assert "the model does not read more of the sentence than" in told
    assert told.rstrip().endswith("what follows is left out: green green green green green …")


def test_what_is_compared_has_a_name(kept: str, videos: Path) -> None:
    for given in ({"text": "a green light"}, {"example": videos / "g4.mp4"}):
        with pytest.raises(AvpeaError, match=r"^by is 'smell'; expected both, picture, sound\.$"):
            search(kept, **given, by="smell")


def test_another_track_is_another_library(videos: Path, tiny_matched_run: Path, kept: str, tmp_path: Path) -> None:
    with pytest.raises(AvpeaError, match="holds the default tracks of its files, but audio_track 0 is to be indexed"):
        index(tiny_matched_run, videos, kept, audio_track=0, progress=False)
    report = index(tiny_matched_run, videos, str(tmp_path / "other"), audio_track=1, progress=False)
    assert len(report.broken) == 4
    assert "audio_track is 1; expected 0 to 0" in next(iter(report.broken.values()))


def test_an_example_is_read_with_the_tracks_of_the_library(
    videos: Path, tiny_matched_run: Path, kept: str, tmp_path: Path
) -> None:
    folder, library = tmp_path / "videos", str(tmp_path / "second")
    folder.mkdir()
    video = make_video(folder / "two.mp4", seconds=3, audio_tracks=2, tone_hz=900)
    index(tiny_matched_run, folder, library, audio_track=1, progress=False)
    query = Query(library)
    first, second = (
        [window.heard for window in embedded(query.predictor, video, audio_track=track) if window.heard is not None]
        for track in (0, 1)
    )
    found = query.example(video, by="sound")
    assert found == query._find(second, "sound", 10)
    assert found != query._find(first, "sound", 10)
    with pytest.raises(
        NoAudioTrack, match=r"audio_track is 1; expected 0 to 0, .* The library .* is of audio_track 1 of"
    ):
        query.example(videos / "g4.mp4")


def test_what_was_read_is_kept_when_indexing_is_interrupted(
    folder: Path, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return rows_of(*arguments)

    monkeypatch.setattr("avpea.search._index.rows_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index(tiny_matched_run, folder, str(tmp_path / "library"), progress=False)
    monkeypatch.undo()
    report = index(tiny_matched_run, folder, str(tmp_path / "library"), progress=False)
    assert (report.indexed, report.unchanged, report.windows) == (2, 2, 6)


@torch.no_grad()
def test_a_window_of_fewer_tokens_scores_as_it_does_alone(folder: Path, tiny_matched_run: Path, tmp_path: Path) -> None:
    make_video(folder / "sound.ogg", seconds=3, fps=None, audio_codec="libopus", audio_hz=48_000)
    place = str(tmp_path / "library")
    index(tiny_matched_run, folder, place, progress=False)
    query = Query(place)
    text = query.task.head.read(query.task.head.text.sentences(["a green light"]))
    (window,) = embedded(query.predictor, folder / "sound.ogg")
    assert window.heard is not None
    alone = float(text.similarity(window.heard))
    (found,) = [one for one in query.text("A green light!") if one.file.endswith("sound.ogg")]
    assert found.score == pytest.approx(alone, abs=0.005)


def spans(library: str, name: str) -> list[tuple[float, float]]:
    found = search(library, "a green light", top=100)
    return sorted((one.start_seconds, round(one.end_seconds)) for one in found if one.file.endswith(name))


def test_windows_of_a_version_that_a_kill_left_are_removed_by_the_next_run(
    library: str, folder: Path, tiny_matched_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured_video(folder / "long.mp4", "red", 0, 2, seconds=4)  # shorter than it was

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Library, "_delete", killed)
        with pytest.raises(KeyboardInterrupt):
            index(tiny_matched_run, folder, library, progress=False)
    assert spans(library, "long.mp4") == [(0, 3), (1, 4), (3, 6), (5, 8)]
    assert index(tiny_matched_run, folder, library, progress=False).unchanged == 4
    assert spans(library, "long.mp4") == [(0, 3), (1, 4)]


def test_a_file_that_changed_and_cannot_be_read_is_found_no_more(
    library: str, folder: Path, tiny_matched_run: Path
) -> None:
    (folder / "long.mp4").write_bytes(b"no video")
    report = index(tiny_matched_run, folder, library, progress=False)
    assert list(report.broken) == [str(folder / "long.mp4")]
    assert report.remarks[-1] == "The windows that 1 file of these had before were removed."
    assert spans(library, "long.mp4") == []
    assert index(tiny_matched_run, folder, library, progress=False).remarks == report.remarks[:-1]


def test_an_open_library_is_searched_as_it_is_now(
    library: str, folder: Path, tiny_matched_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avpea.search._library.LOOK_EVERY_SECONDS", 0.0)
    query = Query(library)
    before = {Path(one.file).name for one in query.text("a green light")}
    (folder / "r4.mp4").unlink()
    coloured_video(folder / "new.mkv", "red", 0, 2)
    index(tiny_matched_run, folder, library, progress=False)
    a_day_later = {"cleanup_older_than": timedelta(milliseconds=1), "delete_unverified": True}
    Library(library)._windows.optimize(**a_day_later)
    after = {Path(one.file).name for one in query.text("a green light")}
    assert before - after == {"r4.mp4"}
    assert after - before == {"new.mkv"}


def test_a_folder_has_one_path_however_it_is_called(
    library: str, folder: Path, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("../videos", "./../videos/", str(tmp_path / "elsewhere" / ".." / "videos")):
        report = index(tiny_matched_run, name, library, progress=False)
        assert (report.indexed, report.unchanged, report.windows) == (0, 4, 6), name
    shutil.copy(folder / "g4.mp4", tmp_path / "elsewhere")
    with pytest.raises(AvpeaError, match="There is no video or sound in"):  # `link/..` is `elsewhere/deep/..`
        index(tiny_matched_run, tmp_path / "elsewhere" / "deep", library, progress=False)
    assert index(tiny_matched_run, tmp_path / "link" / "..", library, progress=False).indexed == 1
    assert any(state.source == str(tmp_path / "elsewhere" / "g4.mp4") for state in Library(library).files())


@pytest.mark.parametrize(
    ("windows", "places"),
    [(1, [0]), (3, [0, 1, 2]), (6, [0, 1, 2, 3, 4, 5]), (7, [0, 1, 2, 4, 5, 6]), (11, [0, 2, 4, 6, 8, 10])],
)
def test_an_example_is_looked_at_from_beginning_to_end(windows: int, places: list[int]) -> None:
    assert spread_over(windows) == places


def test_more_results_than_there_are_and_a_sentence_that_is_none(kept: str) -> None:
    assert len(search(kept, "a green light", top=3_000_000_000)) == 6
    with pytest.raises(AvpeaError, match=r"The text 'x\\udcff' has characters that are no Unicode"):
        search(kept, "x\udcff")


def test_an_index_of_vectors_finds_the_same(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = str(shutil.copytree(kept, tmp_path / "library"))
    query = Query(library)
    before = query.text("a green light")
    monkeypatch.setattr("avpea.search._library.INDEX_FROM", 1)
    query.library.tidy()
    query = Query(library)
    query.library.warm()
    after = query.text("a green light")
    assert [(one.file, one.start_seconds) for one in after] == [(one.file, one.start_seconds) for one in before]


def test_a_library_that_another_process_has_only_begun_is_made(tmp_path: Path) -> None:
    place = str(tmp_path / "library")
    about = {"model": "a" * 64, "run": "runs/a", "segments": 10, "width": 512}
    Library(place, about)._base.open_table("about").delete("true")
    with pytest.raises(AvpeaError, match="is no library; `avpea index"):
        Library(place)
    assert Library(place, about).about["run"] == "runs/a"
    assert Library(place).about["model"] == "a" * 64


def test_windows_that_two_write_at_the_same_moment_are_there_once(
    videos: Path, tiny_matched_run: Path, tmp_path: Path
) -> None:
    about = {"model": "a" * 64, "run": "runs/a", "segments": 10, "width": 512}
    first, second = (Library(str(tmp_path / "library"), about) for _ in range(2))
    rows = rows_of(load(tiny_matched_run), videos / "g4.mp4")
    # Neither sees what the other writes before it writes itself.
    for library in (first, second):
        library._windows.checkout_latest = lambda: None
        library.add(rows)
    assert len(Library(first.place)) == len(rows)


def _index(run: Path, folder: Path, library: str, begin: Any) -> None:
    torch.set_num_threads(1)
    begin.wait(60)
    index(run, folder, library, progress=False)


def _index_twice(run: Path, folder: Path, library: str) -> None:
    """Two processes at the same time."""
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(2)
    processes = [context.Process(target=_index, args=(run, folder, library, begin)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


@pytest.mark.slow
def test_two_indexers_at_once_lose_nothing(folder: Path, tiny_matched_run: Path, tmp_path: Path) -> None:
    for number in range(12):
        os.link(folder / "g4.mp4", folder / f"copy{number}.mp4")
    place = str(tmp_path / "library")
    _index_twice(tiny_matched_run, folder, place)
    files = Library(place).files()
    assert len(files) == 16
    assert len(Library(place)) == 18


@pytest.mark.slow
def test_ray_indexes_with_two_workers(folder: Path, tiny_matched_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (folder / "empty.mp4").write_bytes(b"")
    command = [str(Path(sys.executable).with_name("avpea")), "index", str(tiny_matched_run), str(folder), "--library"]
    done = subprocess.run(
        [*command, str(tmp_path / "library"), "--ray", "2", "--json"], capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["indexed"], report["windows"], len(report["broken"])) == (4, 6, 1)
    assert done.returncode == 1  # one file was left out


@pytest.mark.slow
def test_an_object_store_is_as_good_as_a_folder(folder: Path, tiny_matched_run: Path, object_store: str) -> None:
    place = "s3://videos/library"
    with pytest.raises(AvpeaError, match=r"s3://videos/library is no library; `avpea index RUN FOLDER --library s3:"):
        Library(place)
    report = index(tiny_matched_run, folder, place, progress=False)
    assert (report.indexed, report.windows) == (4, 6)
    (folder / "g4.mp4").unlink()
    report = index(tiny_matched_run, folder, place, progress=False)
    assert (report.indexed, report.unchanged, report.removed) == (0, 3, 1)
    assert len(Query(place).text("a green light")) == report.windows
    place = "s3://videos/another"
    _index_twice(tiny_matched_run, folder, place)
    assert len(Library(place)) == report.windows
