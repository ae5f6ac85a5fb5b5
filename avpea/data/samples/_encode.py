"""Writing a clip atomically, as an mp4 file with H.264 and AAC."""

from pathlib import Path

import av
import numpy as np
from jaxtyping import Float32, UInt8

from avpea.files import replacing
from avpea.media.container import turn_messages_off

__all__ = ["write_clip"]


def write_clip(
    path: Path,
    film: UInt8[np.ndarray, "frames height width 3"],
    fps: int,
    waveform: Float32[np.ndarray, " samples"],
    sound_rate_hz: int,
) -> None:
    """Encode to a temporary file and rename it to `path` when it is complete.

    Raises:
        OSError: The file cannot be written.
    """
    # The temporary file is hidden and does not end in .mp4, so nothing takes it for a clip.
    turn_messages_off()
    with replacing(path) as aside, av.open(str(aside), "w", format="mp4") as container:
        # `ultrafast` for speed, and because `veryfast` sometimes encodes the same frames differently.
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "27"})
        video.height, video.width = film.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.thread_count = 1  # several clips are encoded side by side
        sound = container.add_stream("aac", rate=sound_rate_hz, layout="mono", options={"aac_coder": "fast"})
        sound.bit_rate = 40_000
        for picture in film:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        samples.sample_rate = sound_rate_hz
        samples.pts = 0  # without it the encoder's delay of 1024 samples stays in the sound
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
