"""Requests that are refused: each with a problem, and nothing of a refused upload stays."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fastapi import Request
from fastapi.testclient import TestClient

from avpea.serve.problems import Problem
from avpea.serve.receiving import receive
from tests.media_factory import make_video
from tests.serve.serving import server_of, uploaded

BODY_OF_LOCALIZE = {"run": "tiny", "video": "x"}


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/static/../app.py", {}, 404),
        ("GET", "/static/%2e%2e/app.py", {}, 404),
        ("PUT", "/v1/runs", {}, 405),
        ("GET", "/v1/videos/none", {}, 404),
        ("GET", "/v1/videos/..%2f..%2fetc%2fpasswd/media", {}, 404),
        ("GET", "/v1/jobs/none", {}, 404),
        ("POST", "/v1/localize", {"json": BODY_OF_LOCALIZE | {"video": "none"}}, 404),
        ("POST", "/v1/localize", {"json": BODY_OF_LOCALIZE | {"video": "/etc/passwd"}}, 404),
        ("POST", "/v1/localize", {"json": BODY_OF_LOCALIZE | {"run": "no"}}, 404),
        ("POST", "/v1/localize", {"json": BODY_OF_LOCALIZE | {"run": "asked"}}, 422),
        ("POST", "/v1/localize", {"json": {"run": "tiny"}}, 422),
        ("POST", "/v1/localize", {"json": BODY_OF_LOCALIZE | {"threshold": 3}}, 422),
        ("POST", "/v1/localize", {"json": BODY_OF_LOCALIZE | {"more": 3}}, 422),
        ("POST", "/v1/localize", {"content": b"{"}, 400),
        ("POST", "/v1/localize", {"content": b"\xff"}, 400),
        ("POST", "/v1/localize", {"content": b'{"threshold": NaN}'}, 400),
        ("POST", "/v1/localize", {"content": b"[" * 60_000}, 400),
        ("POST", "/v1/localize", {"json": []}, 422),
        ("POST", "/v1/localize", {"content": b" " * 70_000}, 413),
        ("POST", "/v1/search", {"json": {"text": "a dog"}}, 404),
        ("POST", "/v1/jobs", {"json": {"kind": "caption", "video": "x"}}, 404),
        ("POST", "/v1/jobs", {"json": {"kind": "dance", "video": "x"}}, 404),
        ("POST", "/v1/runs/none/reload", {}, 404),
        ("POST", "/v1/session", {"json": {"token": ""}}, 401),
        ("POST", "/v1/videos", {"content": b"x"}, 415),
        ("POST", "/v1/videos", {"files": {"other": ("a.mp4", b"x")}}, 422),
        ("POST", "/v1/videos", {"files": {"file": ("a.mp4", b"no video")}}, 422),
        ("POST", "/v1/videos", {"files": {"file": ("a.mp4", b"")}}, 422),
        ("POST", "/v1/videos", {"files": {"file": ("a.m3u8", b"#EXTM3U\nfile:///etc/passwd\n")}}, 422),
        ("POST", "/v1/videos", {"files": {"file": ("a.mp4", b"x" * (2 << 20))}}, 413),
        ("GET", "/v1/runs", {"headers": {"Host": "evil.example"}}, 421),
        ("GET", "/v1/runs", {"headers": {"Host": "127.0.0.1.evil.example"}}, 421),
        ("GET", "/v1/runs", {"headers": {"Host": "evil@127.0.0.1"}}, 421),
        ("GET", "/v1/runs", {"headers": {"Origin": "http://evil.example"}}, 403),
        ("GET", "/v1/runs", {"headers": {"Origin": "null"}}, 403),
        ("POST", "/v1/videos", {"headers": {"Origin": "http://127.0.0.1:9"}, "files": {"file": ("a", b"x")}}, 403),
        ("GET", "/v1/runs", {"headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
    ],
)  # fmt: skip
def test_errors_are_problems(client: TestClient, method: str, path: str, options: Any, status: int) -> None:
    answer = client.request(method, path, **options)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert found["type"].startswith("urn:avpea:")
    assert found["detail"].endswith(".")
    assert "/tmp" not in answer.text
    assert "Traceback" not in answer.text
    scratch = server_of(client).scratch.path
    kept = {one.path.name for one in server_of(client).videos if one.uploaded}
    assert {one.name for one in scratch.iterdir()} - kept == {".lock"}  # nothing of a refused upload stays


def test_a_form_that_breaks_off_is_refused(client: TestClient) -> None:
    begun = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\nabc'
    for body in (begun, begun + b"\r\n--b", b"", b"--b\r\n" + b"x" * 10_000):
        answer = client.post("/v1/videos", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert answer.status_code == 400, answer.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to try")
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_disk_that_is_full_is_said_of_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Also where it comes in small pieces: closing the file writes once more what the disk has refused."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    body, usual = head + b"x" * size + b"\r\n--b--\r\n", Path.open
    pieces = [{"type": "http.request", "body": body[k : k + 999], "more_body": True} for k in range(0, len(body), 999)]

    async def arriving() -> Any:
        return pieces.pop(0) if pieces else {"type": "http.request"}

    def opened(path: Path, mode: str = "r", **options: Any) -> Any:
        if mode != "xb":
            return usual(path, mode, **options)
        path.touch()
        return open("/dev/full", "wb")

    monkeypatch.setattr(Path, "open", opened)
    scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=b")]}
    with pytest.raises(Problem, match="No space left on device") as caught:
        asyncio.run(receive(Request(scope, arriving), tmp_path / "arriving", 1 << 20))
    assert (caught.value.status, caught.value.kind) == (507, "no-room")
    assert not list(tmp_path.iterdir())


def test_an_upload_that_nobody_waits_for_is_not_kept(
    client: TestClient, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avpea.serve.routes import _added
    from avpea.serve.work import Piece

    server, target = server_of(client), server_of(client).scratch.path / "arrived"
    target.write_bytes(video.read_bytes())
    before, look = {one.id for one in server.videos}, server.videos.look
    piece = Piece("look", lambda piece: _added(server, "a.mp4", target, piece), 60)

    def left(path: Path, name: str) -> Any:
        found = look(path, name)
        piece.cancel()  # the client has gone away meanwhile
        return found

    monkeypatch.setattr(server.videos, "look", left)
    piece.run()
    assert piece.state == "cancelled"
    assert {one.id for one in server.videos} == before
    target.unlink()


def test_a_longer_video_is_refused_before_it_is_decoded(client: TestClient, tmp_path: Path) -> None:
    video = make_video(tmp_path / "long.mp4", seconds=61, fps=2, size=(32, 32), audio_hz=8000)
    with video.open("rb") as file:
        answer = client.post("/v1/videos", files={"file": ("long.mp4", file)})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("long.mp4 lasts 61 s; expected at most 60 s")


def test_a_field_that_stands_twice_is_refused(client: TestClient, video: Path) -> None:
    before = len(client.get("/v1/videos").json())
    answer = client.post(
        "/v1/localize", files={"file": ("a.mp4", video.read_bytes())}, data={"run": "tiny", "threshold": ["0.1", "0.9"]}
    )
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "The form has the field 'threshold' twice; send it once.",
    )
    files = [("file", ("a.mp4", video.read_bytes())), ("file", ("b.mp4", video.read_bytes()))]
    answer = client.post("/v1/localize", files=files, data={"run": "tiny"})
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "The form has two files in the field `file`; send one of them.",
    )
    assert len(client.get("/v1/videos").json()) == before


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b'{"x": "' + b"a" * (17 << 20) + b'"}', 413, "bigger than this server takes (16 MiB)"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "more than 50 levels"),
        (b'{"events": [], "revision": ' + b"9" * 5000 + b"}", 400, "expected less than 2**63"),
        (b'{"events": [], "revision": NaN}', 400, "NaN, which is no number"),
        (b"\xff", 400, "is not UTF-8"),
    ],
)
def test_edits_that_are_no_edits(client: TestClient, video: Path, content: bytes, status: int, sentence: str) -> None:
    answer = client.put(f"/v1/videos/{uploaded(client, video)}/review", content=content)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]
