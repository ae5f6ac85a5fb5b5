"""A whole video of any length, decoded once from its start to its end while its parts are used.

    film = Film("long.mp4", frame_size=(84, 84))
    for clip in film.parts(10):  # whole windows of ten seconds, as soon as they are decoded
        ...
    film.duration_seconds  # known at the end

Decoding goes on beside what is done with the parts, and waits when it is ahead, so memory does not grow with the
length. The frames and the samples are those of `avpea.media.read`.
"""

import contextvars
import dataclasses
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avpea.media import box
from avpea.media.asked import checked
from avpea.media.belt import Belt
from avpea.media.clip import Clip
from avpea.media.decode import read
from avpea.media.found import Found
from avpea.media.info import SAMPLE_RATE_HZ
from avpea.media.regular import require_file

__all__ = ["PART_SECONDS", "Film"]

PART_SECONDS = 60  # its last window alone may overlap the one before


class Film:
    """A video and what is known of it; a short one is kept as a `Clip`, a long one is decoded again if asked for.

    Every attribute of `Clip` can be read: those about the file once `parts` has come to its end, and frames and sound
    of a long video by decoding all of it into memory.

    Args:
        path: The file.
        frame_size: Height and width of the frames.
        options: Further options of `avpea.media.read`, without `start_seconds` and `segments`.

    Raises:
        MediaError: An option cannot be.
    """

    def __init__(self, path: Path, *, frame_size: tuple[int, int], **options: Any) -> None:
        self.path = path
        self._options = checked(path, frame_size=frame_size, **options)
        self._found: Found | None = None
        self._clip: Clip | None = None

    def parts(self, length: int) -> Generator[Clip, None, None]:
        """Decode the video, and give it in consecutive parts of whole windows; the last one includes the rest.

        A video that is not much longer than a part is a single one. `duration_seconds` of a part that is not the last
        one is its own end, and its `frame_seconds` are NaN, since both are known at the end only.

        Args:
            length: Seconds of a window.

        Raises:
            MediaError: As `avpea.media.read`; where it is damaged, after the parts before.
        """
        require_file(self.path)
        step = -(-PART_SECONDS // length) * length
        # A part is given when a whole window lies behind it, so that the rest is never shorter than one.
        belt = Belt(2 * step + length)
        running = contextvars.copy_context()
        thread = threading.Thread(target=running.run, args=(self._decode, belt), daemon=True)
        thread.start()
        start = 0
        try:
            while belt.wait_for(step + length):
                frames, samples = belt.take(step)
                yield self._part(start, frames, samples)
                start += step
            self._found = belt.found
            last = self._last(start, *belt.rest())
            if not start:
                self._clip = last
            if len(last.frames):
                yield last
        finally:
            belt.close()
            thread.join()

    @property
    def clip(self) -> Clip:
        """The video in memory."""
        if self._clip is None:
            self._clip = read(self.path, **self._options)
        return self._clip

    def remarks(self) -> list[str]:
        """See `Clip`."""
        if self._clip is None and self._found is not None:
            return self._about(self._found).remarks()
        return self.clip.remarks()

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__.get("_found")
        if name.startswith("_"):
            raise AttributeError(name)
        if found is not None and self.__dict__.get("_clip") is None and name in _ABOUT:
            return getattr(self._about(found), name)
        return getattr(self.clip, name)

    def _about(self, found: Found) -> Clip:
        """What is known without the frames."""
        times = torch.tensor(found.frame_seconds, dtype=torch.float64)
        nothing = torch.zeros((1, *self._options["frame_size"], 3), dtype=torch.uint8).expand(len(times), -1, -1, -1)
        return Clip(
            nothing, times, found.frame_aspect, torch.zeros(0), found.duration_seconds, found.declared_seconds, 0.0,
            self.path, audio_track=self._options.get("audio_track"), repairs=found.repairs,
        )  # fmt: skip

    def _part(self, start: int, frames: Any, samples: Any) -> Clip:
        count = len(frames)
        unknown = torch.full((count,), torch.nan, dtype=torch.float64)
        height, width = self._options["frame_size"]
        return Clip(
            torch.from_numpy(frames), unknown, width / height, torch.from_numpy(samples), float(start + count),
            float(start + count), float(start), self.path, audio_track=self._options.get("audio_track"),
        )  # fmt: skip

    def _last(self, start: int, frames: Any, samples: Any) -> Clip:
        """The rest, completed as `read` does: silence after the sound, and black where there is no picture."""
        found = self._found
        assert found is not None
        count = max(0, found.segments - start)
        pictures = torch.from_numpy(frames)
        if found.black:
            pictures = pictures.expand(count, -1, -1, -1)
        sound = np.zeros(count * SAMPLE_RATE_HZ, np.float32)
        sound[: len(samples)] = samples[: len(sound)]
        about = self._about(found)
        return dataclasses.replace(
            about, frames=pictures[:count], frame_seconds=about.frame_seconds[start:], waveform=torch.from_numpy(sound),
            start_seconds=float(start),
        )  # fmt: skip

    def _decode(self, belt: Belt) -> None:
        """Decode in a thread; what goes wrong is raised where the parts are used."""
        options = {
            "start_seconds": 0.0, "segments": None, "frame_at_seconds": 0.5, "missing_audio": "error",
            "missing_video": "error", "audio_track": None, "video_track": None, "steady": True, **self._options,
        }  # fmt: skip
        try:
            open_box = box.current()
            if open_box is None:
                from avpea.media.jobs import JOBS, answered

                with answered(self.path):
                    belt.end(JOBS["clip"].run(self.path, belt.frames, belt.samples, **options))
                return
            # A worker of its own, so that other files can be read meanwhile.
            with open_box.lent() as own, box.watched_too(lambda: belt.left):
                belt.end(own.run("clip", Found, self.path, belt.frames, belt.samples, options))
        except BaseException as error:
            belt.fail(error)


# What of a `Clip` is known without its frames and samples.
_ABOUT = {"frame_seconds", "frame_aspect", "duration_seconds", "declared_seconds", "start_seconds", "segment_starts"}
_ABOUT |= {"repairs", "cut_off", "audio_track"}
