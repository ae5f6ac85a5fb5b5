"""Files that are written whole or not at all."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avpea.files import replacing, unwritable, write_json, write_text


@pytest.fixture(params=[0o022, 0o027, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_is_written_has_the_permissions_of_the_umask(umask: int, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").touch()
    (tmp_path / ".model.safetensors.tmp").touch(mode=0o600)  # left by a process that was killed
    with replacing(tmp_path / "model.safetensors") as aside:
        save_file({"a": torch.zeros(1)}, aside)
    with replacing(tmp_path / "entry.safetensors", several_writers=True) as aside:
        save_file({"a": torch.zeros(1)}, aside)
    write_json(tmp_path / "file.json", {})
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == dict.fromkeys(
        ["plain.txt", "model.safetensors", "entry.safetensors", "file.json"], 0o666 & ~umask
    )


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "new" / "folder") == ""
    assert unwritable(tmp_path / "file" / "folder") == "Not a directory"
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert unwritable(tmp_path / "new") == "Permission denied"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


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
    with replacing(path, several_writers=True) as one, replacing(path, several_writers=True) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_readable_text(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"name": "Müller"})
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == '{\n  "name": "Müller"\n}\n'
