"""Heads for retrieval. Each file defines one head, called by the file's name."""
