"""What decoding says of a file, beside the rows of frames and samples: plain values, that a worker can send."""

from dataclasses import dataclass

__all__ = ["Found", "Heard", "Stored"]


@dataclass(frozen=True)
class Found:
    """What was decoded, beside the rows of frames and samples.

    Attributes:
        segments: Number of segments; there are as many frames.
        frame_seconds: Time stamp of each frame.
        frame_aspect: Width / height of the frames as displayed.
        black: Whether there is no picture; the only frame is then a black one.
        skip: Number of samples before the first segment.
        duration_seconds: Length of the file, as far as it decodes.
        declared_seconds: Length that it declares.
        repairs: Sentences about what was mended.
    """

    segments: int
    frame_seconds: tuple[float, ...]
    frame_aspect: float
    black: bool
    skip: int
    duration_seconds: float
    declared_seconds: float
    repairs: tuple[str, ...]


@dataclass(frozen=True)
class Heard:
    """What was decoded of a sound alone: the sound begins at row `skip` of the samples and lasts `seconds`."""

    skip: int
    seconds: float


@dataclass(frozen=True)
class Stored:
    """A single picture was found, and is in three rows: the upper and the lower bytes of its colours, its opacity.

    Attributes:
        bits: Bits of a value in the file, 8 for fewer.
        lossy: Whether it was compressed with loss, as in JPEG, so that its values are not those that were saved.
    """

    bits: int
    lossy: bool
