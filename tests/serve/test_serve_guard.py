"""Who may use a server: tokens, cookies, hosts; and what its settings refuse."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fastapi.testclient import TestClient

from avpea.cli import main
from avpea.errors import AvpeaError
from avpea.serve.settings import Settings, read_token
from tests.serve.serving import served

TOKEN = "a-long-token-1234"


@pytest.fixture(scope="module")
def client(tiny_run: Path) -> Iterator[TestClient]:
    settings = Settings(
        runs=(str(tiny_run),), host="0.0.0.0", token=TOKEN, allowed_hosts=("videos.example",), workers=1
    )
    with served(settings) as client:
        yield client


def named(**headers: str) -> dict[str, str]:
    return {"Host": "videos.example:8000", **headers}


def test_a_token_is_asked_for(client: TestClient) -> None:
    for path in ("/v1/runs", "/v1/videos", "/metrics", "/v1/nothing"):
        answer = client.get(path, headers=named())
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN} x", TOKEN):
        assert client.get("/v1/runs", headers=named(Authorization=wrong)).status_code == 401
    beyond_ascii = [(b"Host", b"videos.example"), (b"Authorization", b"Bearer \xe9")]
    assert client.get("/v1/runs", headers=beyond_ascii).status_code == 401
    assert client.get("/v1/runs", headers=named(Authorization=f"Bearer {TOKEN}")).status_code == 200
    for path in ("/", "/docs", "/healthz", "/readyz", "/static/docs.js"):
        assert client.get(path, headers=named()).status_code == 200


def test_a_cookie_stands_for_the_token(client: TestClient) -> None:
    assert client.post("/v1/session", json={"token": "wrong"}, headers=named()).status_code == 401
    answer = client.post("/v1/session", json={"token": TOKEN}, headers=named())
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert TOKEN not in cookie
    pair = cookie.partition(";")[0]
    client.cookies.clear()
    assert client.get("/v1/runs", headers=named(Cookie=pair)).status_code == 200
    assert client.get("/v1/runs", headers=named(Cookie=f"{pair}x")).status_code == 401


def test_servers_on_other_ports_have_other_cookies(client: TestClient) -> None:
    """A browser sends its cookies to all ports of a host: the second server's replaced the first one's."""
    pairs = []
    for host in ("127.0.0.1:8000", "127.0.0.1:8001", "[::1]:8000", "[::1]", "videos.example"):
        client.cookies.clear()
        answer = client.post("/v1/session", json={"token": TOKEN}, headers={"Host": host})
        pairs.append(answer.headers["set-cookie"].partition(";")[0])
        client.cookies.clear()
        assert client.get("/v1/runs", headers={"Host": host, "Cookie": "; ".join(pairs)}).status_code == 200
        assert client.get("/v1/runs", headers={"Host": "127.0.0.1:9", "Cookie": pairs[-1]}).status_code == 401
    names = [pair.partition("=")[0] for pair in pairs]
    assert names == [f"avpea_session{end}" for end in ("_8000", "_8001", "_8000", "", "")]


def test_an_origin_that_is_none_is_another_one(client: TestClient) -> None:
    for origin in ("http://[", "http://[::1", "http://videos.example:8000]", "", "null"):
        answer = client.get("/v1/runs", headers=named(Origin=origin))
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:avpea:other-origin")


def test_only_the_servers_names_are_answered(client: TestClient) -> None:
    bearer = f"Bearer {TOKEN}"
    for host in ("other.example", "", "videos.example.evil.example", "0.0.0.0"):
        assert client.get("/v1/runs", headers={"Host": host, "Authorization": bearer}).status_code == 421
    for host in ("VIDEOS.example", "videos.example:80", "127.0.0.1:8000", "[::1]:8000"):
        assert client.get("/v1/runs", headers={"Host": host, "Authorization": bearer}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "0.0.0.0"}, "lets other machines use the server, and there is no token"),
        ({"host": "0.0.0.0", "token": "x"}, "listens to all addresses.*--allow-host NAME"),
        ({"waiting": 0}, "--waiting is 0; expected 1 or more"),
        ({"port": 70_000}, "--port is 70000"),
        ({"folder": Path("/nowhere")}, "There is no folder /nowhere"),
        ({"token": "two words"}, "The token has spaces"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AvpeaError, match=message):
        replace(Settings(runs=("run",)), **changes)


def test_a_token_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert read_token(tmp_path / "token") == "abc"
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "none"):
        with pytest.raises(AvpeaError, match="--token-file"):
            read_token(tmp_path / name)
    monkeypatch.setenv("AVPEA_TOKEN", "def")
    assert read_token(None) == "def"


def test_what_a_server_cannot_offer_is_refused(
    tiny_matched_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tiny_matched_run), "--device", "cpu"]) == 1
    assert "name it with --library LIB" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "none"), "--device", "cpu"]) == 1
    assert "There is no run folder or checkpoint" in capsys.readouterr().err
