"""What several test files use: the development data, if it is there, and small media made on the spot."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# One thread for each process, torch's included, before anything imports torch: several run at once, and a thread that
# waits for another one spins on the core that this needs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# isort: split
import pytest
from hypothesis import HealthCheck, settings

import tests.shapes  # noqa: F401 (before what imports avpea)

# isort: split
from tests.object_store import object_store  # noqa: F401 (a fixture)
from tests.tiny import (  # noqa: F401 (fixtures)
    small_tower,
    small_vggish,
    tiny_asked_run,
    tiny_asking,
    tiny_captioned,
    tiny_captions,
    tiny_data,
    tiny_experiment,
    tiny_lanes,
    tiny_masked_run,
    tiny_masking,
    tiny_masks,
    tiny_matched_run,
    tiny_parsed_run,
    tiny_questions,
    tiny_roots,
    tiny_run,
    tiny_values,
    tiny_written_run,
)
from tests.workers import lasting

# Examples of hypothesis: few, and the same ones each time; with `--hypothesis-profile long` many, and others each time.
_CHECKS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("quick", max_examples=10, derandomize=True, deadline=None, suppress_health_check=_CHECKS)
settings.register_profile(
    "long",
    max_examples=int(os.environ.get("EXAMPLES", "3000")),
    deadline=None,
    suppress_health_check=_CHECKS,
    print_blob=True,
)
settings.load_profile("quick")

# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts and then sends it to.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A configuration folder for the tests, with a key of their own: what they write is theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session", autouse=True)
def without_java() -> Iterator[None]:
    """Captions are scored without METEOR, whose Java program takes ten seconds each time; its own tests start it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avpea.metrics.captioning.has_java", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def lasting_workers() -> Iterator[None]:
    """The processes that decode for commands; see `tests.workers`."""
    with lasting():
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with ave-mini/, clips/ and annotations/; tests that need it skip where it is absent."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("AVPEA_SHARED", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            "development data (ave-mini, clips, annotations) is not on this machine; set AVPEA_SHARED to its folder"
        )
    return folder
