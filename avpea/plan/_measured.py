"""Rates that are measured here, by `avpea.plan.rehearse` in processes of their own."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

import torch

from avpea.errors import AvpeaError, ExperimentError
from avpea.experiment import Experiment
from avpea.plan._sizes import Sizes
from avpea.threads import usable_cores

__all__ = ["measured"]


def measured(experiment: Experiment, place: torch.device, share: int, sizes: Sizes) -> dict[str, float]:
    """Measure rates with a few steps; on the CPU as many processes at once as will train, up to the cores.

    Args:
        experiment: The experiment.
        place: Device to compute on.
        share: Number of samples of a batch that one process computes.
        sizes: The samples.

    Returns:
        Rates by name: the slowest process's.

    Raises:
        AvpeaError: A step cannot be taken; says why.
    """
    config, cores = experiment.train, usable_cores()
    together = min(config.devices, cores) if place.type == "cpu" else 1
    alone = experiment.override({"train.batch_size": share, "train.devices": 1, "train.device": str(place)})
    job = {"experiment": alone.to_dict(), "data": sizes.labels is not None, "decode": sizes.to_read}
    environment = dict(os.environ)
    if config.devices > 1 and place.type == "cpu":
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // config.devices)))
    command = [sys.executable, "-m", "avpea.plan.rehearse"]
    with TemporaryDirectory(prefix="avpea-plan-") as folder, ExitStack() as ended:
        processes = []
        for number in range(together):
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            ended.callback(_end, process)
            assert process.stdin is not None
            process.stdin.write(json.dumps({**job, "folder": f"{folder}/{number}", "began": time.monotonic()}))
            process.stdin.close()
            process.stdin = None
            processes.append(process)
        each = [_rates(process) for process in processes]
    found = {name: max(one[name] for one in each) for name in each[0]}
    if place.type == "cpu" and config.devices > cores:
        found["step_seconds"] *= config.devices / cores  # they take turns
    return found


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def _rates(process: "subprocess.Popen[str]") -> dict[str, float]:
    said, wrong = process.communicate()
    if process.returncode:
        last = (wrong.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise ExperimentError(
            f"A step of this recipe cannot be measured here ({last[:300]}); --no-measure estimates it instead."
        )
    found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    if "error" in found:
        raise AvpeaError(found["error"])
    return found
