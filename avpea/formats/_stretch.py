"""What all formats say: a text, and from when to when."""

from dataclasses import dataclass

__all__ = ["Stretch"]


@dataclass(frozen=True)
class Stretch:
    """A stretch of a video and its text.

    Attributes:
        start_seconds: Start in the video.
        end_seconds: End in the video, exclusive.
        text: Text of any kind; formats escape it.
    """

    start_seconds: float
    end_seconds: float
    text: str
