"""From decoded frames to the one that is displayed at the middle of each segment: upright, RGB, resized."""

import math
import struct
from typing import Any

import numpy as np
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from avpea.media.growing import Array, Rows
from avpea.media.hdr import CURVES, tone_mapped

__all__ = ["FramePicker", "as_stored", "display_size"]

# Many containers round time stamps to milliseconds; a frame meant for 0.5 s must count as displayed at 0.5 s.
TIME_STAMP_ROUNDING_SECONDS = 1e-3
BLACK_SIZE = (224, 224)  # of black frames for a file without a picture: the size of most backbones
# swscale widens the bicubic kernel when it downsamples, which is antialiasing. The other flags make the arithmetic
# exact, so that every machine gets the same pixels.
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """How to turn a coded frame upright: transpose it, then flip its rows, then its columns.

    From the display matrix, which maps the pixel at (x, y) to (a x + c y, b x + d y), with y pointing down. Other
    angles than quarter turns are rounded to the nearest one.
    """
    try:
        beside = frame.side_data
    except ValueError:  # PyAV 18.1 gives none of it where FFmpeg has a kind that is newer, as with EXIF
        Type._missing_ = classmethod(_nameless)  # type: ignore[method-assign,assignment]
        beside = frame.side_data
    matrix = beside.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return False, False, False
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def _turned(pixels: Array, transpose: bool, flip_rows: bool, flip_columns: bool) -> Array:
    """Pictures (..., height, width, 3) after what `_orientation` says."""
    pixels = pixels.swapaxes(-3, -2) if transpose else pixels
    return pixels[..., :: -1 if flip_rows else 1, :: -1 if flip_columns else 1, :]


def _nameless(cls: type[Type], value: object) -> Type:
    """A kind of side data that PyAV has no name for."""
    kind: Any = object.__new__(cls)
    kind._name_, kind._value_ = f"KIND_{value}", value
    return kind  # type: ignore[no-any-return]


def as_stored(frame: VideoFrame) -> tuple[Array, int]:
    """A picture with each of its values as it is in the file, upright and not scaled.

    Returns:
        Three pictures (height, width, 3): the upper bytes of its colours with 16 bits each, the lower bytes, and its
        opacity, 255 where nothing shines through; and the bits of a value in the file, 8 for fewer.
    """
    bits = max(8, *(part.bits for part in frame.format.components))
    form = "rgba" if bits == 8 else "rgba64le"
    pixels = VideoReformatter().reformat(frame, format=form, interpolation=SCALING, threads=1).to_ndarray()
    wide = pixels.astype(np.uint16) * (257 if bits == 8 else 1)
    opaque = np.where(wide[..., 3:] == 65_535, 255, np.minimum(wide[..., 3:] >> 8, 254))
    parts = np.stack([wide[..., :3] >> 8, wide[..., :3] & 255, opaque.repeat(3, axis=2)]).astype(np.uint8)
    return _turned(parts, *_orientation(frame)), bits


def display_size(frame: VideoFrame, pixel_aspect: float = 1.0) -> tuple[int, int]:
    """Height and width in square pixels of a frame as a player displays it, upright."""
    height, width = frame.height, max(1, round(frame.width * pixel_aspect))
    return (width, height) if _orientation(frame)[0] else (height, width)


class FramePicker:
    """Chooses from frames in display order the one that is displayed at the middle of each segment.

    That is the last frame whose time stamp is not after the middle, or the first frame if all are after it. After the
    end of the track it is the last frame, as in a player. Only chosen frames are converted and kept.

    Args:
        start_seconds: Start of the first segment.
        segments: Number of segments; None for as many as there are.
        frame_size: Height and width to resize frames to; None keeps the display size of the first frame.
        pixel_aspect: Width / height of a coded pixel.
        frames: Where the chosen frames go.
    """

    def __init__(
        self,
        start_seconds: float,
        segments: int | None,
        frame_size: tuple[int, int] | None,
        pixel_aspect: float,
        frames: Rows,
    ) -> None:
        self._start_seconds = start_seconds
        self._segments = segments
        self._frame_size = frame_size
        self._pixel_aspect = pixel_aspect
        self._reformatter = VideoReformatter()
        self._shown: tuple[float, VideoFrame] | None = None
        self._frames = frames
        self._display: tuple[int, int] | None = None
        self._seconds: list[float] = []
        self._curve = 0  # FFmpeg's number of the transfer characteristic, if the picture is HDR

    @property
    def empty(self) -> bool:
        """Whether no frame was added."""
        return self._shown is None

    @property
    def black(self) -> bool:
        """Whether there is a single black frame instead of one for each segment."""
        return self.empty and len(self._frames) == 1

    @property
    def done(self) -> bool:
        """Whether every segment has its frame."""
        return len(self._seconds) == self._segments

    @property
    def aspect(self) -> float:
        """Width / height of the frames as displayed; of the black ones if no frame was added."""
        height, width = self._display or self._frame_size or BLACK_SIZE
        return width / height

    @property
    def first_middle(self) -> float:
        """Middle of the first segment, in seconds."""
        return self._middle(0)

    def moment(self, seconds: float) -> float:
        """The first middle of a segment at which a picture that is shown from `seconds` on may be the chosen one."""
        later = max(0, math.ceil(seconds - TIME_STAMP_ROUNDING_SECONDS - self._middle(0)))
        return self._middle(later) + TIME_STAMP_ROUNDING_SECONDS

    def _middle(self, segment: int) -> float:
        return self._start_seconds + segment + 0.5

    def remarks(self) -> tuple[str, ...]:
        """Sentences for the user about how the picture was changed."""
        if not self._curve:
            return ()
        return (f"The picture is HDR ({CURVES[self._curve]}) and is mapped to the range of ordinary video.",)

    def add(self, seconds: float, frame: VideoFrame) -> None:
        """Add the next frame, displayed from `seconds` on."""
        while (
            self._shown is not None
            and not self.done
            and self._middle(len(self._seconds)) < seconds - TIME_STAMP_ROUNDING_SECONDS
        ):
            self._fill()
        self._shown = (seconds, frame)

    def hold(self, seconds: float) -> None:
        """Continue the picture, which has ended, up to a time: with its last frame, or with black."""
        while not self.done and self._middle(len(self._seconds)) < seconds:
            self._fill()

    def finish(self, segments: int) -> list[float]:
        """Complete the frames of the first `segments` segments; a single black one if no frame was added.

        Returns:
            The time stamp of each segment's frame.
        """
        if self._shown is None and not self._seconds:
            self._frames.append(self._black())
            return [self._middle(i) for i in range(segments)]
        while len(self._seconds) < segments:
            self._fill()
        return self._seconds[:segments]

    def _black(self) -> Array:
        height, width = self._frame_size or BLACK_SIZE
        return np.zeros((1, height, width, 3), np.uint8)

    def _fill(self) -> None:
        if self._shown is None:
            self._frames.repeat(1) if self._seconds else self._frames.append(self._black())
            self._seconds.append(self._middle(len(self._seconds)))
            return
        seconds, frame = self._shown
        if self._seconds and self._seconds[-1] == seconds:
            self._frames.repeat(1)
        else:
            self._frames.append(self._upright(frame)[None])
        self._seconds.append(seconds)

    def _upright(self, frame: VideoFrame) -> Array:
        self._display = self._display or display_size(frame, self._pixel_aspect)
        self._frame_size = self._frame_size or self._display
        transpose, flip_rows, flip_columns = _orientation(frame)
        height, width = reversed(self._frame_size) if transpose else self._frame_size
        self._curve = frame.color_trc if frame.color_trc in CURVES else 0
        form = "rgb48le" if self._curve else "rgb24"
        small = self._reformatter.reformat(frame, width, height, form, interpolation=SCALING, threads=1).to_ndarray()
        pixels: Array = tone_mapped(small, self._curve) if self._curve else small
        return _turned(pixels, transpose, flip_rows, flip_columns)
