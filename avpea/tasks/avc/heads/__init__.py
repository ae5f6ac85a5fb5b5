"""Heads that write. A file here is a head's name."""
