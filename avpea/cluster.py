"""Ray, for bulk work here or on the cluster that `RAY_ADDRESS` names: how it starts, and who gets which card."""

import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from avpea.device import choose_device
from avpea.errors import AvpeaError, ExperimentError
from avpea.stopping import handled, kept_handlers

__all__ = ["cards", "device_of_workers", "joined", "workers_of"]


@contextmanager
def joined(what: str) -> Iterator[None]:
    """In this block, join the cluster that `RAY_ADDRESS` names, or one that is started here and ended after it.

    What Ray prints goes to stderr, as stdout is for answers.

    Args:
        what: What needs it, for the error, such as `Indexing`.

    Raises:
        AvpeaError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise AvpeaError(f"{what} with several workers needs Ray: pip install 'avpea[scale]'") from None
    own = not ray.is_initialized()
    with redirect_stdout(sys.stderr):
        if own:
            with kept_handlers():  # Ray's own ends the process at SIGTERM, without a word about what is kept
                ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield
        finally:
            if own:
                with handled(lambda *_: None):  # a second Ctrl-C would leave some of Ray's processes behind
                    ray.shutdown()


def cards() -> float:
    """Number of cards that Ray has, on all its machines."""
    import ray

    found: Any = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return float(found.get("GPU", 0.0))


def device_of_workers(wanted: str, workers: int, cards: float) -> tuple[str, float]:
    """The device of every Ray worker, and the share of a card that each reserves; Ray shows it that card only.

    Raises:
        ExperimentError: There are no cards, or a worker is to use one that Ray does not give it.
    """
    if ":" in wanted:
        raise ExperimentError(f"device is '{wanted}', but Ray gives each worker its card; expected auto, cuda or cpu.")
    if wanted == "cuda" and cards < 1:
        raise ExperimentError("device is 'cuda', and Ray has no card for its workers; expected auto or cpu.")
    if cards < 1 or wanted not in ("auto", "cuda"):
        choose_device(wanted)
        return wanted, 0.0
    on_each = math.ceil(workers / int(cards))
    return "cuda", math.floor(10_000 / on_each) / 10_000  # Ray counts in steps of 0.0001


def workers_of(workers: int, share: float) -> dict[str, Any]:
    """Options of `map_batches` for a number of workers, each with a core and a share of a card."""
    import ray.data

    return {"compute": ray.data.ActorPoolStrategy(size=workers), "num_cpus": 1, "num_gpus": share or None}
