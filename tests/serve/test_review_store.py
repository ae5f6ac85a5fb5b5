"""Reviews: every edit is on disk when it is answered, none is lost, and what is exported is what was said."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from avpea.errors import DataError, InUseError, WriteError
from avpea.formats import Stretch, read
from avpea.locks import locked
from avpea.serve.exports import EXPORTS, MANIFEST, Reviewed, exported, save_manifest
from avpea.serve.review import Review, Reviews, Stale, checked, fingerprint, homes, unsureness
from tests.tiny import coloured_video

BARK, MEOW = Stretch(0.5, 2.0, "bark"), Stretch(2.0, 3.25, "meow")
KEY = "0" * 32


def test_an_edit_is_there_for_everybody_at_once(tmp_path: Path) -> None:
    ours, theirs = Reviews(tmp_path / "reviews"), Reviews(tmp_path / "reviews")
    assert ours.get(KEY, "a.mp4") == Review("a.mp4")
    assert not (tmp_path / "reviews").exists()  # looking makes nothing
    first = ours.put(KEY, "a.mp4", [BARK, MEOW], 0)
    assert (first.revision, first.done, first.events) == (1, False, (BARK, MEOW))
    assert theirs.get(KEY, "other name") == first
    second = theirs.put(KEY, "a.mp4", [], 1, done=True)
    assert ours.get(KEY, "a.mp4") == second
    assert [path.name for path in (tmp_path / "reviews").iterdir()] == [f"{KEY}.json"]


def test_an_edit_of_an_earlier_revision_is_refused(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path)
    reviews.put(KEY, "a.mp4", [BARK], 0)
    reviews.put(KEY, "a.mp4", [BARK, MEOW], 1)
    assert reviews.put(KEY, "a.mp4", [BARK, MEOW], 1).revision == 2  # sent again, after an answer that got lost
    for revision in (0, 1, 3):
        with pytest.raises(Stale, match=rf"is at revision 2, and the edit is of {revision}") as caught:
            reviews.put(KEY, "a.mp4", [MEOW], revision)
        assert caught.value.review.events == (BARK, MEOW)
    assert reviews.get(KEY, "a.mp4").events == (BARK, MEOW)


APPENDING = """
import sys
from pathlib import Path
from avpea.formats import Stretch
from avpea.serve.review import Reviews, Stale
reviews, who = Reviews(Path(sys.argv[1])), int(sys.argv[2])
for index in range(8):
    while True:
        known = reviews.get("0" * 32, "a.mp4")
        try:
            reviews.put("0" * 32, "a.mp4", [*known.events, Stretch(who, who + 1, f"{who}-{index}")], known.revision)
        except Stale:
            continue
        break
"""


def test_no_edit_is_lost_among_threads_and_processes(tmp_path: Path) -> None:
    """Each adds events one by one, on top of whatever the others have stored."""
    run: Any = exec
    others = [subprocess.Popen([sys.executable, "-c", APPENDING, str(tmp_path), str(who)]) for who in (0, 1)]
    scripts = [APPENDING.replace("sys.argv[1]", repr(str(tmp_path))).replace("sys.argv[2]", str(who)) for who in (2, 3)]
    threads: list[threading.Thread] = [threading.Thread(target=run, args=(script, {})) for script in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [one.wait(120) for one in others] == [0, 0]
    review = Reviews(tmp_path).get(KEY, "a.mp4")
    assert review.revision == 32
    assert {one.text for one in review.events} == {f"{who}-{index}" for who in range(4) for index in range(8)}


SAVING = """
import sys
from pathlib import Path
from avpea.formats import Stretch
from avpea.serve.review import Reviews
reviews = Reviews(Path(sys.argv[1]))
known = reviews.get("0" * 32, "a.mp4")
while True:
    known = reviews.put("0" * 32, "a.mp4", [*known.events, Stretch(0.0, 1.0, "x" * 150)], known.revision)
    print(known.revision, flush=True)
"""


def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    answered = 0
    for _ in range(3):
        command = [sys.executable, "-c", SAVING, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(7):
                answered = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split("\n")
        answered = max([answered, *(int(line) for line in rest[:-1] if line)])
        review = Reviews(tmp_path).get(KEY, "a.mp4")
        assert answered <= review.revision <= answered + 1
        assert len(review.events) == review.revision
    Reviews(tmp_path).put(KEY, "a.mp4", [], review.revision)
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.json"]  # and nothing is left beside it


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "avpea-review-1"}', b'{"format": "x"}', b"\xff\xfe", b"[" * 10_000]
)
def test_a_damaged_review_is_named_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{KEY}.json").write_bytes(content)
    reviews = Reviews(tmp_path)
    for act in (lambda: reviews.get(KEY, "a.mp4"), lambda: reviews.put(KEY, "a.mp4", [], 0)):
        with pytest.raises(DataError, match=rf"^The review of a\.mp4 cannot be used: {tmp_path.name}/{KEY}") as caught:
            act()
        assert str(tmp_path) not in str(caught.value)
    assert (tmp_path / f"{KEY}.json").read_bytes() == content


def test_an_edit_that_goes_on_elsewhere_is_told_by_the_name_of_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avpea.serve.review._PATIENCE_SECONDS", 0.0)
    with locked(tmp_path, "is being edited", f".{KEY}.lock"), ThreadPoolExecutor() as pool:
        error = pool.submit(Reviews(tmp_path).put, KEY, "copy.mp4", [], 0).exception()
    assert isinstance(error, InUseError)
    assert str(error).startswith(f"copy.mp4 is being edited by process {os.getpid()} ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(WriteError):
        Reviews(tmp_path / "reviews").put(KEY, "a.mp4", [], 0)


def test_what_the_system_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        Reviews(tmp_path / "file").put(KEY, "a.mp4", [], 0)


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([Stretch(1.0, 1.0, "a")], "event 1: 'a' is from 1 to 1 s; expected a start before the end"),
        ([Stretch(0.0, 1.0, "a"), Stretch(2.0, 12.0, "b")], "event 2: 'b' is from 2 to 12 s"),
        ([Stretch(float("nan"), 1.0, "a")], "from nan to 1 s"),
        ([Stretch(-1.0, 1.0, "a")], "from -1 to 1 s"),
        ([Stretch(10.2, 10.9, "a")], "where the video of 10 s is over"),
        ([Stretch(0.0001, 0.0002, "a")], "begins at 0 s"),
        ([Stretch(0.0, 1.0, " ")], "its label is ''"),
        ([Stretch(0.0, 1.0, "a\x1bb")], "its label is 'a\\x1bb'"),
        ([Stretch(0.0, 1.0, "x" * 201)], "expected 1 to 200 characters"),
        ([Stretch(0.0, 1.0, "Back ground")], "the label 'Back ground' is reserved"),
        ([Stretch(0.0, 1.0, "a")] * 10_001, "10,001 events; expected at most 10,000"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(events: list[Stretch], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        checked(events, 10.0, "a.mp4")
    assert sentence in str(caught.value)


def test_events_are_put_in_order_and_end_with_the_video() -> None:
    given = [Stretch(2.0, 10.4, "  a \n b "), Stretch(0.12345, 1.0, "c"), Stretch(0.12345, 1.0, "c")]
    assert checked(given, 10.0, "a.mp4") == (Stretch(0.123, 1.0, "c"), Stretch(2.0, 10.0, "a b"))


def test_a_review_belongs_to_the_content(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4"))
    content = bytes(range(256)) * 20_000
    one.write_bytes(content)
    same.write_bytes(content)
    other.write_bytes(content[:-1] + b"x")
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    reviews = Reviews(tmp_path / "reviews")
    before = reviews.key(one)
    one.write_bytes(content + b"more")
    assert before == reviews.key(same) != reviews.key(one)


def test_reviews_lie_with_the_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    beside, user = tmp_path / ".avpea-reviews", tmp_path / "data/avpea/reviews"
    assert homes(tmp_path) == [beside, user]
    assert homes(None) == [user]
    (tmp_path / "file").write_text("")
    assert homes(tmp_path / "file")[0] == user


def test_reviews_of_a_folder_that_can_no_longer_be_written_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is mounted read only, or was copied from somebody else; and when it can be written again."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder, other = tmp_path / "videos", "1" * 32
    first = Reviews(*homes(folder))
    first.put(KEY, "a.mp4", [BARK], 0)
    first.note_unsure(KEY, "run", 0.25)
    beside = (folder / ".avpea-reviews" / f"{KEY}.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("avpea.serve.review.unwritable", lambda path: "Read-only file system")
        locked_up = Reviews(*homes(folder))
        assert locked_up.get(KEY, "a.mp4").events == (BARK,)
        assert locked_up.unsure(KEY, "run") == 0.25
        assert locked_up.put(KEY, "a.mp4", [MEOW], 1).revision == 2
        assert locked_up.put(other, "b.mp4", [MEOW], 0).revision == 1
        assert locked_up.get(KEY, "a.mp4").events == (MEOW,)  # the higher revision, wherever it lies
        assert (folder / ".avpea-reviews" / f"{KEY}.json").read_bytes() == beside
    again = Reviews(*homes(folder))
    assert [again.get(key, "a.mp4").events for key in (KEY, other)] == [(MEOW,), (MEOW,)]
    assert again.put(KEY, "a.mp4", [BARK, MEOW], 2).revision == 3
    assert Reviews(folder / ".avpea-reviews").get(KEY, "a.mp4").events == (BARK, MEOW)


@pytest.mark.parametrize("writable", [True, False])
def test_reviews_in_a_folder_that_may_not_be_entered_are_somebody_elses(
    writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the user's own data in a container of another user, or a colleague's reviews beside the videos."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if not writable:
        monkeypatch.setattr("avpea.serve.review.unwritable", lambda path: "Permission denied")
    reviews, real = Reviews(*homes(tmp_path / "videos")), Path.stat
    closed = reviews._places[1]

    def stat(path: Path, **options: Any) -> Any:
        if path.parent == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert reviews.get(KEY, "a.mp4").revision == 0
    assert reviews.put(KEY, "a.mp4", [BARK], 0).revision == 1
    assert reviews.get(KEY, "a.mp4").events == (BARK,)


def test_how_unsure_a_run_is_is_kept(tmp_path: Path) -> None:
    seconds = [{"probabilities": {"a": 0.9, "background": 0.1}}, {"probabilities": {"a": 0.4, "background": 0.6}}]
    assert unsureness({"seconds": seconds}) == pytest.approx(1 - (0.9 + 0.6) / 2)
    lanes = [{"probabilities": {"seen": {"a": 0.5}, "heard": {"a": 0.5}}}]
    assert unsureness({"seconds": lanes}) is None  # of several things at once
    assert unsureness({"events": []}) is unsureness({"seconds": [{"label": "a"}]}) is None
    reviews = Reviews(tmp_path)
    assert reviews.unsure(KEY, "run") is None
    reviews.note_unsure(KEY, "run", 0.25)
    reviews.note_unsure(KEY, "other", 0.5)
    assert [Reviews(tmp_path).unsure(KEY, name) for name in ("run", "other", "third")] == [0.25, 0.5, None]
    (tmp_path / f"{KEY}.unsure.json").write_text("[1]")
    assert Reviews(tmp_path).unsure(KEY, "run") is None


@pytest.mark.parametrize("name", [name for name in EXPORTS if name != "manifest"])
def test_what_is_exported_is_read_again(name: str) -> None:
    file = exported(name, [Reviewed("park/my dog.mp4", [BARK, MEOW])], one=True)
    assert file.name.startswith("my dog.")
    assert read(name, file.content, file.name) == [BARK, MEOW]
    assert str(Path.cwd()).encode() not in file.content  # no path of the server


@pytest.mark.parametrize("name", [name for name in EXPORTS if name not in ("manifest", "csv", "json")])
def test_several_videos_are_files_of_their_own(name: str) -> None:
    some = [Reviewed("a.mp4", [BARK]), Reviewed("../../a.mp4", [MEOW]), Reviewed("/etc/b\\c.mp4", [])]
    file = exported(name, some, one=False)
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        names = archive.namelist()
        assert [read(name, archive.read(one), one) for one in names] == [[BARK], [MEOW], []]
    assert len(set(names)) == 3
    assert not any(".." in one or one.startswith("/") or "\\" in one for one in names)


@pytest.mark.parametrize("name", [name for name in EXPORTS if name != "manifest"])
def test_a_name_that_is_no_text_is_packed_all_the_same(name: str) -> None:
    """As of a file whose name is Latin-1: before, one such file kept those of all others from being exported."""
    file = exported(name, [Reviewed("dog.mp4", [BARK]), Reviewed("d\udcff\n.mp4", [MEOW])], one=False)
    if file.name.endswith(".zip"):
        places = zipfile.ZipFile(io.BytesIO(file.content)).namelist()
        assert len(places) == 2
        assert all(place.isprintable() for place in places)


def test_several_videos_are_one_table_or_list() -> None:
    some = [Reviewed("a.mp4", [BARK, MEOW]), Reviewed("b/c.mp4", [])]
    rows = list(csv.DictReader(io.StringIO(exported("csv", some, one=False).content.decode())))
    assert [(row["video"], row["label"]) for row in rows] == [("a.mp4", "bark"), ("a.mp4", "meow"), ("b/c.mp4", "")]
    found = json.loads(exported("json", some, one=False).content)
    assert [(one["video"], len(one["events"])) for one in found] == [("a.mp4", 2), ("b/c.mp4", 0)]


def test_the_manifest_is_what_training_reads(tmp_path: Path) -> None:
    from avpea.data.readers._divide import DividedOptions
    from avpea.data.readers.manifest import read as read_manifest

    names = ["red.mp4", '-sub dir/=a, "b".mp4', "'quoted.mp4", "a\nb.mp4", " a.mp4", "a\udcff.mp4", "a\u2028.mp4"]
    content = coloured_video(tmp_path / "red.mp4", "red", 0, 3).read_bytes()
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    labels = ["=red", "-", "'+a"]
    some = [Reviewed(name, [Stretch(0.0, 2.0, labels[index % 3])]) for index, name in enumerate(names)]
    path = save_manifest(tmp_path, some)
    assert path == tmp_path / MANIFEST
    found = read_manifest(DividedOptions(name="manifest", root=str(path), segments=3))
    samples = [sample for some in found.splits.values() for sample in some]
    assert {sample.video for sample in samples} == {tmp_path / name for name in names}
    assert {found.labels.names[sample.labels[0]] for sample in samples} == set(labels)  # type: ignore[attr-defined]
    assert not found.lost


@pytest.mark.parametrize("name", ["manifest", "csv"])
def test_a_table_does_not_mix_two_videos_up(name: str) -> None:
    with pytest.raises(DataError, match=r"Two videos are called 'a\.mp4'"):
        exported(name, [Reviewed("a.mp4", [BARK]), Reviewed("a.mp4", [MEOW])], one=False)
