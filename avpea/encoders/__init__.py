"""Encoders: from pixels of both streams to tokens. The name of a file here is an encoder's name."""

from avpea.encoders._base import Encoder, PositionOptions, Size, Streams, as_transformer, build_encoder
from avpea.sections import EncoderOptions

__all__ = ["Encoder", "EncoderOptions", "PositionOptions", "Size", "Streams", "as_transformer", "build_encoder"]
