"""Heads for video parsing. Each file defines one head, called by the file's name."""

from avpea.tasks.avvp.heads._base import LaneTargets, Parsed, ParsingHead

__all__ = ["LaneTargets", "Parsed", "ParsingHead"]
