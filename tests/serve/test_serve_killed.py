"""SIGKILL of a server while labels are saved and a video arrives: what was answered is there, and nothing half.

Once at random moments, and once at each moment of a save or an upload at which something changes on the disk.
"""

import contextlib
import http.client
import json
import random
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from tests.serve.serving import Process, until
from tests.tiny import coloured_video


def asked(address: str, method: str, path: str, body: Any = None) -> Any:
    """The answer as JSON."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=120)
    try:
        given = None if body is None else json.dumps(body)
        connection.request(method, path, given, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        assert answer.status == 200, content
        return content
    finally:
        connection.close()


def labels_of(number: int) -> list[dict[str, Any]]:
    """Many events, so that a file of them takes more than one write, all of one edit."""
    return [{"start_seconds": k / 500, "end_seconds": (k + 1) / 500, "label": f"edit {number}"} for k in range(1000)]


def longer_than(some: list[int], count: int) -> bool:
    return len(some) > count


def edit(address: str, video: str, answered: list[int], sent: list[int]) -> None:
    """Save one edit after another until the server is gone."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        while True:
            number = sent[-1] + 1
            sent.append(number)
            body = {"events": labels_of(number), "revision": number - 1, "done": number % 2 == 0}
            answered.append(asked(address, "PUT", f"/v1/videos/{video}/review", body)["revision"])


def begin_upload(address: str, video: Path) -> socket.socket:
    """Half of an upload, over a connection that stays open."""
    content = video.read_bytes()
    head = b'--X\r\nContent-Disposition: form-data; name="file"; filename="half.mp4"\r\n\r\n'
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    lines = [
        "POST /v1/videos HTTP/1.1", f"Host: {host}:{port}", "Content-Type: multipart/form-data; boundary=X",
        f"Content-Length: {len(head) + len(content) + 9}",
    ]  # fmt: skip
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + head + content[: len(content) // 2])
    return connection


@pytest.mark.slow
def test_what_was_answered_outlives_a_kill(tiny_run: Path, tmp_path: Path) -> None:
    folder, temporary = tmp_path / "videos", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    video = coloured_video(folder / "green.mp4", "green", 0, 2)
    draw, sent, answered = random.Random(18), [0], [0]
    words = str(tiny_run), "--folder", str(folder), "--device", "cpu"
    for _ in range(6):
        server = Process(*words, temporary=temporary)
        try:
            known = asked(server.address, "GET", "/v1/videos")
            assert [one["name"] for one in known] == ["green.mp4"], "half of an upload is listed"
            found = asked(server.address, "GET", f"/v1/videos/{known[0]['video']}/review")
            assert answered[-1] <= found["revision"] <= sent[-1]  # the last edit may be stored and not answered
            if found["revision"]:
                assert found["events"] == labels_of(found["revision"])
                assert found["done"] == (found["revision"] % 2 == 0)
            sent, answered = [found["revision"]], [found["revision"]]
            half = begin_upload(server.address, video)
            writer = threading.Thread(target=edit, args=(server.address, known[0]["video"], answered, sent))
            writer.start()
            until(partial(longer_than, answered, 2))
            until(lambda: any(path.stat().st_size for path in temporary.glob("avpea-serve-*/*/*")))
            time.sleep(draw.random() / 10)
            server.end(signal.SIGKILL)
            writer.join(120)
            half.close()
        finally:
            server.end(signal.SIGKILL)
    until(lambda: not list(temporary.glob("avpea-serve-*/*/*")))  # what was uploaded goes with the server
    server = Process(*words, temporary=temporary)
    try:
        known = asked(server.address, "GET", "/v1/videos")
        last = asked(server.address, "GET", f"/v1/videos/{known[0]['video']}/review")["revision"]
        if last % 2:
            body = {"events": labels_of(last + 1), "revision": last, "done": True}
            asked(server.address, "PUT", f"/v1/videos/{known[0]['video']}/review", body)
        assert asked(server.address, "POST", "/v1/review/save", {})["events"] == 1000
    finally:
        assert server.end() in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert not list(folder.rglob("*.tmp")), "half of a save is left"


# Python runs this at the start of the server. Once the file `armed` is there, it ends the process at the moment that
# the file names, just before the system is asked for it.
KILLER = """
import fnmatch, os, signal, sys
armed, seen = os.environ["AVPEA_TEST_ARMED"], []
def watch(event, arguments):
    place = str(arguments[1 if event == "os.rename" else 0]) if event in EVENTS else armed
    if place == armed or not os.path.exists(armed):  # reading the file is an event as well
        return
    with open(armed) as file:
        wanted, path, number = file.read().split("|")
    if event == wanted and fnmatch.fnmatch(place, path):
        seen.append(event)
        if len(seen) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
EVENTS = ("open", "os.rename", "os.remove")
sys.addaudithook(watch)
"""
# The event, its path, how often; and whether the edit is stored by then.
SAVES = [
    ("open|*.tmp|1", False),  # nothing is written
    ("open|*.tmp|2", False),  # the file aside is empty
    ("os.rename|*.json|1", False),  # it is whole, but not in place
    ("open|*/.avpea-reviews|1", True),  # in place, and not flushed
    ("os.remove|*.lock|1", True),  # flushed, and not answered
]


def refused(address: str, method: str, path: str, body: Any = None) -> None:
    """A request in the middle of which the server is killed."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        asked(address, method, path, body)
        raise AssertionError("the server was not killed")


@pytest.mark.slow
def test_a_kill_at_each_moment_of_a_save_and_of_an_upload(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, temporary, armed = tmp_path / "videos", tmp_path / "tmp", tmp_path / "armed"
    for made in (folder, temporary, tmp_path / "killer"):
        made.mkdir()
    video = coloured_video(folder / "green.mp4", "green", 0, 2)
    (tmp_path / "killer" / "sitecustomize.py").write_text(KILLER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "killer"))
    monkeypatch.setenv("AVPEA_TEST_ARMED", str(armed))
    words = str(tiny_run), "--folder", str(folder), "--device", "cpu", "--workers", "1"
    revision, manifest = 0, folder / "avpea-reviewed.csv"
    for moment, stored in [*SAVES, ("os.rename|*-reviewed.csv|1", None), ("os.rename|*-kept*|1", None), ("", None)]:
        server = Process(*words, temporary=temporary)
        try:
            assert not [path for path in folder.rglob("*") if path.suffix == ".tmp"], "half of a save is left"
            (known,) = asked(server.address, "GET", "/v1/videos")  # and no upload
            path = f"/v1/videos/{known['video']}/review"
            found = asked(server.address, "GET", path)
            assert found["revision"] == revision
            assert found["events"] == (labels_of(revision) if revision else [])
            body = {"events": labels_of(revision + 1), "revision": revision, "done": True}
            revision = asked(server.address, "PUT", path, body)["revision"]
            saved = asked(server.address, "POST", "/v1/review/save", {})
            assert saved["events"] == 1000
            table = manifest.read_bytes()
            if moment:
                armed.write_text(moment)
            body = {"events": labels_of(revision + 1), "revision": revision, "done": True}
            if "-kept" in moment:
                half = begin_upload(server.address, video)
                half.sendall(video.read_bytes()[video.stat().st_size // 2 :] + b"\r\n--X--\r\n")
                with half, contextlib.suppress(ConnectionError):
                    assert half.recv(1000) == b"", "the server was not killed"
            elif moment and stored is None:
                refused(server.address, "POST", "/v1/review/save", {})
                assert manifest.read_bytes() == table
            elif moment:
                refused(server.address, "PUT", path, body)
                revision += bool(stored)
            assert server.end(signal.SIGTERM) == (-signal.SIGKILL if moment else 0), moment
        finally:
            armed.unlink(missing_ok=True)
            server.end(signal.SIGKILL)
        until(lambda: not list(temporary.glob("avpea-serve-*/*/*")))
