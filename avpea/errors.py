"""All errors that a user can cause: one sentence with the value, what was expected, and the remedy.

    AvpeaError (ValueError)
    ├── ExperimentError   a recipe or an option is wrong
    ├── MediaError        a file is missing or cannot be decoded; `.path` names it
    │   ├── MissingFile   there is no such file
    │   ├── NoVideoTrack  the file has no picture
    │   └── NoAudioTrack  the file has no sound
    ├── DataError         a data set's annotations or videos are missing or broken
    ├── WeightsError      pretrained weights cannot be loaded, or do not fit
    ├── CheckpointError   a run folder or checkpoint cannot be read, or belongs to another backbone
    │   └── InUseError    another process writes in the folder now
    ├── TrainingError     training cannot start or continue (non-finite loss, nothing to train on)
    ├── DeviceMemoryError the memory of a device, or of the computer, is too small
    ├── ServerError       a server refuses a request of `avpea.Client`; `.status` says how
    └── WriteError        a file cannot be written; an OSError too

The command line prints the sentence and exits with 1; from Python, catch the class that you can handle.
"""

import errno
import os
import re
from pathlib import Path

__all__ = [
    "AvpeaError",
    "CheckpointError",
    "DataError",
    "DeviceMemoryError",
    "ExperimentError",
    "InUseError",
    "MediaError",
    "MissingFile",
    "NoAudioTrack",
    "NoVideoTrack",
    "ServerError",
    "TrainingError",
    "WeightsError",
    "WriteError",
    "with_option",
]

_MISSING = re.compile(r'\bmissing_(audio|video)="(\w+)"')


class AvpeaError(ValueError):
    """Base of all errors that a user can cause and fix."""


class ExperimentError(AvpeaError):
    """A recipe or an option has a value that cannot work."""


class MediaError(AvpeaError):
    """A media file is missing, unreadable, or lacks the requested part."""

    def __init__(self, path: str | Path, message: str) -> None:
        self.path = Path(path)
        self.reason = message
        name = str(path).replace("\n", "\\n")  # so that a name of two lines cannot look like a line of avpea's
        super().__init__(f"{name}: {message}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # For pickling: workers that fill the cache send exceptions to the main process.
        return type(self), (str(self.path), self.reason)


class MissingFile(MediaError):
    """There is no such file."""


class NoVideoTrack(MediaError):
    """The file has no picture."""


class NoAudioTrack(MediaError):
    """The file has no sound."""


class DataError(AvpeaError):
    """A data set's annotations or videos are missing or broken."""


class WeightsError(AvpeaError):
    """Pretrained weights cannot be loaded, or do not fit the model."""


class CheckpointError(AvpeaError):
    """A run folder or checkpoint cannot be read, or belongs to another backbone."""


class InUseError(CheckpointError):
    """Another process writes in the folder now."""


class TrainingError(AvpeaError):
    """Training cannot start or continue."""


class DeviceMemoryError(AvpeaError):
    """The memory of a device, or of the computer, is too small for what was to be computed."""


class ServerError(AvpeaError):
    """A server refuses a request.

    Args:
        status: Status code of HTTP.
        detail: The server's sentence.
        kind: The problem's type, a URN.
        retry_seconds: After which the server says to try again; None if it does not.
    """

    def __init__(self, status: int, detail: str, kind: str = "", retry_seconds: float | None = None) -> None:
        self.status, self.kind, self.retry_seconds = status, kind, retry_seconds
        super().__init__(detail)

    def __reduce__(self) -> tuple[type, tuple[int, str, str, float | None]]:
        return type(self), (self.status, str(self), self.kind, self.retry_seconds)


_REMEDIES = {
    **dict.fromkeys([errno.ENOSPC, errno.EDQUOT], "make room there"),
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`)",
    **dict.fromkeys([errno.EACCES, errno.EPERM], "make its folder writable (`chmod u+w`, or ask its owner)"),
    errno.EROFS: "mount that disk so that it can be written",
    errno.EISDIR: "move that folder away",
    errno.EIO: "see whether the disk is well",
}


class WriteError(AvpeaError, OSError):
    """A file cannot be written: no room, no permission, or a disk that fails. What was there before is kept.

    Args:
        number: The system's number for the reason.
        place: The file or folder.
    """

    def __new__(cls, number: int, place: str) -> "WriteError":  # noqa: D102
        return OSError.__new__(cls, number, os.strerror(number), place)

    def __init__(self, number: int, place: str) -> None:
        OSError.__init__(self, number, os.strerror(number), place)

    def __reduce__(self) -> tuple[type, tuple[int | None, str]]:
        return type(self), (self.errno, self.filename)

    def __str__(self) -> str:
        """The sentence for the user."""
        first = _REMEDIES.get(self.errno or 0, "")
        remedy = f"{first}, or choose another place" if first else "choose another place"
        return f"{self.filename} cannot be written ({self.strerror}); {remedy}."


def with_option(text: str, option: str) -> str:
    """A sentence whose remedy `missing_video="black"`, an argument of Python, is the option where the user is.

    Args:
        text: The sentence.
        option: How the option is given there, such as `--missing-{} {}`; empty leaves the remedy out, where there is no
            such option.
    """
    if not option:
        return re.sub(f", or {_MISSING.pattern}", "", text)
    return _MISSING.sub(lambda found: option.format(*found.groups()), text)
