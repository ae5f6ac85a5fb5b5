"""Files that are written whole or not at all."""

import errno
import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from avpea.errors import WriteError
from avpea.files import closed, remove_leftovers, replacing, unwritable, write_json, write_text, write_whole
from avpea.tensors import write_tensors


@pytest.fixture(params=[0o022, 0o027, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_is_written_has_the_permissions_of_the_umask(umask: int, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").touch()
    (tmp_path / ".model.safetensors.tmp").touch(mode=0o600)  # left by a process that was killed
    write_tensors(tmp_path / "model.safetensors", {"a": torch.zeros(1)}, {})
    with replacing(tmp_path / "settings.json", keep=True) as aside:
        aside.write_text("{}")
    write_json(tmp_path / "file.json", {})
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == dict.fromkeys(
        ["plain.txt", "model.safetensors", "settings.json", "file.json"], 0o666 & ~umask
    )


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "new" / "folder") == ""
    assert unwritable(tmp_path / "file" / "folder") == "Not a directory"
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert unwritable(tmp_path / "new") == "Permission denied"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "private" / "inside").mkdir(parents=True)
    for there in ("private", "private/inside", "absent/folder"):
        assert closed(tmp_path / there) == ""
    real = os.access  # root may enter every folder
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "private" and real(path, mode))
    for there in ("private", "private/inside", "private/absent", "private/a/file.txt"):
        assert closed(tmp_path / there) == f"The folder {tmp_path / 'private'} may not be read (Permission denied)"
    assert closed(tmp_path) == ""
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.R_OK and real(path, mode))  # as of mode 0711
    assert closed(tmp_path / "private") == ""
    assert (
        closed(tmp_path / "private", listed=True)
        == f"The folder {tmp_path / 'private'} may not be read (Permission denied)"
    )


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with replacing(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_several_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_first_stays_where_that_is_asked_for(tmp_path: Path) -> None:
    with replacing(tmp_path / "key", keep=True) as aside:
        aside.write_text("late")
        write_text(tmp_path / "key", "first")
    assert (tmp_path / "key").read_text() == "first"
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


def test_what_a_killed_writer_left_is_removed_by_the_next_one_and_by_no_clock(tmp_path: Path) -> None:
    path, left = tmp_path / "file.txt", [tmp_path / ".file.txt.tmp", tmp_path / ".file.txt.0123abcd.tmp"]
    for each in left:
        each.write_text("half")
        os.utime(each, (4e9, 4e9))  # from the future, as a clock that was put back makes it look
    longer = tmp_path / ".file.txt.old.0123abcd.tmp"
    longer.touch()
    other = tmp_path / ".other.txt.0123abcd.tmp"
    other.write_text("half")
    with replacing(path) as alive:
        os.utime(alive, (0, 0))
        assert {*tmp_path.iterdir()} == {alive, other, longer}
        write_text(path, "new")  # which leaves the file of the living writer alone
        remove_leftovers(tmp_path)
        assert {*tmp_path.iterdir()} == {alive, path}
        alive.write_text("newer")
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_of_any_length(tmp_path: Path) -> None:
    for name in ("a" * 255, "ä" * 127, "字" * 85):
        write_text(tmp_path / name, name)
        assert (tmp_path / name).read_text("utf-8") == name


def test_a_refusal_names_the_file_the_reason_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError) as refusal:
        write_text(tmp_path / "folder", "text")
    place = f"{tmp_path / 'folder'} cannot be written (Is a directory)"
    assert str(refusal.value) == f"{place}; move that folder away, or choose another place."
    said = str(WriteError(errno.EACCES, "place"))
    rule = "make its folder writable (`chmod u+w`, or ask its owner), or choose another place."
    assert said == f"place cannot be written (Permission denied); {rule}"
    assert "mount that disk so that it can be written, or choose another place." in str(
        WriteError(errno.EROFS, "place")
    )
    said = str(WriteError(errno.ENOSPC, "place"))
    assert said == "place cannot be written (No space left on device); make room there, or choose another place."
    again = pickle.loads(pickle.dumps(refusal.value))
    assert (str(again), again.errno, again.strerror) == (str(refusal.value), errno.EISDIR, "Is a directory")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_json_is_readable_text(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"name": "Müller"})
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == '{\n  "name": "Müller"\n}\n'


def test_what_has_no_room_as_a_whole_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, room = tmp_path / "rows.csv", os.write, [12]

    def filling(descriptor: int, content: bytes) -> int:
        taken = write(descriptor, content[: room[0]])
        room[0] -= taken
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return taken

    for mode in ("wb", "ab"):
        path.write_bytes(b"old\n")
        room[0] = 12
        with path.open(mode, buffering=0) as file, monkeypatch.context() as patch:
            patch.setattr(os, "write", filling)
            write_whole(file.fileno(), b"1st row\n")
            with pytest.raises(OSError, match="No space left"):
                write_whole(file.fileno(), b"2nd row\n")
            room[0] = 12
            write_whole(file.fileno(), b"3rd row\n")
        assert path.read_bytes() == (b"old\n" if mode == "ab" else b"") + b"1st row\n3rd row\n"


def test_what_others_wrote_after_it_is_not_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "log", os.write
    path.touch()
    with path.open("ab", buffering=0) as file, path.open("ab", buffering=0) as other:

        def interrupted(descriptor: int, content: bytes) -> int:
            if len(content) < 8:
                write(other.fileno(), b"other's\n")
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return write(descriptor, content[:4])

        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(OSError, match="Input/output"):
            write_whole(file.fileno(), b"1st row\n")
    assert path.read_bytes() == b"1st other's\n"
