"""What one step, one sample and one epoch take: measured, or counted."""

import dataclasses
from dataclasses import dataclass
from typing import Any

__all__ = ["Rates"]


@dataclass(frozen=True)
class Rates:
    """What the parts of a training take, for one process and its share of a batch.

    Attributes:
        start_seconds: From the start of the command to the model.
        decode_seconds: To decode a sample into the cache, on one core.
        workers_seconds: To start the processes that decode.
        frozen_seconds: To compute what the frozen layers make of a sample, if that is kept.
        read_seconds: To read a sample from the cache.
        step_seconds: An optimiser step.
        answer_seconds: To evaluate a sample.
        save_seconds: To save model and state after an epoch.
        host_mb: Memory of a training process on the host.
        worker_mb: Memory of a process that decodes.
        device_mb: Memory of its GPU; 0 on the CPU.
        sample_bytes: Size of a cache entry.
        frozen_bytes: Size of what is kept of the frozen layers for a sample.
        model_bytes: Size of a checkpoint.
        state_bytes: Size of the training state.
    """

    start_seconds: float
    decode_seconds: float
    workers_seconds: float
    frozen_seconds: float
    read_seconds: float
    step_seconds: float
    answer_seconds: float
    save_seconds: float
    host_mb: float
    worker_mb: float
    device_mb: float
    sample_bytes: float
    frozen_bytes: float
    model_bytes: float
    state_bytes: float

    def to_dict(self) -> dict[str, float]:
        """The figures by name, with six digits."""
        values: dict[str, Any] = dataclasses.asdict(self)
        return {name: float(f"{value:.6g}") for name, value in values.items()}
