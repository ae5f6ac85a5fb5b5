"""What is asked of a reading, checked before its file is opened: a wrong argument is not the file's fault."""

from pathlib import Path
from typing import Any, Literal

from avpea.errors import MediaError
from avpea.options import require_choice

__all__ = ["MissingAudio", "MissingVideo", "checked"]

MissingAudio = Literal["error", "silence"]
MissingVideo = Literal["error", "black"]
_CHOICES = {"missing_audio": MissingAudio, "missing_video": MissingVideo}


def checked(path: str | Path, **asked: Any) -> dict[str, Any]:
    """The options of a reading.

    Args:
        path: The file, for the error.
        asked: Options of `read` and `read_sound`, by name.

    Raises:
        MediaError: One of them cannot be.
    """

    def refused(sentence: str) -> MediaError:
        return MediaError(path, sentence)

    for name, choices in _CHOICES.items():
        if name in asked:
            require_choice(name, asked[name], choices, refused)
    return asked
