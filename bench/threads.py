"""A training step with OpenMP's own way to wait, which spins, with threads that sleep at once, and as the command line
has it, on two cores.

python -m bench threads [--quick]

Three processes each hold the model of `mini/avel` (random weights) and take steps in turns, so that other load affects
all equally; once on the machine as it is, and once beside a process that keeps one core busy.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import IO, Any, cast

from avpea import measure
from avpea.threads import SETTLED

WAITING: dict[str, dict[str, str]] = {
    "spinning": {},
    "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"},
    "settled": SETTLED,
}
CORES = 2


def run(quick: bool) -> dict[str, Any]:
    rounds = 2 if quick else 9
    found: dict[str, Any] = {}
    with ExitStack() as running:
        processes = {way: running.enter_context(started(way)) for way in WAITING}
        actions = {way: partial(step, process) for way, process in processes.items()}
        for name, others in (("alone", 0), ("beside_one_busy_process", 1)):
            load = round(os.getloadavg()[0], 1)
            with busy(others):
                times = measure.interleaved(actions, rounds)
            found[name] = {
                "seconds": {way: round(min(each), 3) for way, each in times.items()},
                "spinning_over_settled": measure.ratio(times["spinning"], times["settled"]),
                "sleeping_over_settled": measure.ratio(times["sleeping"], times["settled"]),
                "load_before": load,
            }
    return {"what": __doc__, "command": "python -m bench threads", "machine": measure.machine(), "steps": found}


@contextmanager
def started(way: str) -> Iterator[subprocess.Popen[str]]:
    """A process that takes a step whenever it is asked to."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    rest = {name: value for name, value in os.environ.items() if name not in names}
    words = [sys.executable, "-m", "bench.threads"]
    environment = {**rest, **WAITING[way], "OMP_NUM_THREADS": str(CORES)}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        cast("IO[str]", process.stdout).readline()  # it is ready
        yield process
        process.kill()


def step(process: subprocess.Popen[str]) -> None:
    """One step; the process waits without computing before and after."""
    stdin, stdout = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
    stdin.write("step\n")
    stdin.flush()
    stdout.readline()


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that each keep a core busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    time.sleep(1)
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _serve() -> None:
    from avpea.compare.cost import TrainingStep
    from avpea.experiment import load_recipe

    take = TrainingStep(load_recipe("mini/avel").override({"train.device": "cpu", "train.threads": CORES}))
    take()
    print("ready", flush=True)
    for _ in sys.stdin:
        take()
        print("done", flush=True)


if __name__ == "__main__":
    _serve()
