"""The folder of uploads goes with the server, however that ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from avpea.serve.scratch import Scratch
from tests.serve.serving import Process, until

HOLD = """
import sys, time
from pathlib import Path
from avpea.serve.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
print(scratch.path, scratch._janitor.pid, flush=True)
time.sleep(300)
"""


def held(above: Path) -> "tuple[subprocess.Popen[str], Path, int]":
    """Another process with a folder, its folder, and its janitor."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(above)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    folder, janitor = process.stdout.readline().split()
    return process, Path(folder), int(janitor)


def test_it_is_of_this_user_alone_and_goes(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "above")
    assert (tmp_path / "above").stat().st_mode & 0o777 == 0o700
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    (scratch.path / "file").write_text("x")
    scratch.close()
    assert not (tmp_path / "above").exists()


def test_a_kill_removes_it(tmp_path: Path) -> None:
    process, folder, _ = held(tmp_path)
    (folder / "file").write_text("x")
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    until(lambda: not folder.exists())


def test_what_stays_after_all_is_removed_by_the_next(tmp_path: Path) -> None:
    process, folder, janitor = held(tmp_path)
    os.kill(janitor, signal.SIGKILL)
    other = Scratch(tmp_path)
    assert folder.exists()  # its server lives
    other.close()
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    assert folder.exists()
    Scratch(tmp_path).close()
    assert not folder.exists()


def test_somebody_elses_folder_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "above").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="cannot be written"):
        Scratch(tmp_path / "above")


@pytest.mark.slow
def test_a_server_that_is_killed_in_an_upload_leaves_nothing(tiny_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    server = Process(str(tiny_run), "--device", "cpu", "--workers", "1", temporary=tmp_path)
    host, _, port = server.address.removeprefix("http://").partition(":")
    begun = (
        f"POST /v1/videos HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 900000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + "x" * 200_000
    )
    with socket.create_connection((host, int(port))) as one:
        one.sendall(begun.encode())
        (folder,) = (path for path in tmp_path.glob("avpea-serve-*/*") if path.is_dir())
        until(lambda: any(path.stat().st_size for path in folder.iterdir() if path.name != ".lock"))
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not folder.exists())
    again = Process(str(tiny_run), "--device", "cpu", "--workers", "1", temporary=tmp_path)
    assert again.end(signal.SIGTERM) == 0
    assert not list(tmp_path.glob("avpea-serve-*"))
