"""Comparing adapters: a grid of runs on the same data and seeds, and a report from the stored results.

from avpea.compare import compare
compare("mini/table4", {"data.root": "DIR"})

The names below are looked up when they are first used, so that sweeps can be listed without importing torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avpea.compare.grid import Comparison, compare
    from avpea.compare.sweep import Sweep, load_sweep, sweep_names, sweep_titles

__all__ = ["Comparison", "Sweep", "compare", "load_sweep", "sweep_names", "sweep_titles"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'avpea.compare' has no attribute '{name}'")
    home = "grid" if name in ("Comparison", "compare") else "sweep"
    return getattr(importlib.import_module(f"avpea.compare.{home}"), name)
