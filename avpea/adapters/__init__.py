"""Adapters: the trained part of an otherwise frozen transformer. The name of a file here is an adapter's name."""

from avpea.adapters._base import Adapter, LinearAdapter, SideNetwork, Trained, Tuning
from avpea.sections import AdapterOptions

__all__ = ["Adapter", "AdapterOptions", "LinearAdapter", "SideNetwork", "Trained", "Tuning"]
