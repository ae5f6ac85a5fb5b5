"""What a result says about where it was computed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from avpea import measure


def test_the_commit_is_found_without_writing_to_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git would refresh its index, and a kill or a limit on file sizes would leave the index locked."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    code = tmp_path / "avpea" / "measure.py"
    code.parent.mkdir()
    code.touch()
    monkeypatch.setattr(measure, "__file__", str(code))
    commit = measure._commit.__wrapped__
    assert commit() is None
    git("init", "-q")
    assert commit() is None  # there is none yet
    git("add", "-A")
    git("commit", "-qm", "code")
    os.utime(code, (1, 1))  # the index says another time
    index = (tmp_path / ".git" / "index").read_bytes()
    assert commit() == git("rev-parse", "HEAD")
    (tmp_path / "untracked").touch()
    assert commit() == git("rev-parse", "HEAD")
    code.write_text("changed")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"
    assert (tmp_path / ".git" / "index").read_bytes() == index
    assert not (tmp_path / ".git" / "index.lock").exists()
