"""A server of two tiny runs, and videos that it may keep reviews beside."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def own_videos(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny videos: reviews are kept in a folder beside them, and others list the shared folder."""
    return shutil.copytree(tiny_data / "AVE", tmp_path_factory.mktemp("served") / "AVE")


@pytest.fixture(scope="module")
def client(tiny_run: Path, tiny_asked_run: Path, own_videos: Path) -> Iterator[Any]:
    from avpea.serve.settings import Settings
    from tests.serve.serving import served

    runs = str(tiny_run), str(tiny_asked_run)
    with served(Settings(runs=runs, folder=own_videos, upload_mb=1, video_seconds=60)) as client:
        yield client


@pytest.fixture
def video(tiny_data: Path) -> Path:
    return tiny_data / "AVE" / "g4.mp4"
