"""Videos that a server of the tests may keep reviews beside."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def own_videos(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny videos: reviews are kept in a folder beside them, and others list the shared folder."""
    return shutil.copytree(tiny_data / "AVE", tmp_path_factory.mktemp("served") / "AVE")
