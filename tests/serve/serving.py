"""Servers for tests: in this process behind FastAPI's client, or as a process of its own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from avpea.cli import main
from tests.workers import borrowed

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def served(settings: Any, **loading: Any) -> Iterator[TestClient]:
    """A server in this process; its parts are `client.app.state.server`."""
    from avpea.media import boxed
    from avpea.serve.app import make_app
    from avpea.serve.server import Server

    with boxed(settings.limits, settings.workers), borrowed():
        app = make_app(Server(settings, device="cpu", **loading))
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            yield client


def server_of(client: TestClient) -> Any:
    """The server behind a client."""
    return client.app.state.server  # type: ignore[attr-defined]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a command prints as JSON."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def uploaded(client: TestClient, video: Path, name: str = "clip.mp4") -> str:
    """The id of an upload."""
    with video.open("rb") as file:
        answer = client.post("/v1/videos", files={"file": (name, file)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["video"])


@contextlib.contextmanager
def listening(settings: Any, **loading: Any) -> Iterator[str]:
    """The address of a server that listens, in a thread of this process."""
    import uvicorn

    from avpea.media import boxed
    from avpea.serve.running import configured
    from avpea.serve.server import Server

    with boxed(settings.limits, settings.workers), borrowed():
        running = uvicorn.Server(configured(Server(replace(settings, port=0), device="cpu", **loading)))
        thread = threading.Thread(target=running.run)
        thread.start()
        try:
            until(lambda: running.started and running.servers)
            yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join(60)


class Process:
    """`avpea serve` as a process of its own.

    Args:
        words: Arguments after `serve`.
        temporary: Its folder for temporary files.
    """

    def __init__(self, *words: str, temporary: Path) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "avpea", "serve", *words, "--port", "0"],
            env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(lambda: any("Serving at" in line for line in self.said) or self.process.poll() is not None)
        found = re.search(r"http://[\d.]+:\d+", "".join(self.said))
        assert found, "".join(self.said)
        self.address = found[0]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(120)
        self._reader.join(10)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


def until(true: Any, seconds: float = 120.0) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)
