"""What is asked of a reading, checked before its file is opened: a wrong argument is not the file's fault."""

import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from avpea.errors import MediaError
from avpea.options import require_choice

__all__ = ["MissingAudio", "MissingVideo", "checked"]

MissingAudio = Literal["error", "silence"]
MissingVideo = Literal["error", "black"]
_CHOICES = {"missing_audio": MissingAudio, "missing_video": MissingVideo}
_TRACK = "a whole number from 0, or None for the track that FFmpeg would choose"
# What is expected of a number, and its least value; a track that the file lacks is refused with those that it has.
_WHOLE: dict[str, tuple[str, float]] = {
    "segments": ("1 or more, or None for the whole file", 1),
    "seconds": ("a whole number, 1 or more, or None for all of the sound", 1),
    "rate_hz": ("a whole number, 1 or more", 1),
    "audio_track": (_TRACK, -math.inf),
    "video_track": (_TRACK, -math.inf),
}
_SECONDS = ("start_seconds", "frame_at_seconds")


def checked(path: str | Path, **asked: Any) -> dict[str, Any]:
    """The options of a reading as Python's own numbers, which NumPy's and torch's become.

    Args:
        path: The file, for the error.
        asked: Options of `read` and `read_sound`, by name.

    Raises:
        MediaError: One of them cannot be.
    """

    def refused(sentence: str) -> MediaError:
        return MediaError(path, sentence)

    found = dict(asked)
    for name, value in asked.items():
        if name in _CHOICES:
            require_choice(name, value, _CHOICES[name], refused)
        elif name in _WHOLE and (value is not None or name == "rate_hz"):
            expected, least = _WHOLE[name]
            number = _read(operator.index, value)
            if number is None or number < least:
                raise refused(f"{name} is {value!r}; expected {expected}.")
            found[name] = number
        elif name in _SECONDS:
            number = _read(float, value)
            if number is None or not (math.isfinite(number) and number >= 0):
                raise refused(f"{name} is {value!r}; expected 0 or more.")
            found[name] = number
        elif name == "frame_size" and value is not None:
            size = _read(lambda sides: tuple(map(operator.index, sides)), value)
            if size is None or len(size) != 2 or min(size) < 1:
                raise refused(f"{name} is {value!r}; expected a height and a width of at least 1 pixel.")
            found[name] = size
    return found


def _read(kind: Callable[[Any], Any], value: Any) -> Any:
    """A value as a number or numbers; None if it is none, as text and truth values are."""
    if isinstance(value, str | bytes | bool):
        return None
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        return None
