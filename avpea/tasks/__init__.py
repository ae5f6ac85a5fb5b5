"""Tasks: from tokens to an output, a loss, metrics and a readable answer. Each folder here is a task.

    tasks/NAME/task.py       one subclass of `Task`
    tasks/NAME/heads/*.py    heads, each a subclass of `Head`
    tasks/NAME/answer.py     the answer to a user, a subclass of `Answer`
    tasks/NAME/command.py    its command, if any; it imports nothing heavy before it runs

The names below are looked up when they are first used, so that commands can be listed without importing torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avpea.tasks._base import (
        Answer,
        Calibration,
        Chances,
        Confusion,
        Dims,
        Encoded,
        Figure,
        Head,
        HeadOptions,
        Mistake,
        Stretch,
        Task,
        TaskOptions,
        Viewing,
        Window,
        beginning,
    )

__all__ = [
    "Answer",
    "Calibration",
    "Chances",
    "Confusion",
    "Dims",
    "Encoded",
    "Figure",
    "Head",
    "HeadOptions",
    "Mistake",
    "Stretch",
    "Task",
    "TaskOptions",
    "Viewing",
    "Window",
    "beginning",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'avpea.tasks' has no attribute '{name}'")
    return getattr(importlib.import_module("avpea.tasks._base"), name)
