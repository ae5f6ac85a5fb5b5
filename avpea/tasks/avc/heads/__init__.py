"""Heads that write. Each file defines one head, called by the file's name."""
