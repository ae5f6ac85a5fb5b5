"""A clip: one frame and one second of sound for each one-second segment of a video."""

from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["Clip"]


@dataclass(frozen=True)
class Clip:
    """A stretch of a video, cut into segments `[start_seconds + i, start_seconds + i + 1)`.

    Attributes:
        frames: RGB frames, one per segment: the one that is displayed at its middle, upright.
        frame_seconds: Time stamp of each frame, where the file starts at 0 (float64).
        frame_aspect: Width / height of the frames as a player displays them, whatever size they were resized to.
        waveform: Mono sound at 16 kHz in [-1, 1] (float32), `segments * 16000` samples, silent where the file has no
            sound. After `moments` the sounds of the segments overlap, and may be longer or shorter than a second.
        duration_seconds: Length of the whole file, as far as it can be decoded.
        declared_seconds: Length that the file declares, or that its packets have if that is more; longer than
            `duration_seconds` if the file is truncated or damaged.
        start_seconds: Start of the first segment.
        path: The file.
        segment_starts: Start of each segment if they are not consecutive, else empty.
        audio_track: Number of the audio track that was asked for; None if it was FFmpeg's choice.
        repairs: Sentences about what was mended in reading, such as time stamps that jump or samples that are NaN.
    """

    frames: UInt8[Tensor, "segments height width 3"]
    frame_seconds: Float[Tensor, " segments"]
    frame_aspect: float
    waveform: Float[Tensor, " samples"]
    duration_seconds: float
    declared_seconds: float
    start_seconds: float
    path: Path
    segment_starts: tuple[float, ...] = ()
    audio_track: int | None = None
    repairs: tuple[str, ...] = ()

    @property
    def starts(self) -> tuple[float, ...]:
        """Start of each segment, in seconds."""
        return self.segment_starts or tuple(self.start_seconds + i for i in range(len(self.frames)))

    @property
    def cut_off(self) -> bool:
        """Whether the file is truncated."""
        return self.duration_seconds < self.declared_seconds

    def remarks(self) -> list[str]:
        """Sentences for the user about problems in reading the file."""
        if not self.cut_off:
            return list(self.repairs)
        return [
            f"The file declares {self.declared_seconds:.1f} s, of which {self.duration_seconds:.1f} s decode; the rest "
            "of it cannot be decoded.",
            *self.repairs,
        ]

    def part(self, start: int, stop: int) -> "Clip":
        """The segments [start, stop)."""
        return replace(
            self,
            frames=self.frames[start:stop],
            frame_seconds=self.frame_seconds[start:stop],
            waveform=self.segment_waveforms()[start:stop].flatten(),
            start_seconds=self.starts[start],
            segment_starts=self.segment_starts[start:stop],
        )

    def segment_waveforms(self) -> Float[Tensor, "segments samples"]:
        """`waveform` split into segments, without copying."""
        return self.waveform.view(len(self.frames), -1)
