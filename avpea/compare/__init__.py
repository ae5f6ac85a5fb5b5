"""Compare adapters fairly: a grid of runs on the same data and seeds, and a report from its stored results.

from avpea.compare import compare
compare("mini/table4", {"data.root": "DIR"})
"""

from avpea.compare.grid import Comparison, compare
from avpea.compare.sweep import Sweep, load_sweep, sweep_names

__all__ = ["Comparison", "Sweep", "compare", "load_sweep", "sweep_names"]
