"""Encoders: from pixels of both streams to their tokens. A file here is an encoder's name."""
