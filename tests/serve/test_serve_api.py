"""The API of `avpea serve`: what it answers is what the command line prints, and what it refuses is a problem."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from avpea.cli import main
from tests.media_factory import make_video
from tests.serve.serving import served, until, uploaded


@pytest.fixture(scope="module")
def client(tiny_run: Path, tiny_asked_run: Path, own_videos: Path) -> Iterator[TestClient]:
    from avpea.serve.settings import Settings

    runs = str(tiny_run), str(tiny_asked_run)
    with served(Settings(runs=runs, folder=own_videos, upload_mb=1, video_seconds=60)) as client:
        yield client


@pytest.fixture
def video(tiny_data: Path) -> Path:
    return tiny_data / "AVE" / "g4.mp4"


def server_of(client: TestClient) -> Any:
    return client.app.state.server  # type: ignore[attr-defined]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def conforms(found: Any, kind: Any) -> None:
    """Whether plain values have exactly the keys and types of a form that `avpea.schemas` declares."""
    assert TypeAdapter(kind).validate_python(found, strict=True) == found  # what is not declared is left out


def test_runs_say_what_they_can(client: TestClient) -> None:
    found = {one["run"]: one for one in client.get("/v1/runs").json()}
    assert found["tiny"]["can"] == ["localize"]
    assert found["tiny"]["classes"] == ["green", "red"]
    assert found["tiny"]["window_seconds"] == 3
    assert found["asked"]["can"] == ["ask"]


def test_localize_is_what_predict_prints(
    client: TestClient, tiny_run: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avpea.schemas import Localized

    expected = {**printed(capsys, "predict", str(tiny_run), str(video)), "video": "g4.mp4"}
    conforms(expected, Localized)
    key = uploaded(client, video, "g4.mp4")
    assert client.post("/v1/localize", json={"run": "tiny", "video": key}).json() == expected
    with video.open("rb") as file:
        answer = client.post("/v1/localize", files={"file": ("g4.mp4", file)}, data={"run": "tiny"})
    assert answer.json() == expected
    assert list(answer.json()) == list(expected)
    stricter = {**printed(capsys, "predict", str(tiny_run), str(video), "--threshold", "0.9"), "video": "g4.mp4"}
    assert client.post("/v1/localize", json={"video": key, "threshold": 0.9}).json() == stricter


def test_ask_is_what_ask_prints(
    client: TestClient, tiny_asked_run: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avpea.schemas import Reply

    video, question = tiny_data / "AVE" / "r4.mp4", "Is the red ever seen?"
    expected = {**printed(capsys, "ask", str(tiny_asked_run), str(video), question), "video": "r4.mp4"}
    conforms(expected, Reply)
    names = {one["name"]: one["video"] for one in client.get("/v1/videos").json()}
    assert client.post("/v1/ask", json={"video": names["r4.mp4"], "question": question}).json() == expected


def test_captions_are_what_caption_prints(
    tiny_written_run: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avpea.schemas import Captions
    from avpea.serve.settings import Settings

    expected = {**printed(capsys, "caption", str(tiny_written_run), str(video)), "video": "g4.mp4"}
    conforms(expected, Captions)
    with served(Settings(runs=(str(tiny_written_run),), workers=1)) as client, video.open("rb") as file:
        assert client.post("/v1/caption", files={"file": ("g4.mp4", file)}).json() == expected


def test_masks_and_lanes_are_what_the_commands_print(
    tiny_masked_run: Path, tiny_parsed_run: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avpea.schemas import Lanes, Masks
    from avpea.serve.settings import Settings

    runs: dict[str, tuple[str, Path, Any]] = {
        "segment": ("segment", tiny_masked_run, Masks), "parse": ("predict", tiny_parsed_run, Lanes)
    }  # fmt: skip
    settings = Settings(runs=(str(tiny_masked_run), str(tiny_parsed_run)), workers=1)
    with served(settings) as client:
        key = uploaded(client, video, "g4.mp4")
        for kind, (command, run, form) in runs.items():
            expected = {**printed(capsys, command, str(run), str(video)), "video": "g4.mp4"}
            conforms(expected, form)
            assert client.post(f"/v1/{kind}", json={"video": key}).json() == expected


def test_media_come_in_ranges(client: TestClient, video: Path) -> None:
    key = uploaded(client, video)
    whole = client.get(f"/v1/videos/{key}/media")
    assert whole.content == video.read_bytes()
    assert whole.headers["content-type"] == "video/mp4"
    part = client.get(f"/v1/videos/{key}/media", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, video.read_bytes()[10:20])


def test_what_a_page_shows_of_a_video(client: TestClient, video: Path) -> None:
    key = uploaded(client, video)
    found = client.get(f"/v1/videos/{key}/waveform?bins=30").json()
    assert found["seconds"] == pytest.approx(3, abs=0.1)
    assert len(found["peaks"]) == 30
    assert 0.4 < max(found["peaks"]) < 0.6
    assert client.get(f"/v1/videos/{key}/spectrogram").content.startswith(b"\x89PNG")
    assert client.get(f"/v1/videos/{key}/frame?second=1.5").content.startswith(b"\xff\xd8")
    assert client.get(f"/v1/videos/{key}/thumbnail").content.startswith(b"\xff\xd8")
    assert client.get(f"/v1/videos/{key}/frame?second=3").status_code == 422


def test_attention_is_that_of_the_whole_clip(client: TestClient, tiny_run: Path, video: Path) -> None:
    import avpea

    predictor = avpea.load(tiny_run, device="cpu")
    maps = predictor.attention(predictor.read(video), 1)
    key = uploaded(client, video)
    found = client.get(f"/v1/videos/{key}/attention?run=tiny&second=1").json()
    for name in ("sound_looked", "image_listened"):
        expected = getattr(maps, name).mean(dim=0).tolist()
        assert found[name] == [pytest.approx(row, abs=2e-6) for row in expected]


def test_an_upload_can_be_deleted_and_a_video_of_the_folder_cannot(client: TestClient, video: Path) -> None:
    key = uploaded(client, video)
    (path,) = [one.path for one in server_of(client).videos if one.id == key]
    assert client.delete(f"/v1/videos/{key}").status_code == 204
    assert not path.exists()
    assert client.get(f"/v1/videos/{key}/media").status_code == 404
    (own,) = [
        one["video"] for one in client.get("/v1/videos").json() if one["name"] == "g4.mp4" and not one["uploaded"]
    ]
    assert client.delete(f"/v1/videos/{own}").status_code == 404
    assert video.exists()


def state(client: TestClient, job: str) -> Any:
    return client.get(f"/v1/jobs/{job}").json()


def test_a_job_is_done(client: TestClient, video: Path) -> None:
    key = uploaded(client, video)
    job = client.post("/v1/jobs", json={"kind": "localize", "run": "tiny", "video": key}).json()["job"]
    until(lambda: state(client, job)["state"] == "done")
    expected = client.post("/v1/localize", json={"run": "tiny", "video": key}).json()
    assert state(client, job)["result"] == expected
    assert client.delete(f"/v1/jobs/{job}").json()["state"] == "done"


def test_a_failed_job_says_why(client: TestClient, tmp_path: Path, video: Path) -> None:
    key = uploaded(client, video)
    body = {"kind": "localize", "video": key, "audio_track": 7}
    job = client.post("/v1/jobs", json=body).json()["job"]
    until(lambda: state(client, job)["state"] == "failed")
    problem = state(client, job)["problem"]
    assert problem["status"] == 422
    assert problem["detail"].startswith("clip.mp4: audio_track is 7; expected 0 to 0")


@pytest.fixture
def held(client: TestClient) -> Iterator[Callable[[], None]]:
    """All threads of the server are busy until the returned function is called."""
    server, free = server_of(client), threading.Event()
    for _ in range(server.settings.at_once):
        server.work.submit("held", lambda piece: free.wait(120))
    until(lambda: server.work.running == server.settings.at_once)
    yield free.set
    free.set()
    until(lambda: server.work.running == 0)


def test_a_full_queue_is_answered_with_503(
    client: TestClient, video: Path, held: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = [
        one["video"] for one in client.get("/v1/videos").json() if one["name"] == "g4.mp4" and not one["uploaded"]
    ]
    body = {"kind": "localize", "video": key}
    jobs = [client.post("/v1/jobs", json=body).json()["job"] for _ in range(server_of(client).settings.waiting)]
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.json()["detail"].startswith("32 requests wait already")
    assert client.get("/healthz").status_code == 200
    assert state(client, jobs[0])["state"] == "queued"
    for job in jobs[1:]:
        client.delete(f"/v1/jobs/{job}")
    held()
    until(lambda: state(client, jobs[0])["state"] == "done")
    assert {state(client, job)["state"] for job in jobs[1:]} == {"cancelled"}


def test_what_waits_is_encoded_together_and_answers_stay_the_same(client: TestClient, video: Path) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    server = server_of(client)
    expected = client.post("/v1/localize", json={"video": uploaded(client, video)}).json()
    key, free = uploaded(client, video), threading.Event()
    blocker = threading.Thread(target=server.engine.call, args=(lambda: free.wait(120),))
    blocker.start()
    jobs = [client.post("/v1/jobs", json={"kind": "localize", "video": key}).json()["job"] for _ in range(4)]
    until(lambda: all((state(client, job)["progress"] or {}).get("stage") == "window" for job in jobs))
    free.set()
    blocker.join()
    until(lambda: all(state(client, job)["state"] == "done" for job in jobs))
    assert all(state(client, job)["result"] == expected for job in jobs)
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.labels.get("le") in (None, "2.0")
    }
    assert found["avpea_batch_windows_count"] > found["avpea_batch_windows_bucket"]  # a batch of more than two


def test_reading_is_stopped_when_a_job_is_cancelled(client: TestClient, video: Path) -> None:
    from avpea.media.box import Pool, current

    key, pool = uploaded(client, video), current()
    assert isinstance(pool, Pool)
    pool.start()
    for process in pool.process_ids:
        os.kill(process, signal.SIGSTOP)
    job = client.post("/v1/jobs", json={"kind": "localize", "video": key}).json()["job"]
    until(lambda: (state(client, job)["progress"] or {}).get("stage") == "decoding")
    assert state(client, job)["state"] == "running"
    client.delete(f"/v1/jobs/{job}")
    until(lambda: state(client, job)["state"] == "cancelled")
    for process in pool.process_ids:
        os.kill(process, signal.SIGCONT)
    assert client.post("/v1/localize", json={"video": key}).status_code == 200


@pytest.fixture
def long_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video of several parts, which may not be read as a whole."""
    monkeypatch.setattr("avpea.media.film.AT_ONCE_SECONDS", 3)
    monkeypatch.delattr("avpea.predict.VideoView.decoded")
    return make_video(tmp_path / "long.mp4", seconds=16.5)


def test_a_long_video_is_read_in_parts(
    client: TestClient, tiny_run: Path, long_video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = printed(capsys, "predict", str(tiny_run), str(long_video))
    key = uploaded(client, long_video, "long.mp4")
    answer = client.post("/v1/localize", json={"run": "tiny", "video": key})
    assert answer.json() == {**expected, "video": "long.mp4"}


def test_a_long_video_is_let_go_of_when_its_job_is_cancelled(client: TestClient, long_video: Path) -> None:
    server, free = server_of(client), threading.Event()
    blocker = threading.Thread(target=server.engine.call, args=(lambda: free.wait(120),))
    blocker.start()
    key = uploaded(client, long_video)
    job = client.post("/v1/jobs", json={"kind": "localize", "video": key}).json()["job"]
    until(lambda: (state(client, job)["progress"] or {}).get("stage") == "window")
    client.delete(f"/v1/jobs/{job}")
    free.set()
    blocker.join()
    until(lambda: state(client, job)["state"] == "cancelled")
    until(lambda: not any("_decode" in thread.name for thread in threading.enumerate()))
    assert client.delete(f"/v1/videos/{key}").status_code == 204


def test_pages_and_headers(client: TestClient) -> None:
    for path in ("/", "/docs", "/static/docs.js", "/openapi.json", "/healthz", "/readyz", "/metrics"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "script-src 'self';" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


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
        ("POST", "/v1/search", {"json": {"text": "a dog"}}, 422),
        ("POST", "/v1/jobs", {"json": {"kind": "caption", "video": "x"}}, 422),
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


def test_a_longer_video_is_refused_before_it_is_decoded(client: TestClient, tmp_path: Path) -> None:
    from tests.media_factory import make_video

    video = make_video(tmp_path / "long.mp4", seconds=61, fps=2, size=(32, 32), audio_hz=8000)
    with video.open("rb") as file:
        answer = client.post("/v1/videos", files={"file": ("long.mp4", file)})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("long.mp4 lasts 61 s; expected at most 60 s")


def test_names_of_files_are_text(client: TestClient, video: Path) -> None:
    name = '<img src=x onerror=alert(1)>\u202e"\x1b[2J.mp4'
    key = uploaded(client, video, name)
    found = client.get(f"/v1/videos/{key}").json()["name"]
    assert "<img" in found  # it is JSON; the page shows it as text
    assert not set(found) & {"\x1b", "\u202e"}
    answer = client.get(f"/v1/videos/{key}/media")
    assert answer.headers["content-disposition"] == "inline"


def test_a_head_request_is_a_get_request_without_the_body(client: TestClient, video: Path) -> None:
    key = uploaded(client, video)
    for path in ("/healthz", "/v1/runs", f"/v1/videos/{key}/media", "/v1/videos/none/media"):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-length"] == str(len(whole.content))
    assert client.head("/v1/localize").status_code == 405


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
