"""Heads: the trained part after the encoder. A file here is a head's name."""
