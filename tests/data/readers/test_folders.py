"""A folder for each class: labels, background, splits, and what does not fit the layout."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from avpea import data
from avpea.data.identity import copies
from avpea.data.verify import verify
from avpea.errors import DataError
from tests.media_factory import make_video
from tests.tiny import section


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 2.4 seconds."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=2.4, fps=5, size=(32, 32), audio_hz=16_000)


def tree(root: Path, clip: Path, files: Mapping[str, bool]) -> Path:
    """Files below a folder: a copy of the clip, or text."""
    for name, is_video in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_video:
            shutil.copy(clip, path)
        else:
            path.write_text("text")
    return root


def read(root: Path, name: str = "own", **options: Any) -> Any:  # annotations of events
    return data.read(section("data", name, root=str(root), segments=3, **options))


def test_a_video_is_its_folders_event_as_long_as_it_lasts(clip: Path, tmp_path: Path) -> None:
    files = {f"{name}/{i}.mp4": True for name in ("dog", "cat", "background") for i in range(3)}
    found = read(tree(tmp_path / "mine", clip, files))
    assert (found.name, found.root, found.labels.names) == ("mine", tmp_path / "mine", ("cat", "dog"))
    samples: Any = found.samples
    labels = {sample.video_id: sample.labels for sample in samples}
    # 2.4 s: of the third, partial second the existing part is all event; nothing lies beyond the end.
    assert labels == {name: (2, 2, 2) if "background" in name else (("dog" in name),) * 3 for name in files}
    for split in ("train", "val", "test"):
        assert {sample.video_id.partition("/")[0] for sample in found.splits[split]} == {"dog", "cat", "background"}
    assert "Each video is an event of its folder's name from start to end." in found.notes
    assert verify(found, workers=0).ok
    assert read(tmp_path / "mine", "folders") == found


@pytest.mark.parametrize("form", ["folders", "manifest"])
def test_more_videos_move_no_other_once_the_division_is_kept(form: str, clip: Path, tmp_path: Path) -> None:
    def grown(count: int) -> Any:
        files = {f"{name}/{number}.mp4": True for name in ("dog", "cat") for number in range(count)}
        root = tree(tmp_path / "mine", clip, files)
        if form == "folders":
            return read(root)
        table = root / "videos.csv"
        rows = "".join(f"{name},0,2,{name.partition('/')[0]}\n" for name in files)
        table.write_text("video,start_seconds,end_seconds,label\n" + rows)
        return read(table)

    first = grown(3)
    before = {sample.video_id: sample.split for sample in first.samples}
    assert data.keep_division(first) == []
    kept = tmp_path / "mine" / ("splits.json" if form == "folders" else "videos-splits.json")
    assert json.loads(kept.read_text()) == before
    more = grown(14)
    after = {sample.video_id: sample.split for sample in more.samples}
    assert before.items() <= after.items()
    assert Counter(after.values()) == {"train": 20, "val": 4, "test": 4}
    assert any(f"6 videos are divided as {kept.name} says, and the other 22" in note for note in more.notes)
    kept.unlink()
    assert not before.items() <= {sample.video_id: sample.split for sample in grown(14).samples}.items()
    assert read(tmp_path / "mine", "folders", divide="by_hash").division is None


def test_a_longer_window_is_background_after_the_end(clip: Path, tmp_path: Path) -> None:
    root = tree(tmp_path / "mine", clip, {f"{name}/{i}.mp4": True for name in "ab" for i in range(3)})
    found = data.read(section("data", "own", root=str(root), segments=5))
    samples: Any = found.samples
    assert {sample.labels for sample in samples} == {(0, 0, 0, 2, 2), (1, 1, 1, 2, 2)}
    assert {sample.real for sample in samples} == {(0, 0, 0), (1, 1, 1)}
    counts: Any = found.labels.count(samples, 6)
    assert (counts.seconds, counts.background_seconds) == (18, 0)
    assert any("no folder 'background'" in note for note in found.notes)


def test_what_is_left_out_is_told(clip: Path, tmp_path: Path) -> None:
    files = {f"{name}/{i}.mp4": True for name in "ab" for i in range(3)}
    hidden = {"a/.DS_Store": False, ".cache/x.mp4": True, "b/._0.mp4": False}
    others = {"loose.mp4": True, "readme.txt": False, "a/notes.txt": False, "b/cover.jpg": False, "b/back.jpg": False}
    found = read(tree(tmp_path / "mine", clip, files | hidden | others))
    assert {sample.video_id for sample in found.samples} == set(files)
    notes = " ".join(found.notes)
    assert "1 video lies in" in notes
    assert "without a class, and left out: loose.mp4." in notes
    assert "3 files in the folders left out, as no videos: 2 .jpg, 1 .txt." in notes


WRONG = {
    "empty": ({".hidden/x.mp4": True}, r"mine has no folders \(0 files\); expected one folder for each class"),
    "no folder": ({"a.mp4": True, "b.mp4": True}, r"mine has no folders \(2 files\)"),
    "one class": ({"dog/a.mp4": True}, r"has the single folder 'dog', so there is nothing to tell apart; add a folder"),
    "background alone": ({"background/a.mp4": True}, "has the single folder 'background'.*add a folder for each class"),
    "no video": ({"dog/a.mp4": True, "cat/a.txt": False}, r"cat has no video \(1 other files: .txt\); put some in"),
    "nested": ({"dog/one/a.mp4": True, "cat/a.mp4": True}, "dog has a folder 'one' in it; expected only videos"),
    "splits": ({"train/dog/a.mp4": True, "val/dog/a.mp4": True}, "train has a folder 'dog' in it.*column 'split'"),
    "capitals": ({"dog/a.mp4": True, "Dog/b.mp4": True}, "'Dog' and 'dog', whose names differ in capitals only"),
    "spaces": ({"dog/a.mp4": True, "big  cat/b.mp4": True}, "has a folder 'big  cat', which cannot be a class name"),
    "a table": ({"a.mp4": True, "mine.csv": False}, "has no folder for each class, but a table; give that"),
    "AVE": ({"Annotations.txt": False, "AVE/a.mp4": True}, "has Annotations.txt, as AVE has; read it with --data.name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_layouts_are_refused(what: str, clip: Path, tmp_path: Path) -> None:
    files, message = WRONG[what]
    with pytest.raises(DataError, match=message):
        read(tree(tmp_path / "mine", clip, files))


def test_an_empty_folder_with_the_name_of_a_video_is_left_out_and_told(clip: Path, tmp_path: Path) -> None:
    root = tree(tmp_path / "mine", clip, {f"{name}/{i}.mp4": True for name in "ab" for i in range(3)})
    for odd in ("folder.mp4", "a/half.MKV"):
        (root / odd).mkdir()
    for reader in ("own", "folders"):
        found = read(root, reader)
        assert found.labels.names == ("a", "b")
        assert len(found.samples) == 6
        assert "Empty folders with the name of a video are left out: folder.mp4, a/half.MKV." in found.notes
    report = verify(found, decode=True, workers=0, progress=False)
    assert report.ok
    assert report.extra == ()
    (root / "a" / "half.MKV" / "0.mp4").symlink_to(root / "a" / "0.mp4")
    with pytest.raises(DataError, match=r"a has a folder 'half\.MKV' in it"):
        read(root)


def test_one_video_under_several_names_is_told(clip: Path, tmp_path: Path) -> None:
    """Copies in two classes or splits; a link into another class is refused, as the file is one."""
    root = tree(tmp_path / "mine", clip, {"dog/a.mp4": True, "cat/same.mp4": True})
    for number, name in enumerate(("dog/b.mp4", "dog/c.mp4", "cat/d.mp4", "cat/e.mp4")):
        make_video(root / name, seconds=2.4, fps=5, size=(32, 32), audio_hz=16_000, tone_hz=300 + 100 * number)
    found = read(root)
    split_of = {sample.video_id: sample.split for sample in found.samples}
    same = f"cat/same.mp4 ({split_of['cat/same.mp4']}) and dog/a.mp4 ({split_of['dog/a.mp4']})"
    assert copies(found.samples) == (same,)
    report = verify(found, workers=0, progress=False)
    assert report.ok
    assert f"Remark: one video under several names: {same}." in report.lines()
    (root / "cat" / "link.mp4").symlink_to(root / "dog" / "b.mp4")
    with pytest.raises(
        DataError, match=r"cat/link\.mp4 and dog/b\.mp4 are one file, and a folder's video has one class"
    ):
        read(root)


def test_an_empty_class_folder_and_a_missing_root(clip: Path, tmp_path: Path) -> None:
    root = tree(tmp_path / "mine", clip, {"dog/a.mp4": True})
    (root / "cat").mkdir()
    with pytest.raises(DataError, match=r"cat has no video \(it is empty\)"):
        read(root)
    with pytest.raises(DataError, match=r"There is no folder .*gone"):
        read(tmp_path / "gone", "folders")


def test_a_training_says_how_many_videos_it_has_and_of_which_there_are_few(clip: Path, tmp_path: Path) -> None:
    files = {f"dog/{i}.mp4": True for i in range(9)} | {f"cat/{i}.mp4": True for i in range(2)}
    found = read(tree(tmp_path / "mine", clip, files))
    assert found.labels.overview(found.splits) == [
        "Videos: 8 to train, 2 to validate, 1 to test.",
        "Videos of each class (train/val/test): cat 1/1/0, dog 7/1/1.",
        "Few clips: fewer than 5 training videos of cat; expect mistakes about them, and add more if you can.",
        "No test video of cat, so the test figure does not show them.",
    ]


def test_a_folder_is_divided_as_its_table_would_be(clip: Path, tmp_path: Path) -> None:
    names = [f"{name}/{i}.mp4" for name in ("dog", "cat") for i in range(5)]
    root = tree(tmp_path / "mine", clip, dict.fromkeys(names, True))
    table = tmp_path / "mine" / "mine.csv"
    rows = [f"{name},0,2.4,{name.partition('/')[0]}\n" for name in names]
    table.write_text("video,start_seconds,end_seconds,label\n" + "".join(rows))
    by_table, by_folder = read(table), read(root)
    assert by_table.splits.keys() == by_folder.splits.keys()
    for split, samples in by_table.splits.items():
        assert {(s.video_id, s.labels) for s in samples} == {(s.video_id, s.labels) for s in by_folder.splits[split]}
