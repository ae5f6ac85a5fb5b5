"""The API of `avpea serve`: what it answers is what the command line prints, and what a page shows of a video."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from tests.media_factory import make_video
from tests.serve.serving import printed, served, server_of, uploaded


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


@pytest.mark.parametrize("audio_seconds", [2, 6, 0.5, None])
def test_the_sound_is_drawn_at_its_time(client: TestClient, tmp_path: Path, audio_seconds: float | None) -> None:
    """Also if it ends before the picture, or after it, or is not there."""
    heard: dict[str, Any] = (
        {"audio_hz": None} if audio_seconds is None else {"audio_hz": 16_000, "audio_seconds": audio_seconds}
    )
    path = make_video(
        tmp_path / "short.mp4", seconds=4, size=(32, 32), audio_layout="mono",
        sound=lambda times: 0.9 * ((times > 0.25) & (times < 0.3)), **heard,
    )  # fmt: skip
    key = uploaded(client, path)
    found = client.get(f"/v1/videos/{key}/waveform?bins=1000").json()
    loud = [number / len(found["peaks"]) * found["seconds"] for number, one in enumerate(found["peaks"]) if one > 0.3]
    picture = Image.open(io.BytesIO(client.get(f"/v1/videos/{key}/spectrogram?columns=4000").content))
    assert picture.width == pytest.approx(100 * found["seconds"], rel=0.05)
    light = np.asarray(picture.convert("L"), float).mean(axis=0)
    if audio_seconds is None:
        assert loud == []
    else:
        assert min(loud) == pytest.approx(0.25, abs=0.06)
        assert max(loud) == pytest.approx(0.3, abs=0.06)
        assert int(light.argmax()) / picture.width * found["seconds"] == pytest.approx(0.275, abs=0.1)


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


def test_requests_are_counted_by_their_route(client: TestClient, video: Path) -> None:
    key = uploaded(client, video)
    before = counted(client)
    client.get(f"/v1/videos/{key}/media")
    client.get(f"/v1/videos/{key}/media", headers={"Range": "seconds=0-"})
    client.head(f"/v1/videos/{key}/media")
    client.get("/v1/videos/none")
    client.put("/v1/runs")
    client.get("/v1/nothing")
    after = counted(client)
    assert {one: value - before.get(one, 0) for one, value in after.items() if value != before.get(one, 0)} == {
        ("GET", "/v1/videos/{video}/media", "200"): 2,
        ("HEAD", "/v1/videos/{video}/media", "200"): 1,
        ("GET", "/v1/videos/{video}", "404"): 1,
        ("PUT", "/v1/runs", "405"): 1,
        ("GET", "other", "404"): 1,
        ("GET", "/metrics", "200"): 1,
    }


def counted(client: TestClient) -> dict[tuple[str, str, str], float]:
    """How many requests `/metrics` has of each method, route and status."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "avpea_requests_total"
    }


def test_pages_and_headers(client: TestClient) -> None:
    for path in ("/", "/docs", "/static/docs.js", "/openapi.json", "/healthz", "/readyz", "/metrics"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "script-src 'self';" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
