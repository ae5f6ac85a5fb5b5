"""Adapters: what trains of an otherwise frozen transformer. A file here is an adapter's name."""
