"""SIGKILL of a server while labels are saved and a video arrives: what was answered is there, and nothing half."""

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
