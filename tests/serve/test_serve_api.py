"""The API of `avpea serve`: what it answers is what the command line prints."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fastapi.testclient import TestClient

from avpea.cli import main


def made_client(settings: Any, **loading: Any) -> TestClient:
    from avpea.serve.app import make_app
    from avpea.serve.server import Server

    return TestClient(make_app(Server(settings, device="cpu", **loading)), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def client(
    tiny_run: Path, tiny_asked_run: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    from avpea.media import boxed
    from avpea.serve.settings import SERVED, Settings

    # A copy, as reviews are kept in a folder beside the videos, which others list.
    videos = shutil.copytree(tiny_data / "AVE", tmp_path_factory.mktemp("served") / "AVE")
    settings = Settings(runs=(str(tiny_run), str(tiny_asked_run)), folder=videos)
    with boxed(SERVED, 2), made_client(settings) as client:
        yield client


def uploaded(client: TestClient, video: Path, name: str = "clip.mp4") -> str:
    with video.open("rb") as file:
        answer = client.post("/v1/videos", files={"file": (name, file)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["video"])


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_say_what_they_can(client: TestClient) -> None:
    found = {one["run"]: one for one in client.get("/v1/runs").json()}
    assert found["tiny"]["can"] == ["localize"]
    assert found["tiny"]["classes"] == ["green", "red"]
    assert found["tiny"]["window_seconds"] == 3
    assert found["asked"]["can"] == ["ask"]


def test_localize_is_what_predict_prints(
    client: TestClient, tiny_run: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tiny_data / "AVE" / "g4.mp4"
    expected = {**printed(capsys, "predict", str(tiny_run), str(video)), "video": "g4.mp4"}
    key = uploaded(client, video, "g4.mp4")
    assert client.post("/v1/localize", json={"run": "tiny", "video": key}).json() == expected
    with video.open("rb") as file:
        answer = client.post("/v1/localize", files={"file": ("g4.mp4", file)}, data={"run": "tiny"})
    assert answer.json() == expected
    assert list(answer.json()) == list(expected)


def test_ask_is_what_ask_prints(
    client: TestClient, tiny_asked_run: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, question = tiny_data / "AVE" / "r4.mp4", "Is the red ever seen?"
    expected = {**printed(capsys, "ask", str(tiny_asked_run), str(video), question), "video": "r4.mp4"}
    names = {one["name"]: one["video"] for one in client.get("/v1/videos").json()}
    assert client.post("/v1/ask", json={"video": names["r4.mp4"], "question": question}).json() == expected


def test_media_come_in_ranges(client: TestClient, tiny_data: Path) -> None:
    video = tiny_data / "AVE" / "g4.mp4"
    key = uploaded(client, video)
    whole = client.get(f"/v1/videos/{key}/media")
    assert whole.content == video.read_bytes()
    assert whole.headers["content-type"] == "video/mp4"
    part = client.get(f"/v1/videos/{key}/media", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, video.read_bytes()[10:20])


def test_what_a_page_shows_of_a_video(client: TestClient, tiny_data: Path) -> None:
    key = uploaded(client, tiny_data / "AVE" / "g4.mp4")
    found = client.get(f"/v1/videos/{key}/waveform?bins=30").json()
    assert found["seconds"] == pytest.approx(3, abs=0.1)
    assert len(found["peaks"]) == 30
    assert 0.4 < max(found["peaks"]) < 0.6
    assert client.get(f"/v1/videos/{key}/spectrogram").content.startswith(b"\x89PNG")
    assert client.get(f"/v1/videos/{key}/frame?second=1.5").content.startswith(b"\xff\xd8")
    assert client.get(f"/v1/videos/{key}/thumbnail").content.startswith(b"\xff\xd8")
    maps = client.get(f"/v1/videos/{key}/attention?run=tiny&second=1").json()
    assert len(maps["sound_looked"]) == len(maps["sound_looked"][0]) == 2


def test_a_job_is_done(client: TestClient, tiny_data: Path) -> None:
    key = uploaded(client, tiny_data / "AVE" / "g4.mp4")
    job = client.post("/v1/jobs", json={"kind": "localize", "run": "tiny", "video": key}).json()["job"]
    for _ in range(1000):
        found = client.get(f"/v1/jobs/{job}").json()
        if found["state"] == "done":
            break
    expected = client.post("/v1/localize", json={"run": "tiny", "video": key}).json()
    assert found["result"] == expected


def test_pages_and_headers(client: TestClient) -> None:
    for path in ("/", "/docs", "/static/docs.js", "/openapi.json", "/healthz", "/readyz", "/metrics"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "script-src 'self';" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("PUT", "/v1/runs", {}, 405),
        ("GET", "/v1/videos/none", {}, 404),
        ("POST", "/v1/localize", {"json": {"video": "none", "run": "tiny"}}, 404),
        ("POST", "/v1/localize", {"json": {"video": "none", "run": "no"}}, 404),
        ("POST", "/v1/localize", {"json": {"run": "asked", "video": "x"}}, 422),
        ("POST", "/v1/localize", {"content": b"{"}, 400),
        ("POST", "/v1/localize", {"json": []}, 422),
        ("POST", "/v1/localize", {"json": {"video": "x", "threshold": 3}}, 422),
        ("POST", "/v1/videos", {"content": b"x"}, 415),
        ("POST", "/v1/videos", {"files": {"other": ("a.mp4", b"x")}}, 422),
        ("POST", "/v1/videos", {"files": {"file": ("a.mp4", b"no video")}}, 422),
        ("POST", "/v1/videos", {"files": {"file": ("a.mp4", b"")}}, 422),
        ("GET", "/v1/runs", {"headers": {"Host": "evil.example"}}, 421),
        ("GET", "/v1/runs", {"headers": {"Origin": "http://evil.example"}}, 403),
        ("GET", "/v1/runs", {"headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
    ],
)
def test_errors_are_problems(client: TestClient, method: str, path: str, options: Any, status: int) -> None:
    answer = client.request(method, path, **options)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"].endswith(".")
    assert "/tmp" not in answer.text
