"""Kinds of frozen image networks. A file here is a kind's name; each says which names of `backbone.name` it serves."""
