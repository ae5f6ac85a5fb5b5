"""The progress bar stays out of what is printed, wherever that goes."""

import os
import subprocess
import sys

import pytest

CODE = """
from avpea.progress import progress_bar
with progress_bar("Videos", 3) as advance:
    for number in range(3):
        print("line", number, flush=True)
        advance()
"""


def test_what_is_printed_goes_to_its_file_while_the_bar_is_on_a_terminal() -> None:
    pty = pytest.importorskip("pty")
    terminal, other = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=other, text=True, check=True)
        os.close(other)
        shown = os.read(terminal, 100_000).decode()
    finally:
        os.close(terminal)
    assert done.stdout.splitlines() == ["line 0", "line 1", "line 2"]
    assert "line" not in shown
    assert "3/3" in shown


def test_without_a_terminal_both_are_whole() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["line 0", "line 1", "line 2"]
    assert "3/3" in done.stderr


def test_a_full_disk_under_the_log_does_not_stop_the_work() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-u", "-c", CODE], stdout=subprocess.PIPE, stderr=full, check=True)
    assert done.stdout.splitlines() == [b"line 0", b"line 1", b"line 2"]
