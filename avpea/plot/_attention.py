"""The adapters' attention maps Θ (AV-PEA paper, Eq. 7 and 8) over one frame and one second of sound."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from avpea.plot import style

# Inches: height of a large panel; margins; between panels, small panels and the two sides; heights of text.
SIDE = 1.75
EDGE, GAP, SMALL_GAP, BETWEEN = 0.2, 0.1, 0.06, 0.72
TITLE, HEADING, CAPTION, SMALL_CAPTION, BOTTOM = 0.5, 0.46, 0.5, 0.2, 0.42
SMALL_SHOWN, SMALL_COLUMNS = 12, 6
HEAT = "inferno"
NOTE = "Each map's colours reach to its own brightest patch. The rest of the attention is on the CLS token."


@dataclass(frozen=True)
class Side:
    """Half of the picture: what was looked at, and the maps over it.

    Attributes:
        name: Start of its axes' labels.
        heading: What its maps mean.
        first: Heading of its first panel.
        absent: What to say when there are no maps.
        image: What was looked at, in its own colours.
        grey: The same in grey, for under the heat; from 0 to 1.
        maps: Of each block, with axes as those of `image`.
        blocks: Which blocks these are, counted from 0.
        origin: Where row 0 of `image` and of the maps is.
        extent: Left, right, bottom and top of `image` on the axes.
        left: Where its first panel begins, in inches.
        width: Of a large panel, in inches.
    """

    name: str
    heading: str
    first: str
    absent: str
    image: npt.NDArray[np.generic]
    grey: npt.NDArray[np.floating]
    maps: Float[Tensor, "blocks rows columns"] | None
    blocks: Sequence[int]
    origin: Literal["upper", "lower"]
    extent: tuple[float, float, float, float]
    left: float
    width: float

    @property
    def inches(self) -> float:
        """Width of its three large panels and the gaps between them."""
        return 3 * self.width + 2 * GAP

    @property
    def small(self) -> tuple[float, float]:
        """Width and height of a small panel in inches."""
        width = (self.inches - (SMALL_COLUMNS - 1) * SMALL_GAP) / SMALL_COLUMNS
        return width, width * SIDE / self.width


def attention_figure(
    *,
    title: str,
    frame: UInt8[Tensor, "height width 3"],
    log_mel: Float[Tensor, "rows mel_bins"],
    sound_looked: Float[Tensor, "blocks grid_rows grid_columns"] | None,
    image_listened: Float[Tensor, "blocks_listening audio_rows audio_columns"] | None,
    second: float,
    frame_aspect: float | None = None,
    blocks: Sequence[int] | None = None,
) -> Figure:
    """Draw the adapters' attention maps Θ (AV-PEA paper, Eq. 7 and 8) over the frame and the log-mel.

    Its axes are labelled `look …` and `listen …`.

    Each map is drawn as the mean over blocks, for the last block, and small for up to twelve of the blocks.
    Sound is shown with time to the right and low pitch at the bottom, maps and log-mel alike.

    Args:
        title: Shown above, such as the file's name.
        frame: RGB.
        log_mel: One second of sound; rows are time, columns mel bins from low to high.
        sound_looked: Θ_a of each block with an adapter in the audio stream, over the frame's patches; the rest
            of the attention, up to 1, is on the CLS token (and registers). None: that stream has no adapters.
        image_listened: Θ_v of the visual stream likewise, over the patches of the log-mel; rows are time.
        second: Where the second begins in the video.
        frame_aspect: Width / height of the frame as people should see it; None takes the tensor's own.
        blocks: Index of each map's block, counted from 0; None counts through.
    """
    looked = _look(frame, sound_looked, blocks, frame_aspect)
    listened = _listen(log_mel, image_listened, blocks, second, looked.left + looked.inches + BETWEEN)
    sides = [looked, listened]
    rows = max(_small_rows(side) for side in sides)
    small = rows * (max(side.small[1] for side in sides) + SMALL_CAPTION)
    height = TITLE + HEADING + SIDE + CAPTION + small + BOTTOM
    figure = style.new_figure(
        listened.left + listened.inches + EDGE, height, f"{title}, second {second:g}".lstrip(", ")
    )
    for side in sides:
        _draw(figure, side)
    if looked.maps is not None or listened.maps is not None:
        x, y = EDGE / figure.get_figwidth(), 0.16 / height
        style.write(figure, x, y, NOTE, size=style.TICK_SIZE, colour=style.SOFT)
    return figure


def _numbers(maps: Tensor | None, blocks: Sequence[int] | None) -> Sequence[int]:
    return range(0 if maps is None else len(maps)) if blocks is None else blocks


def _look(
    frame: UInt8[Tensor, "height width 3"], maps: Tensor | None, blocks: Sequence[int] | None, aspect: float | None
) -> Side:
    pixels = frame.cpu().numpy()
    grey = pixels @ np.array([0.299, 0.587, 0.114]) / 255  # Rec. 601 luma
    height, width = grey.shape
    panel = SIDE * min(2.0, max(0.7, aspect or width / height))
    return Side(
        "look", "Where the sound looked in the image", "frame",
        "This model has no adapters in the audio stream,\nso the sound did not look at the image.",
        pixels, grey, maps, _numbers(maps, blocks), "upper", (0, width, 0, height), EDGE, panel,
    )  # fmt: skip


def _listen(
    log_mel: Float[Tensor, "rows mel_bins"],
    maps: Tensor | None,
    blocks: Sequence[int] | None,
    second: float,
    left: float,
) -> Side:
    image = log_mel.detach().float().cpu().numpy().T  # time to the right, mel upwards
    # A filter with no frequency in it is constant; it must not set the range of colours.
    values = image[np.ptp(image, axis=1) > 0]
    low, high = np.quantile(values, (0.03, 0.995)) if values.size else (-16.0, 0.0)
    grey = np.clip((image - low) / max(high - low, 1e-3), 0, 1)
    maps = None if maps is None else maps.transpose(1, 2)
    return Side(
        "listen", "Where the image listened in the sound", "log-mel",
        "This model has no adapters in the visual stream,\nso the image did not listen to the sound.",
        grey, grey, maps, _numbers(maps, blocks), "lower", (second, second + 1, 0, len(image)), left, SIDE,
    )  # fmt: skip


def _small_rows(side: Side) -> int:
    return 0 if side.maps is None else -(-min(len(side.maps), SMALL_SHOWN) // SMALL_COLUMNS)


def _axes(figure: Figure, side: Side, label: str, left: float, top: float, width: float, height: float) -> Axes:
    """Axes over the side's image, from their top left corner in inches from the figure's top left."""
    across, down = figure.get_size_inches()
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    axes = figure.add_axes(box, label=f"{side.name} {label}", xlim=side.extent[:2], ylim=side.extent[2:])
    axes.set(xticks=[], yticks=[], autoscale_on=False)
    for spine in axes.spines.values():
        spine.set(color=style.FAINT, linewidth=0.8)
    return axes


def _draw(figure: Figure, side: Side) -> None:
    top = TITLE + HEADING
    across, down = figure.get_size_inches()
    style.write(figure, side.left / across, 1 - (TITLE + 0.12) / down, side.heading, size=10.0)
    lefts = [side.left + i * (side.width + GAP) for i in range(3)]
    axes = _axes(figure, side, "source", lefts[0], top, side.width, SIDE)
    axes.imshow(side.image, cmap="magma", aspect="auto", origin=side.origin, extent=side.extent)
    _caption_above(axes, side.first)
    if side.name == "listen":
        _scales(axes, side)
    if side.maps is None:
        axes = _axes(figure, side, "absent", lefts[1], top, 2 * side.width + GAP, SIDE)
        axes.set_facecolor("#f6f8fa")
        style.write(axes, 0.5, 0.5, side.absent, colour=style.SOFT, ha="center", va="center")
        return
    maps = side.maps.detach().float().cpu().numpy()
    for name, left, theta in (("mean of blocks", lefts[1], maps.mean(axis=0)), ("last block", lefts[2], maps[-1])):
        axes = _axes(figure, side, name, left, top, side.width, SIDE)
        _overlay(axes, side, theta)
        _caption_above(axes, name)
        shares = f"brightest patch {_percent(float(theta.max()))}\nall patches {_percent(float(theta.sum()))}"
        style.write(axes, 0.0, -0.05, shares, size=style.TICK_SIZE, colour=style.SOFT, va="top")
    _draw_blocks(figure, side, maps, top + SIDE + CAPTION)


def _draw_blocks(figure: Figure, side: Side, maps: npt.NDArray[np.floating], top: float) -> None:
    """Small maps of up to twelve blocks, evenly spaced from the first to the last."""
    width, height = side.small
    shown = np.unique(np.linspace(0, len(maps) - 1, min(len(maps), SMALL_SHOWN)).round().astype(int))
    for place, index in enumerate(shown.tolist()):
        number = side.blocks[index] + 1
        row, column = divmod(place, SMALL_COLUMNS)
        left = side.left + column * (width + SMALL_GAP)
        down = top + row * (height + SMALL_CAPTION) + SMALL_CAPTION
        axes = _axes(figure, side, f"block {number}", left, down, width, height)
        _overlay(axes, side, maps[index])
        _caption_above(axes, f"block {number}" if place == 0 else str(number))


def _overlay(axes: Axes, side: Side, theta: npt.NDArray[np.floating]) -> None:
    """Heat over grey: what got no attention is dim, the patch that got most is brightest."""
    share = theta / max(float(theta.max()), 1e-12)
    axes.imshow(side.grey, cmap="gray", vmin=0, vmax=1, aspect="auto", origin=side.origin, extent=side.extent)
    axes.imshow(
        share, cmap=HEAT, vmin=0, vmax=1, alpha=0.35 + 0.45 * share, aspect="auto", origin=side.origin,
        extent=side.extent, interpolation="nearest",
    )  # fmt: skip


def _scales(axes: Axes, side: Side) -> None:
    """Seconds and hertz on the log-mel."""
    second, stop, _, bins = side.extent
    axes.tick_params(
        colors=style.FAINT, labelcolor=style.SOFT, labelsize=style.TICK_SIZE, labelfontfamily=style.FONT, length=3
    )
    style.mark_hertz(axes, int(bins))
    axes.set_xticks([second, stop], [f"{second:g}", f"{stop:g} s"])
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")  # not under the neighbour


def _caption_above(axes: Axes, text: str) -> None:
    style.write(axes, 0, style.above(axes, 0.05), text, size=style.TICK_SIZE, colour=style.SOFT)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"
