"""Masks over the frames of a video: as a picture, and as a film with its sound."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from avpea.files import replacing
from avpea.media import SAMPLE_RATE_HZ
from avpea.plot import style
from avpea.tables import clock

__all__ = ["overlaid", "overlay_figure", "write_film"]

COLUMNS, WIDTH, LEFT, TOP, GAP, SECOND = 5, 1.9, 0.16, 0.5, 0.1, 0.24  # of frames, and inches
SHOWN = 60  # frames of a picture; of a longer video as many, evenly spread
STRENGTH = 0.55
FILM_HEIGHT, FILM_RATE = 360, 8


def overlay_figure(
    *,
    title: str,
    frames: UInt8[Tensor, "seconds height width 3"],
    masks: UInt8[Tensor, "seconds side side"],
    class_names: Sequence[str],
    frame_aspect: float,
) -> Figure:
    """Draw the frame of each second with its mask; of a video of more than a minute, of 60 seconds.

    Args:
        title: Title of the figure, such as the file's name.
        frames: RGB frames, one per second.
        masks: Class of each pixel; 0 is background.
        class_names: Names of the classes, without background.
        frame_aspect: Width / height of a frame as displayed.
    """
    seconds = np.linspace(0, len(frames) - 1, min(len(frames), SHOWN)).round().astype(int).tolist()
    columns = min(COLUMNS, len(seconds))
    rows, high = -(-len(seconds) // columns), WIDTH / frame_aspect
    width = max(2 * LEFT + columns * (WIDTH + GAP) - GAP, 5.0)
    height = TOP + rows * (high + SECOND + GAP)
    figure = style.new_figure(width, height, title)
    for place, second in enumerate(seconds):
        row, column = divmod(place, columns)
        left, above = LEFT + column * (WIDTH + GAP), TOP + row * (high + SECOND + GAP)
        box = (left / width, 1 - (above + high) / height, WIDTH / width, high / height)
        axes = figure.add_axes(box, label=f"frame {second}")
        axes.imshow(overlaid(frames[second], masks[second]).numpy(), extent=(0.0, 1.0, 1.0, 0.0), aspect="auto")
        axes.set(xticks=[], yticks=[])
        style.frame(axes, *style.ALL_SIDES)
        found = [class_names[number - 1] for number in _classes(masks[second]) if number]
        told = f"{clock(second)}  {style.plain(', '.join(found) or 'nothing', 26)}"
        style.write(figure, left / width, 1 - (above + high + 0.16) / height, told, size=style.TICK_SIZE)
    return figure


def overlaid(
    frame: UInt8[Tensor, "height width 3"], mask: UInt8[Tensor, "side side"]
) -> UInt8[Tensor, "height width 3"]:
    """A frame with its mask in the colour of each class, the rest of it darker."""
    size = frame.shape[:2]
    large = F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].long()
    shown = 0.6 * frame.float()
    for number in _classes(large):
        if number:
            code = style.COLOURS[number % len(style.COLOURS)].lstrip("#")
            colour = torch.tensor([int(code[at : at + 2], 16) for at in (0, 2, 4)], dtype=torch.float32)
            where = large == number
            shown[where] = (1 - STRENGTH) * frame[where].float() + STRENGTH * colour
    return shown.round().to(torch.uint8)


def _classes(mask: Tensor) -> list[int]:
    found: list[int] = mask.flatten().bincount().nonzero().flatten().tolist()
    return found


def write_film(
    path: Path,
    frames: UInt8[Tensor, "seconds height width 3"],
    masks: UInt8[Tensor, "seconds side side"],
    frame_aspect: float,
    waveform: Float[Tensor, " samples"],
) -> None:
    """Write an mp4 (H.264, AAC) of the frame of each second with its mask, and the sound.

    Raises:
        WriteError: The file cannot be written.
    """
    import av

    from avpea.media.container import turn_messages_off

    width = max(2, 2 * round(FILM_HEIGHT * frame_aspect / 2))
    turn_messages_off()
    with replacing(path) as aside, av.open(str(aside), "w", format="mp4") as container:
        video: Any = container.add_stream("libx264", rate=FILM_RATE, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = width, FILM_HEIGHT, "yuv420p"
        sound: Any = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for picture in _pictures(frames, masks, width):
            for _ in range(FILM_RATE):
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(waveform.numpy()[None].astype(np.float32), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = SAMPLE_RATE_HZ, 0
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))


def _pictures(frames: Tensor, masks: Tensor, width: int) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    for frame, mask in zip(frames, masks, strict=True):
        large = F.interpolate(frame.permute(2, 0, 1)[None].float(), (FILM_HEIGHT, width), mode="bilinear")
        picture = large[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
        yield overlaid(picture.contiguous(), mask).numpy()
