"""An object store on this machine, which speaks S3's protocol: the server of the library moto."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a store with the bucket `videos`, to which the environment leads every reader of S3."""
    pytest.importorskip("moto", reason="the object store of the tests: pip install 'moto[s3]' flask flask-cors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    from avpea.data import _places

    _places._file_system.cache_clear()  # which keeps connections to the store of another test
    values = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "DEFAULT_REGION": "us-east-1"}
    # LanceDB reads the first name of the address, AWS's own library and pyarrow the second.
    for name, value in {**values, "ENDPOINT": address, "ENDPOINT_URL": address, "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with (tmp_path / "moto.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                put(f"{address}/videos")
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "moto.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def put(url: str, content: bytes = b"") -> None:
    """Make a bucket or an object."""
    kind = {"Content-Type": "application/octet-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, content, kind, method="PUT"), timeout=30):
        pass


def upload(folder: Path, url: str) -> None:
    """Put the files of a folder below a URL of the store."""
    for path in folder.iterdir():
        put(f"{url}/{path.name}", path.read_bytes())
