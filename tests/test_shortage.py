"""Memory, threads and open files that are used up: a sentence on the command line, and exit code 1."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avpea.cli import main
from avpea.shortage import shortage_of

resource = pytest.importorskip("resource", reason="this system has no such limits")

MEMORY = "There is too little memory for this command; close other programs that use it."
THREADS = "No more threads or processes can be started; end others (`ulimit -u`)."
SAID = [
    (MemoryError(), MEMORY),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), MEMORY),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"), MEMORY),
    (RuntimeError("std::bad_alloc"), MEMORY),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), MEMORY),
    (RuntimeError("can't start new thread"), THREADS),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), THREADS),
    (OSError(errno.EMFILE, "Too many open files"), "Too many files are open (it may use 77); raise the limit"),
    (ImportError("No module named 'torch'"), ""),
    (OSError(errno.ENOSPC, "No space left on device"), ""),
    (BlockingIOError(errno.EAGAIN, "write could not complete without blocking"), ""),
]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The limits that this process seems to have: on open files only."""
    found = {resource.RLIMIT_NOFILE: 77}
    monkeypatch.setattr(resource, "getrlimit", lambda name: (found.get(name, resource.RLIM_INFINITY), 0))
    return found


@pytest.mark.parametrize(("error", "sentence"), SAID, ids=lambda one: str(one)[:40])
def test_what_is_used_up_is_a_sentence(
    error: Exception,
    sentence: str,
    limits: dict[int, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert shortage_of(error).startswith(sentence)
    assert bool(shortage_of(error)) == bool(sentence)

    def fail() -> None:
        raise error

    if sentence:
        monkeypatch.setattr("avpea.experiment.recipe_titles", fail)
        assert main(["recipes"]) == 1
        assert capsys.readouterr().err.startswith(f"avpea: {sentence}")


def test_a_limit_is_named(limits: dict[int, int]) -> None:
    limits[resource.RLIMIT_AS] = 2**30
    said = "There is too little memory for this command (it may use 1024 MiB); raise the limit (`ulimit -v`)."
    assert shortage_of(MemoryError()) == said
    assert shortage_of(RuntimeError("can't start new thread")) == said


LIMITED = "There is too little memory for this command (it may use {} MiB); raise the limit (`ulimit -v`)."
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds the address space")


def limited(megabytes: int, *words: str) -> "subprocess.Popen[str]":
    """Start Python with so much memory, where no terminal sends it signals."""
    shell = ["sh", "-c", f'ulimit -v {megabytes * 1024}; exec "$@"', "sh", sys.executable, *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(shell, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


@on_linux
@pytest.mark.parametrize("megabytes", [400, 1000])
def test_a_command_in_too_little_memory(megabytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch cannot even be loaded in it."""
    monkeypatch.chdir(tmp_path)
    started = limited(megabytes, "-m", "avpea", "predict", "run", "video.mp4", "--csv", "table.csv")
    assert started.communicate() == ("", f"avpea: {LIMITED.format(megabytes)}\n")
    assert started.returncode == 1
    assert list(tmp_path.iterdir()) == []


ENDED = """
import os, sys
from avpea import experiment
from avpea.cli import main
experiment.recipe_titles = lambda: {}
sys.exit(main(["recipes"]))
"""


@on_linux
@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ("os.abort()", 1, LIMITED.format(800)),
        ("os.kill(os.getpid(), 11)", 1, LIMITED.format(800)),
        ("sys.exit(7)", 7, ""),
        ("os.kill(os.getppid(), 15) or __import__('time').sleep(60)", 143, "stopped; what was finished is kept"),
        ("os.kill(os.getppid(), 2) or __import__('time').sleep(60)", 130, "stopped; what was finished is kept"),
    ],
)
def test_what_a_library_ends_without_a_word_is_told(call: str, code: int, said: str) -> None:
    """As C++ does that gets no memory; requests to end reach the command, and its exit code is the same."""
    started = limited(800, "-c", ENDED.format(call))
    printed, errors = started.communicate(timeout=60)
    assert (printed, started.returncode) == ("", code)
    assert errors.startswith(f"avpea: {said}" if said else "")
    assert len(errors.splitlines()) == bool(said)


WITNESSED = """
import os, sys, time
from avpea.shortage import witnessed

def command():
    print(os.getpid(), flush=True)
    time.sleep(300)

witnessed(command, print)
"""


@on_linux
def test_a_command_ends_with_the_process_that_watches_it() -> None:
    """So that a training whose process was killed is not still going on when the same command is given again."""
    with limited(8000, "-c", WITNESSED) as watching:
        assert watching.stdout is not None
        child = int(watching.stdout.readline())
        assert child != watching.pid
        watching.kill()
    until = time.monotonic() + 20
    while time.monotonic() < until and _is_there(child):
        time.sleep(0.1)
    assert not _is_there(child)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")  # nobody waits for it here
