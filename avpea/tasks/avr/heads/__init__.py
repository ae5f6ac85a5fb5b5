"""Heads for retrieval. A file here is a head's name."""
