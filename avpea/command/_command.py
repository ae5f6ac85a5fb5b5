"""The class of a command on the command line."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Command"]


@dataclass(frozen=True)
class Command:
    """A command, `avpea NAME`. A task lists its commands as `COMMANDS` in its `command.py`.

    Attributes:
        name: Name to type.
        summary: What the command does, in one sentence.
        example: An example of its use.
        arguments: Function that adds the arguments to a parser.
        run: Function that runs the command and returns the exit code, None for 0; it imports heavy modules itself.
        overrides: Whether options of the recipe may follow.
        json: Whether the command has the option `--json`.
        quiet: Whether the command has the option `--quiet`.
        processes: Whether the processes of a launcher such as `torchrun` may run it together.
        group: Group that the command is in, such as `data`; empty for none.
        media: Whether the command may decode media; it does so in a box, and has the options of `add_limits`.
    """

    name: str
    summary: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    overrides: bool = False
    json: bool = False
    quiet: bool = False
    processes: bool = False
    group: str = ""
    media: bool = True
