"""Heads for event localization. Each file defines one head, called by the file's name."""

from avpea.tasks.avel.heads._base import EventHead

__all__ = ["EventHead"]
