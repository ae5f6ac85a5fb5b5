"""A server with a library: what it finds, also after a run is loaded again and after others have indexed more."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.checkpoint import MODEL_FILE, save_model
from avpea.predict import load

pytest.importorskip("lancedb")


def names(client: Any, **asked: Any) -> set[str]:
    answer = client.post("/v1/search", json={"text": "a green light", **asked})
    assert answer.status_code == 200, answer.text
    return {one["file"] for one in answer.json()}


def test_a_library_that_goes_on_and_a_run_that_is_loaded_again(
    tiny_captions: Path, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avpea.search import index
    from avpea.serve.settings import Settings
    from tests.serve.serving import served

    monkeypatch.setattr("avpea.search._library.LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder, library = tmp_path / "videos", str(tmp_path / "library")
    folder.mkdir()
    run = shutil.copytree(tiny_matched_run, tmp_path / "matched")
    shutil.copy(tiny_captions / "videos" / "g4.mp4", folder)
    index(run, folder, library, device="cpu", progress=False)
    with served(Settings(runs=(str(run),), folder=folder, library=library)) as client:
        assert names(client) == {"g4.mp4"}
        assert client.post("/v1/runs/matched/reload").json()["can"] == ["search"]
        assert names(client, top=2) == {"g4.mp4"}

        shutil.copy(tiny_captions / "videos" / "r4.mp4", folder)
        index(run, folder, library, device="cpu", progress=False)
        assert names(client) == {"g4.mp4", "r4.mp4"}
        assert names(client, text="a\nlight", by="sound") == {"g4.mp4", "r4.mp4"}

        predictor = load(run)
        with torch.no_grad():
            next(iter(predictor.model.trained_state().values())).add_(0.01)
        experiment, labels = predictor.info.experiment, predictor.model.task.labels
        save_model(run / MODEL_FILE, predictor.model, experiment, labels, {"epoch": 2, "selected_on": "val"})
        assert client.post("/v1/runs/matched/reload").json()["can"] == []
        assert names(client) == {"g4.mp4", "r4.mp4"}  # by the model that indexed it


def test_two_reloads_at_once_leave_the_library_with_the_run(
    tiny_captions: Path, tiny_matched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avpea.search import index
    from avpea.serve.server import Server
    from avpea.serve.settings import Settings

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder, library = tmp_path / "videos", str(tmp_path / "library")
    folder.mkdir()
    shutil.copy(tiny_captions / "videos" / "g4.mp4", folder)
    index(tiny_matched_run, folder, library, device="cpu", progress=False)
    server = Server(Settings(runs=(str(tiny_matched_run),), library=library), device="cpu")
    (name,) = [run.name for run in server.models.all()]
    usual, loaded, free = server.models.reload, threading.Event(), threading.Event()

    def slow(name: str) -> Any:
        run = usual(name)
        if not loaded.is_set():  # the first one of the two
            loaded.set()
            free.wait(60)
        return run

    monkeypatch.setattr(server.models, "reload", slow)
    both = [threading.Thread(target=server.reload, args=(name,)) for _ in range(2)]
    both[0].start()
    assert loaded.wait(60)
    both[1].start()
    both[1].join(1)
    free.set()
    for one in both:
        one.join(60)
    server.close()
    assert "search" in server.described(server.models.get(name))["can"]
