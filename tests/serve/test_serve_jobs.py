"""What takes long: jobs, a queue that is full, windows that are encoded together, long videos, and cancelling."""

import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fastapi.testclient import TestClient

from avpea.serve.problems import Problem
from avpea.serve.work import Piece, Work
from tests.media_factory import make_video
from tests.serve.serving import printed, server_of, until, uploaded


class Clip:
    """What takes memory."""


def require(true: bool, clip: Clip) -> None:
    """Fail in a frame that has the clip."""
    if not true:
        raise ValueError("no")


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


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
def test_a_job_that_has_ended_keeps_nothing_that_it_was_about(end: str) -> None:
    """Neither the function, with the run that it was for, nor by an error what was decoded."""
    work, known = Work(1, 1), list[Any]()

    def about(run: Clip, piece: Piece) -> bytes:
        clip, piece_of_it = Clip(), run
        known.extend(map(weakref.ref, (clip, piece_of_it)))
        try:
            require(end != "failed", clip)
        except ValueError as error:
            raise Problem(422, "It is too long.") from error
        if end == "cancelled":
            piece.cancel()
            piece.require_wanted()
        return b"[]"

    piece = work.submit("localize", partial(about, Clip()), keep=True)
    until(lambda: piece.state == end)
    work.close()
    gc.collect()
    assert len(known) == 2
    assert [one() for one in known] == [None, None]
    assert work.get(piece.id) is piece
    if end == "failed":
        assert piece.future.exception().body()["detail"] == "It is too long."  # type: ignore[union-attr]


def test_what_nobody_foresaw_is_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    piece = Piece("localize", lambda piece: [][1], 60)
    piece.run()
    assert str(piece.future.exception()).startswith("The server failed (IndexError)")
    assert caplog.records[0].exc_info[2].tb_next is not None  # type: ignore[index, union-attr]


def test_results_are_bounded_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avpea.serve.work.KEPT_BYTES", 100)
    work, free = Work(2, 9), threading.Event()
    first = work.submit("slow", lambda piece: free.wait(120) and b"x" * 40, keep=True)
    some = []
    for size in (30, 60, 20, 500):
        some.append(work.submit("localize", lambda piece, size=size: b"x" * size, keep=True))  # type: ignore[misc]
        until(lambda: some[-1].state == "done" and work.running == 1)
        kept = [one for one in some if one.id in work._kept]
        assert sum(one.size for one in kept[:-1]) <= 100
    assert kept == some[-1:]  # the newest stays, also alone
    free.set()
    until(lambda: first.state == "done" and work.running == 0)
    assert list(work._kept) == [first.id]  # it ended last
    work.close()


@pytest.fixture
def long_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video of several parts, which may not be read as a whole."""
    monkeypatch.setattr("avpea.media.film.PART_SECONDS", 3)
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
