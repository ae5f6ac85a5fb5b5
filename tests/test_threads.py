"""Cores that a process may use, and what the command line sets for OpenMP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avpea.threads import SETTLED, settle, usable_cores


def cores(tmp_path: Path, own: str, files: dict[str, str]) -> int:
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "own").write_text(own, encoding="utf-8")
    return usable_cores(tmp_path / "groups", tmp_path / "own")


TWO = "0::/kubepods/pod1/box\n"
ONE = "12:memory:/docker/box\n4:cpu,cpuacct:/docker/box\n1:name=systemd:/docker/box\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (TWO, {"kubepods/pod1/box/cpu.max": "400000 100000\n"}, 4),
        (TWO, {"kubepods/pod1/box/cpu.max": "max 100000\n", "kubepods/pod1/cpu.max": "250000 100000\n"}, 2),
        (TWO, {"kubepods/cpu.max": "300000 100000\n", "kubepods/pod1/box/cpu.max": "600000 100000\n"}, 3),
        (TWO, {"kubepods/pod1/box/cpu.max": "50000 100000\n"}, 1),
        (TWO, {"kubepods/pod1/box/cpu.max": "max 100000\n"}, 8),
        (TWO, {"cpu.max": "200000 100000\n"}, 2),  # in a container, whose own group is the root
        (TWO, {"kubepods/pod1/box/cpu.max": "nonsense\n"}, 8),
        (TWO, {}, 8),
        (ONE, {"cpu/docker/box/cpu.cfs_quota_us": "300000\n", "cpu/docker/box/cpu.cfs_period_us": "100000\n"}, 3),
        (ONE, {"cpu,cpuacct/cpu.cfs_quota_us": "150000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1),
        (ONE, {"cpu/docker/box/cpu.cfs_quota_us": "-1\n", "cpu/docker/box/cpu.cfs_period_us": "100000\n"}, 8),
        (ONE, {"cpu/docker/box/cpu.cfs_quota_us": "100000\n", "cpu/docker/box/cpu.cfs_period_us": "0\n"}, 8),
    ],
)
def test_quotas_of_both_versions(
    own: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores(tmp_path, own, files) == expected


def test_the_cores_that_it_is_bound_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert cores(tmp_path, TWO, {"kubepods/pod1/box/cpu.max": "400000 100000\n"}) == 2
    assert usable_cores(tmp_path / "none", tmp_path / "none") == 2


def test_settings_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr("avpea.threads.usable_cores", lambda: 2)
    monkeypatch.setattr("avpea.threads._bound", lambda: 64)
    mine: dict[str, str] = {}
    settle(mine)
    assert mine == SETTLED | {"OMP_NUM_THREADS": "2"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        theirs = {name: "1", "OMP_NUM_THREADS": "7"}
        settle(theirs)
        assert theirs == {name: "1", "OMP_NUM_THREADS": "7"}
    monkeypatch.setattr("avpea.threads._bound", lambda: 2)
    whole: dict[str, str] = {}
    settle(whole)
    assert whole == SETTLED  # without a quota the count is OpenMP's own


def test_where_torch_is_imported_nothing_is_set() -> None:
    import torch  # noqa: F401

    untouched: dict[str, str] = {}
    settle(untouched)
    assert untouched == {}


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("from avpea.cli import main; main(['recipes'])", "PASSIVE 1000"),
        ("import avpea; avpea.load", "None None"),
    ],
)
@pytest.mark.slow
def test_the_command_line_sets_it_and_the_library_does_not(program: str, expected: str) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    told = "print(*(os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')))"
    words = [sys.executable, "-c", f"{program}; import os; {told}"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == expected
