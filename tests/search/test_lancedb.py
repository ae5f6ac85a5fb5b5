"""LanceDB is imported without the clients of its cloud service, which are there when asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lancedb")

CODE = """
import sys
from avpea.search import Library

clients = "lance_namespace_urllib3_client"
try:
    Library(sys.argv[1])
except Exception as error:
    assert "no library" in str(error), error
assert "lancedb" in sys.modules and f"{clients}.models" in sys.modules
assert f"{clients}.api" not in sys.modules, "the clients were made"

import lance_namespace_urllib3_client as package
from lance_namespace_urllib3_client import TableApi
assert TableApi is sys.modules[f"{clients}.api.table_api"].TableApi is package.TableApi
assert sys.modules[clients] is package and package.__version__
assert package.CreateTableRequest is package.models.CreateTableRequest
"""


@pytest.mark.slow
def test_no_client_is_made_and_it_is_there_when_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
