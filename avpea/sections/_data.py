"""Section `data`: options that all readers share."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from avpea.options import Options, require

__all__ = ["ReaderOptions", "SpreadOptions"]


@dataclass(frozen=True)
class ReaderOptions(Options):
    """Section `data`: where the videos are and how they are read.

    Attributes:
        name: Name of the data set reader: its file in `avpea/data/readers/`, or its entry point.
        root: Folder of the data set, or the manifest file.
        cache: Folder of the sample cache; empty means the user's cache folder.
        segments: Number of one-second segments in a sample (AVE: 10).
        missing_audio: What to do with a video without an audio track: raise an `error`, or use digital `silence`.
        missing_video: What to do with a file without a video track: raise an `error`, or use `black` frames.
        audio_track: Number of the audio track to read, from 0; -1 takes the one that FFmpeg would choose: the default
            one, else that with the most channels.
        video_track: Number of the video track to read, from 0; -1 takes the default one, else the largest picture.
        strict: Refuse to run if any annotated video is missing or broken, instead of skipping it.
        workers: Number of processes that decode videos to fill the cache; 0 decodes in the main process.
    """

    frame_at_seconds: ClassVar[float] = 0.5  # which frame of a second it is
    locations: ClassVar[tuple[str, ...]] = ("root", "cache")
    harmless: ClassVar[tuple[str, ...]] = ("workers",)

    name: str = ""
    root: str = ""
    cache: str = ""
    segments: int = 10
    missing_audio: Literal["error", "silence"] = "error"
    missing_video: Literal["error", "black"] = "error"
    audio_track: int = -1
    video_track: int = -1
    strict: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        require(self.segments >= 1, f"data.segments is {self.segments}; a sample needs at least 1 segment.")
        require(self.segments <= 86_400, f"data.segments is {self.segments}; expected at most 86400, which is a day.")
        for name in ("audio_track", "video_track"):
            number = getattr(self, name)
            require(number >= -1, f"data.{name} is {number}; expected 0 or more, or -1 for the default track.")
        require(self.workers >= 0, f"data.workers is {self.workers}; expected 0 or more.")

    def outside(self) -> dict[str, str]:
        """Nothing: a trained model is loaded without its data set."""
        return {}


@dataclass(frozen=True)
class SpreadOptions(ReaderOptions):
    """Options of readers whose samples are whole videos, of which only some seconds are used.

    Attributes:
        seconds: Which seconds of a video to use. `consecutive`: the first ones; `every`: every
            (length // segments)-th second from the first on, as in MUSIC-AVQA's public code (0, 6, ..., 54 of 60);
            `linspace`: evenly spaced from the first second to the last. `lavish`: as in LAVISH's public code, sounds
            that start evenly from the video's start to 0.1 s before the last that fits, and frames as evenly.
    """

    seconds: Literal["consecutive", "every", "linspace", "lavish"] = "consecutive"
