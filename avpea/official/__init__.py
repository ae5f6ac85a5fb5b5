"""Checkpoints that the public code of other systems wrote, imported as runs. Each file is one kind of checkpoint."""

from avpea.official._base import ImportReport, Official, Rule, Table
from avpea.official._engine import import_checkpoint

__all__ = ["ImportReport", "Official", "Rule", "Table", "import_checkpoint"]
