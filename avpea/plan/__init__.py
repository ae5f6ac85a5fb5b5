"""What training a recipe takes, before it begins: time, memory and disk."""

from avpea.plan._assumed import ASSUMED, Assumed
from avpea.plan._plan import Need, Plan, place_of, plan

__all__ = ["ASSUMED", "Assumed", "Need", "Plan", "place_of", "plan"]
