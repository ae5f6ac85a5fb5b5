"""Encoders: from pixels of both streams to tokens. The name of a file here is an encoder's name."""

from avpea.encoders._base import (
    Encoder,
    Kept,
    KeptOptions,
    PositionOptions,
    Size,
    Streams,
    as_transformer,
    build_encoder,
)
from avpea.sections import EncoderOptions

__all__ = [
    "Encoder",
    "EncoderOptions",
    "Kept",
    "KeptOptions",
    "PositionOptions",
    "Size",
    "Streams",
    "as_transformer",
    "build_encoder",
]
