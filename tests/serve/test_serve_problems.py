"""Every error is a problem with a sentence: of ranges, methods and static files; files have the user's name in it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fastapi.testclient import TestClient

from avpea.serve.problems import OnlyProblems, Problem
from tests.media_factory import make_video
from tests.serve.serving import served, until, uploaded
from tests.tiny import coloured_video

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("videos")
    coloured_video(made / "green.mp4", "green", 0, 2)
    (made / "cut off.mp4").write_bytes((made / "green.mp4").read_bytes()[:600])
    make_video(made / "mute.mp4", seconds=2, fps=2, size=(32, 32), audio_hz=None)
    return made


@pytest.fixture(scope="module")
def client(tiny_run: Path, folder: Path) -> Iterator[TestClient]:
    from avpea.serve.settings import Settings

    with served(Settings(runs=(str(tiny_run),), folder=folder, upload_mb=1, workers=1)) as client:
        yield client


def ids(client: TestClient) -> dict[str, str]:
    return {one["name"]: one["video"] for one in client.get("/v1/videos").json()}


def problem_in(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"].endswith(".")
    assert "\n" not in answer.json()["detail"]
    return str(answer.json()["detail"])


@pytest.mark.parametrize("path", ["/v1/videos/{id}/media", "/static/docs.js"])
def test_a_range_that_cannot_be_answered(client: TestClient, path: str) -> None:
    path = path.format(id=ids(client)["green.mp4"])
    size = len(client.get(path).content)
    for wanted in ("bytes=999999999-", "bytes=5-6,999999999-999999999", f"bytes={size}-{size}"):
        answer = client.get(path, headers={"Range": wanted})
        assert problem_in(answer, 416).startswith(f"The range '{wanted}' is outside the file, which has {size} bytes")
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.headers["x-content-type-options"] == "nosniff"
    for wanted in ("bytes=x-y", "bytes=", "bytes=9-2", "BYTES = x-y", "=", "bytes=" + "9" * 5000):
        detail = problem_in(client.get(path, headers={"Range": wanted}), 400)
        assert detail.startswith(f"The range '{wanted[:100]}' is none; expected bytes from 0")


@pytest.mark.parametrize("path", ["/v1/videos/{id}/media", "/static/docs.js"])
def test_a_range_of_another_unit_is_ignored(client: TestClient, path: str) -> None:
    """RFC 9110, 14.2."""
    path = path.format(id=ids(client)["green.mp4"])
    whole = client.get(path).content
    for wanted in ("lines=1-2", "seconds=0-", "bytes2=0-9", "none"):
        answer = client.get(path, headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (200, whole)
    assert client.get(path, headers={"Range": "Bytes=0-9"}).content == whole[:10]


def test_a_question_that_no_run_answers_says_what_the_runs_are_for(client: TestClient, tiny_asked_run: Path) -> None:
    from avpea.serve.settings import Settings

    found = problem_in(client.post("/v1/ask", json={"question": "?"}), 404)
    assert found == (
        "None of the server's runs answers questions: 'tiny' has the task avel; start it with a run that does."
    )
    assert "None of the server's runs writes captions: " in problem_in(client.post("/v1/caption"), 404)
    assert "/docs lists what there is" in problem_in(client.post("/v1/nothing"), 404)
    assert problem_in(client.get("/v1/ask"), 405).startswith("/v1/ask has no GET, but POST; ")
    assert "/v1/ask" not in client.get("/openapi.json").json()["paths"]
    with served(Settings(runs=(str(tiny_asked_run),), workers=1)) as asked:
        assert "None of the server's runs finds events: 'asked' has the task avqa" in problem_in(
            asked.get("/v1/review/next"), 404
        )


def test_a_method_that_a_path_lacks_names_those_that_it_has(client: TestClient) -> None:
    paths: dict[str, set[str]] = {
        path.replace("{video}", "none").replace("{run}", "none").replace("{job}", "none"): {one.upper() for one in some}
        for path, some in client.get("/openapi.json").json()["paths"].items()
    }
    paths |= {path: {"GET"} for path in ("/", "/docs", "/openapi.json", "/static/docs.js", "/static/none")}
    assert paths["/v1/videos"] == {"GET", "POST"}
    assert paths["/v1/videos/none/review"] == {"GET", "PUT"}
    for path, methods in paths.items():
        allowed = methods | ({"HEAD"} if "GET" in methods else set())
        for method in set(METHODS) - allowed:
            answer = client.request(method, path)
            assert answer.headers["allow"] == ", ".join(sorted(allowed)), (method, path)
            if method != "HEAD":  # which has no body
                problem_in(answer, 405)
        for method in allowed & {"GET", "HEAD"}:
            assert client.request(method, path).status_code != 405


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("OPTIONS", "/v1/videos", {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}, 403),
        ("OPTIONS", "/v1/videos", {"Access-Control-Request-Method": "PUT"}, 405),
        ("GET", "/static/", {}, 404),
        ("GET", "/static", {}, 404),
        ("GET", "/static/%00", {}, 404),
        ("GET", "/static/" + "a" * 5000, {}, 404),
        ("GET", "/%00%0a", {}, 404),
        ("GET", "/v1/videos/", {}, 404),
        ("GET", "/v1/review/next?run=" + "a" * 300, {}, 422),
        ("GET", "/v1/jobs/a%0Ab", {}, 404),
    ],
)
def test_other_errors_are_problems(
    client: TestClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = client.request(method, path, headers=headers)
    problem_in(answer, status)
    assert "access-control-allow-origin" not in answer.headers


def test_an_error_of_the_library_below_is_a_problem() -> None:
    """Whatever answers with text, and also when the server ends before the answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
        await send({"type": "http.response.body", "body": b"."})

    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    for app, status in ((plain, 418), (cancelled, 503)):
        sent.clear()
        asyncio.run(OnlyProblems(app)({"type": "http", "method": "GET", "headers": []}, receive, send))
        start, body = sent
        assert start["status"] == json.loads(body["body"])["status"] == status


def test_a_damaged_file_has_its_name_in_every_answer(client: TestClient, folder: Path) -> None:
    video, start = ids(client)["cut off.mp4"], "cut off.mp4: not a video, or cut off before its index (moov)"
    body, edit = {"video": video, "run": "tiny"}, {"events": [], "revision": 0}
    table = "start_seconds,end_seconds,label\n"
    asked = [
        client.get(f"/v1/videos/{video}"),
        *(client.get(f"/v1/videos/{video}/{what}") for what in ("frame", "thumbnail", "waveform", "spectrogram")),
        client.get(f"/v1/videos/{video}/attention?second=0"),
        client.put(f"/v1/videos/{video}/review", json=edit),
        client.post(f"/v1/videos/{video}/review/import?format=csv&revision=0", content=table),
        client.post("/v1/localize", json=body),
        client.post("/v1/localize", files={"file": ("a/cut off.mp4", (folder / "cut off.mp4").read_bytes())}),
        client.post("/v1/videos", files={"file": ("cut off.mp4", (folder / "cut off.mp4").read_bytes())}),
    ]  # fmt: skip
    for answer in asked:
        assert problem_in(answer, 422).startswith(start), answer.url
        assert str(folder) not in answer.text
    job = client.post("/v1/jobs", json={"kind": "localize", **body}).json()["job"]
    until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "failed")
    assert client.get(f"/v1/jobs/{job}").json()["problem"]["detail"].startswith(start)


def test_a_file_that_is_gone_has_its_name_too(client: TestClient, folder: Path) -> None:
    gone = coloured_video(folder / "gone.mp4", "red", 1, 2)
    until(lambda: "gone.mp4" in ids(client))
    video, server = ids(client)["gone.mp4"], client.app.state.server  # type: ignore[attr-defined]
    (found,) = (one for one in server.videos if one.id == video)
    gone.unlink()
    with pytest.raises(Problem, match=r"gone\.mp4 cannot be read any more; list the videos anew\."):
        server.videos.looked_at(found)
    problem_in(client.get(f"/v1/videos/{video}/media"), 404)


def test_a_remedy_is_one_of_the_api(client: TestClient) -> None:
    video = ids(client)["mute.mp4"]
    detail = problem_in(client.post("/v1/localize", json={"video": video}), 422)
    assert detail.endswith('Use a file with sound, or "missing_audio": "silence".')
    assert client.post("/v1/localize", json={"video": video, "missing_audio": "silence"}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/a.mp4", "a.mp4"),
        ("C:\\Users\\me\\a b.mp4", "a b.mp4"),
        ("dir/sub\\a.mp4", "a.mp4"),
        ("dir\\sub/a.mp4", "a.mp4"),
        ("/", "video"),
    ],
)
def test_an_upload_is_called_by_its_base_name(client: TestClient, folder: Path, sent: str, shown: str) -> None:
    """As curl sends it, which escapes backslashes."""
    escaped = sent.replace("\\", "\\\\")
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{escaped}"\r\n\r\n'.encode()
    body = head + (folder / "green.mp4").read_bytes() + b"\r\n--b--\r\n"
    answer = client.post("/v1/videos", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == shown
    client.delete(f"/v1/videos/{answer.json()['video']}")


def test_a_name_is_kept_otherwise(client: TestClient, folder: Path) -> None:
    key = uploaded(client, folder / "green.mp4", "a:b;c 'd'.mp4")
    assert client.get(f"/v1/videos/{key}").json()["name"] == "a:b;c 'd'.mp4"
