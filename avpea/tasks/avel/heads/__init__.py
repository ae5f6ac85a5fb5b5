"""Heads for event localization. A file here is a head's name."""

from avpea.tasks.avel.heads._base import EventHead

__all__ = ["EventHead"]
