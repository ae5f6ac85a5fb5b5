"""The commands that all tasks share, in the order of the help. Nothing heavy is imported before one of them runs."""

from avpea.commands import _compare, _data, _evaluate, _exchange, _plan, _recipes, _search, _serve, _train

__all__ = ["COMMANDS"]

COMMANDS = [
    command
    for part in (_recipes, _data, _plan, _train, _evaluate, _exchange, _search, _serve, _compare)
    for command in part.COMMANDS
]
