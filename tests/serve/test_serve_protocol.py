"""Connections that send half a header or no HTTP, or are too many: a problem, and closed; a slow upload is not."""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from avpea.cli import main
from avpea.serve import protocol
from tests.serve.serving import Process, listening

BOUND_SECONDS = 1.0


@pytest.fixture(scope="module")
def address(tiny_run: Path) -> Iterator[tuple[str, int]]:
    from avpea.serve.settings import Settings

    with listening(Settings(runs=(str(tiny_run),), workers=1, upload_mb=1)) as found:
        host, _, port = found.removeprefix("http://").partition(":")
        yield host, int(port)


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", BOUND_SECONDS)


def rest_of(connection: socket.socket) -> bytes:
    """What still comes, until the server closes the connection."""
    found = b""
    while piece := connection.recv(65_536):
        found += piece
    return found


def problem_in(answer: bytes) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    found = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {found['status']} ".encode())
    assert found["detail"].endswith(".")
    return found


def opened(address: tuple[str, int], sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(address, timeout=60)
    connection.sendall(sent)
    return connection


HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize("before", [b"", WHOLE])
@pytest.mark.parametrize("dribble", [False, True])
def test_half_a_header_is_closed_in_time(address: tuple[str, int], before: bytes, dribble: bool) -> None:
    """Also after a request that was answered, and when a byte comes now and then."""
    with opened(address, before) as connection:
        answer = b""
        while before and not answer.endswith(b'{"status":"ok"}'):
            answer += connection.recv(65_536)
        connection.sendall(HALF)
        begun = time.monotonic()
        while dribble and time.monotonic() < begun + 0.8 * BOUND_SECONDS:
            connection.sendall(b"x")
            time.sleep(0.1)
        answer = rest_of(connection)
    assert problem_in(answer)["status"] == 408
    assert time.monotonic() - begun >= 0.7 * BOUND_SECONDS


def test_a_connection_that_says_nothing_is_closed(address: tuple[str, int]) -> None:
    with opened(address) as connection:
        assert rest_of(connection) == b""


def test_what_comes_after_a_refusal_is_not_waited_for_for_ever(address: tuple[str, int]) -> None:
    """A body that is too big is refused when its length is known; who goes on to send it is cut off."""
    head = b"POST /v1/localize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900000000\r\n\r\n"
    with opened(address, head) as connection:
        assert b"HTTP/1.1 413" in connection.recv(65_536)
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < begun + 60:
                connection.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() < begun + 50, "it can go on for ever"


def test_a_slow_upload_that_lives_is_received(address: tuple[str, int]) -> None:
    """It takes longer than a header may; that it is no video is said at the end."""
    head = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    body = head + b"no video" + b"\r\n--X--\r\n"
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.putrequest("POST", "/v1/videos")
    connection.putheader("Content-Type", "multipart/form-data; boundary=X")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    begun = time.monotonic()
    for start in range(0, len(body), 8):
        connection.send(body[start : start + 8])
        time.sleep(2.5 * BOUND_SECONDS / (len(body) / 8))
    answer = connection.getresponse()
    assert time.monotonic() - begun > 2 * BOUND_SECONDS
    assert answer.status == 422
    assert json.loads(answer.read())["detail"].startswith("a.mp4: ")
    connection.close()


def reading(address: tuple[str, int], requests: bytes) -> socket.socket:
    """A client with a small window that asks for a lot at once."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(address)
    connection.sendall(requests)
    return connection


STATIC = b"GET /static/vendor/wavesurfer/wavesurfer.esm.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LAST = STATIC.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
MANY = 120  # more than the systems on both sides keep


def test_a_client_that_does_not_read_is_cut_off(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALLED_SECONDS", BOUND_SECONDS)
    with reading(address, STATIC * (MANY - 1) + LAST) as connection:
        time.sleep(4 * BOUND_SECONDS)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = rest_of(connection)
    assert answer.count(b"HTTP/1.1 200 OK") < MANY


def test_a_client_that_reads_slowly_gets_it_all(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALLED_SECONDS", BOUND_SECONDS)
    begun, answer = time.monotonic(), bytearray()
    with reading(address, STATIC * (MANY - 1) + LAST) as connection:
        while piece := connection.recv(65_536):
            answer += piece
            if time.monotonic() < begun + 4 * BOUND_SECONDS:
                time.sleep(0.01)
    assert answer.count(b"HTTP/1.1 200 OK") == MANY


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS to a server without
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),  # without Host
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nno header\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nA: \x00\r\n\r\n", 400),
        (b"GET /h\xe9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"a" * 17_000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: aaaaaaaaaa\r\n" * 1_200 + b"\r\n", 431),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"a" * 8_000 + b"\r\n\r\n", 431),
        (b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", 404),
        (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", 404),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 421),
    ],
)  # fmt: skip
def test_what_is_no_http_is_a_problem(address: tuple[str, int], sent: bytes, status: int) -> None:
    with opened(address, sent) as connection:
        assert problem_in(rest_of(connection))["status"] == status


def test_lines_of_the_library_below_do_not_reach_the_terminal(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client gets a problem; a port that is in use is told in a sentence."""
    words = str(tiny_run), "--device", "cpu", "--workers", "1"
    server = Process(*words, temporary=tmp_path)
    try:
        host, _, port = server.address.removeprefix("http://").partition(":")
        upgrade = (
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
        )
        for sent, status in ((b"GET /healthz\r\n\r\n", b" 400 "), (upgrade, b" 200 ")):
            with opened((host, int(port)), sent) as connection:
                assert status in rest_of(connection)[:20]
        # Before the run is loaded: there is none of this name.
        assert main(["serve", str(tmp_path / "none"), "--port", port]) == 1
    finally:
        server.end()
    (line,) = server.said
    assert line.startswith("Serving at ")
    assert capsys.readouterr().err == (
        f"avpea: The server cannot listen at {host}:{port} (Address already in use); choose another --port or --host.\n"
    )


def test_one_connection_too_many_is_a_problem(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 0)
    with opened(address, WHOLE) as connection:
        answer = rest_of(connection)
    assert b"\r\nretry-after: 5\r\n" in answer.lower()
    assert problem_in(answer)["detail"].startswith("More than 0 connections are open")
