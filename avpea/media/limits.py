"""Bounds on what decoding one file may take, and the progress that it makes."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from avpea.errors import AvpeaError

__all__ = ["DEFAULT", "Limits", "decoding"]


@dataclass(frozen=True)
class Limits:
    """What a file may take; the defaults let hours of 4K pass. A file that takes more is refused with a sentence.

    Attributes:
        memory_mb: Memory of the worker that decodes, beside its own; in MiB. It keeps no frames and no sound, so it
            depends on the size of a picture and not on the length. Linux only.
        seconds: CPU time without any progress in the file; four times as long if the file itself is slow to read.
        megapixels: Size of a picture, as it is coded and as it is displayed, in millions of pixels.
        result_mb: Frames and sound that one reading gives, in MiB.

    Raises:
        AvpeaError: A bound is not positive.
    """

    memory_mb: int = 960
    seconds: int = 8
    megapixels: int = 70
    result_mb: int = 8192

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                option = name.replace("_", "-")
                raise AvpeaError(f"--media-{option} (Limits({name})) is {value}; expected 1 or more.")

    def more(self, name: str) -> str:
        """What allows twice as much: the option of a command, and its name in Python."""
        twice = 2 * getattr(self, name)
        return f"--media-{name.replace('_', '-')} {twice} (in Python Limits({name}={twice}))"


DEFAULT = Limits()
MOST_THREADS = 8
MOST_PIXELS = 72_000_000  # of one picture in each thread: eight of 4K, two of 8K


class Decoding:
    """How this process decodes; a worker sets it once, when it starts.

    Attributes:
        limits: What a file may take.
        threads: Threads of the video decoder; None means one for each core up to 8, but 1 in a process that shares the
            machine with others of its kind. The pixels of intact files do not depend on it.
        boxed: Whether this process is a worker.
        progressed: Called with each packet that is read.
        is_short: Whether there may have been too little memory for a picture of some pixels. FFmpeg does not always say
            so when it was; what it then calls damaged may be intact.
    """

    def __init__(self) -> None:
        self.limits = DEFAULT
        self.threads: int | None = None
        self.boxed = False
        self.progressed: Callable[[Any], None] = lambda packet: None
        self.is_short: Callable[[int], bool] = lambda pixels: False

    def video_threads(self, pixels: int = 0) -> int:
        """Number of threads of the video decoder for pictures of some pixels; each thread holds some of its own."""
        shared = multiprocessing.parent_process() is not None
        most = (1 if shared else min(os.cpu_count() or 1, MOST_THREADS)) if self.threads is None else self.threads
        return max(1, min(most, MOST_PIXELS // max(pixels, 1)))


decoding = Decoding()
