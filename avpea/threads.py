"""How many cores this process may use, and what the command line sets so that threads wait without taking them."""

import math
import os
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

__all__ = ["SETTLED", "WATCHING", "settle", "usable_cores"]

WATCHING = "avpea-watching"  # the name of threads that wait for another process and import nothing

# Waiting as the command line has it: GNU's OpenMP, which torch has on Linux, spins a thousand times (some microseconds)
# before a thread sleeps, enough for the end of most layers; other kinds of OpenMP sleep at once.
SETTLED = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
# With any of these, the user has decided how the threads of OpenMP wait.
_WAITING = (*SETTLED, "KMP_BLOCKTIME")
_COUNTS = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS")


def settle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set OpenMP up for a machine that is shared, unless the user has set it or torch, which reads this, is imported.

    By default a thread that waits for the others spins for milliseconds. Where another process needs that core, the
    thread that is waited for does not run, and a training step takes several times as long. One that sleeps at once has
    to be woken for each layer, which takes longer where nobody else computes. `python -m bench threads` measures both,
    and what is set here, which lies between. And OpenMP knows the cores that a process is bound to, but not a
    container's quota: then there are as many threads as the host has cores, and the quota is used up by spinning.
    """
    if "torch" in sys.modules:
        return
    if not any(name in environment for name in _WAITING):
        environment.update(SETTLED)
    if not any(name in environment for name in _COUNTS) and (cores := usable_cores()) < _bound():
        environment["OMP_NUM_THREADS"] = str(cores)


def usable_cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Number of cores that this process may use: those it is bound to, or fewer by the quota of its control group.

    Args:
        groups: Where control groups are mounted, of version 1 or 2.
        own: The file that names this process's groups.
    """
    quotas = [quota for quota in _quotas(groups, own) if quota > 0]
    return max(1, min([_bound(), *map(math.floor, quotas)]))


def _bound() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """The quota of each control group that this process is in, in cores; those without a limit are left out."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 1 has a hierarchy for each controller. In a container the group may be mounted as the root.
        mounted = groups if not controllers else next(
            (place for place in (groups / controllers, groups / "cpu") if place.is_dir()), groups / "cpu,cpuacct"
        )  # fmt: skip
        inside = Path(name.strip("/"))
        for group in (inside, *inside.parents):
            yield from _quota(mounted / group)


def _quota(group: Path) -> Iterator[float]:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text(encoding="utf-8") for name in names).split()
            yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or `max`: no limit
            continue
