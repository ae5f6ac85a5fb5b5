"""Several processes of this machine that train together, as a launcher would start them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.tiny import processes


def together(count: int, function: Callable[..., Any], *given: Any) -> list[Any]:
    """Call a function of a test module in several processes, each joined to the others, and return its results.

    Args:
        count: Number of processes.
        function: Function at the top of a module.
        given: Its arguments.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = processes()
    results = context.Queue()
    arguments = (count, store.port, results, function, given)
    started = [context.Process(target=_call, args=(rank, *arguments)) for rank in range(count)]
    for process in started:
        process.start()
    found = dict(results.get(timeout=200) for _ in started)
    for process in started:
        process.join(timeout=60)
    for value in found.values():
        if isinstance(value, BaseException):
            raise value
    return [found[rank] for rank in range(count)]


def _call(rank: int, processes: int, port: int, results: Any, function: Callable[..., Any], given: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    torch.set_num_threads(1)
    try:
        results.put((rank, function(*given)))
    except Exception as error:
        results.put((rank, RuntimeError(f"{type(error).__name__}: {error}")))


def trained(values: dict[str, Any], run: str) -> dict[str, Any]:
    """Train in float64 and without dropout; the trained weights, the lines of metrics and the number of steps."""
    from avpea.experiment import Experiment
    from avpea.train import train

    kept = in_float64()
    train(Experiment.from_dict(values), Path(run), progress=False)
    return kept


def in_float64() -> dict[str, Any]:
    """Let this process train in float64 and without dropout from now on; what `trained` returns, once it has."""
    from avpea.train import _Training

    torch.set_default_dtype(torch.float64)
    kept: dict[str, Any] = {}
    run_whole, calibrate = _Training.run, _Training.calibrate

    def without_dropout(training: Any) -> Any:
        for module in training.model.double().modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        for name, parameter in training.model.named_parameters():
            if "gate" in name and not parameter.ndim:
                # With closed gates, frames that look alike have the very same tokens, and rounding decides which of
                # them is the best for a word.
                nn.init.constant_(parameter, 0.1)
        return run_whole(training)

    def last(training: Any) -> None:
        state = training.model.trained_state()
        kept["weights"] = {name: value.detach().clone().numpy() for name, value in state.items()}
        kept["metrics"] = training.position.metrics
        kept["steps"] = training.position.step
        calibrate(training)

    patched: Any = _Training
    patched.run, patched.calibrate = without_dropout, last
    return kept


def refused(values: list[dict[str, Any]], run: str, folders: list[str]) -> str:
    """Why a training is refused, to which each process brings its own experiment from its own working directory."""
    from avpea.errors import AvpeaError
    from avpea.experiment import Experiment
    from avpea.train import train

    rank = int(os.environ["RANK"])
    os.chdir(folders[rank])
    try:
        train(Experiment.from_dict(values[rank]), Path(run), progress=False)
    except AvpeaError as error:
        return str(error)
    return ""
