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
from avpea.tables import clock

# In inches: height of a large panel; margin; gaps between panels, small panels and the two halves; heights of text.
PANEL = 1.75
EDGE, GAP, SMALL_GAP, BETWEEN = 0.2, 0.1, 0.06, 0.72
TITLE, HEADING, CAPTION, SMALL_HEADING, SMALL_CAPTION, BOTTOM = 0.5, 0.46, 0.62, 0.3, 0.2, 0.62
SMALL_SHOWN, SMALL_COLUMNS = 12, 6
SCALE_WIDTH, SCALE_HEIGHT = 2.4, 0.11
HEAT = "inferno"
# The scale is the same in every picture, so that attention which is spread evenly, or lies elsewhere, looks like that.
BRIGHTEST = 3.0  # in even shares
NOTE = "of an even share, which each token would get if attention were spread evenly; the same scale in every picture"


@dataclass(frozen=True)
class Half:
    """Half of the figure: one stream's image, and the other stream's attention maps over it.

    Attributes:
        name: Prefix of the labels of its axes.
        heading: Heading of the half.
        first: Heading of its first panel, the image itself.
        absent: Text shown instead of the maps if there are none.
        image: The image in colour.
        grey: The image in grey, from 0 to 1, drawn below the heat map.
        maps: Attention map of each block, with the same axes as `image`.
        elsewhere: Number of tokens before the patches, on which the rest of the attention is.
        blocks: Index of each map's block, counted from 0.
        origin: Whether row 0 of the image and the maps is at the top or at the bottom.
        extent: Left, right, bottom and top of `image` in data coordinates.
        left: Left edge of its first panel, in inches.
        width: Width of a large panel, in inches.
    """

    name: str
    heading: str
    first: str
    absent: str
    image: npt.NDArray[np.generic]
    grey: npt.NDArray[np.floating]
    maps: Float[Tensor, "blocks rows columns"] | None
    elsewhere: int
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
    def prefix(self) -> str:
        """What the tokens before the patches are called."""
        return "CLS" if self.elsewhere == 1 else "CLS and registers"

    @property
    def small(self) -> tuple[float, float]:
        """Width and height of a small panel in inches."""
        width = (self.inches - (SMALL_COLUMNS - 1) * SMALL_GAP) / SMALL_COLUMNS
        return width, width * PANEL / self.width


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
    num_prefix_tokens: int = 1,
) -> Figure:
    """Draw the adapters' attention maps Θ (AV-PEA paper, Eq. 7 and 8) over the frame and the log-mel.

    Colours are the attention of a patch in even shares, from 0 to `BRIGHTEST` in every picture; how much of the
    attention is on the CLS token (and registers) instead is written beside each map. The figure shows the mean over
    blocks, the last block, and small maps of up to twelve blocks. The log-mel and the maps over it have time to the
    right and low frequencies at the bottom. Axes are labelled `look …` and `listen …`.

    Args:
        title: Title of the figure, such as the file's name.
        frame: The frame, RGB.
        log_mel: One second of sound; rows are time, columns are mel bins from low to high.
        sound_looked: Θ_a over the patches of the frame, for each block with an adapter in the audio stream; the
            remaining attention is on the CLS token (and registers). None if the audio stream has no adapters.
        image_listened: Θ_v over the patches of the log-mel, for each block with an adapter in the visual stream; rows
            are time. None if the visual stream has no adapters.
        second: Start of the second in the video.
        frame_aspect: Width / height of the frame as displayed; None means that of the tensor.
        blocks: Index of each map's block, counted from 0; None means all blocks in order.
        num_prefix_tokens: Number of tokens before the patches: the CLS token and registers; 0 for a network without.
    """
    looked = _look(frame, sound_looked, num_prefix_tokens, blocks, frame_aspect)
    left = looked.left + looked.inches + BETWEEN
    listened = _listen(log_mel, image_listened, num_prefix_tokens, blocks, second, left)
    halves = [looked, listened]
    rows = max(_small_rows(half) for half in halves)
    small = rows * (max(half.small[1] for half in halves) + SMALL_CAPTION)
    height = TITLE + HEADING + PANEL + CAPTION + SMALL_HEADING * bool(rows) + small + BOTTOM
    figure = style.new_figure(
        listened.left + listened.inches + EDGE, height, f"{title}, at {clock(second)}".removeprefix(", ")
    )
    for half in halves:
        _draw(figure, half)
    if looked.maps is not None or listened.maps is not None:
        _draw_scale(figure)
    return figure


def _numbers(maps: Tensor | None, blocks: Sequence[int] | None) -> Sequence[int]:
    return range(0 if maps is None else len(maps)) if blocks is None else blocks


def _look(
    frame: UInt8[Tensor, "height width 3"],
    maps: Tensor | None,
    elsewhere: int,
    blocks: Sequence[int] | None,
    aspect: float | None,
) -> Half:
    pixels = frame.cpu().numpy()
    grey = pixels @ np.array([0.299, 0.587, 0.114]) / 255  # Rec. 601 luma
    height, width = grey.shape
    panel = PANEL * min(2.0, max(0.7, aspect or width / height))
    return Half(
        "look", "Where the sound looked in the image", "frame",
        "This model has no adapters in the audio stream,\nso the sound did not look at the image.",
        pixels, grey, maps, elsewhere, _numbers(maps, blocks), "upper", (0, width, 0, height), EDGE, panel,
    )  # fmt: skip


def _listen(
    log_mel: Float[Tensor, "rows mel_bins"],
    maps: Tensor | None,
    elsewhere: int,
    blocks: Sequence[int] | None,
    second: float,
    left: float,
) -> Half:
    image = log_mel.detach().float().cpu().numpy().T  # time to the right, mel upwards
    # A mel filter that contains no frequency is constant and must not set the range of colours.
    values = image[np.ptp(image, axis=1) > 0]
    low, high = np.quantile(values, (0.03, 0.995)) if values.size else (-16.0, 0.0)
    grey = np.clip((image - low) / max(high - low, 1e-3), 0, 1)
    maps = None if maps is None else maps.transpose(1, 2)
    return Half(
        "listen", "Where the image listened in the sound", "log-mel",
        "This model has no adapters in the visual stream,\nso the image did not listen to the sound.",
        grey, grey, maps, elsewhere, _numbers(maps, blocks), "lower", (second, second + 1, 0, len(image)), left, PANEL,
    )  # fmt: skip


def _small_rows(half: Half) -> int:
    return 0 if half.maps is None else -(-min(len(half.maps), SMALL_SHOWN) // SMALL_COLUMNS)


def _axes(figure: Figure, half: Half, label: str, left: float, top: float, width: float, height: float) -> Axes:
    """Axes in the coordinates of the half's image; position and size in inches from the figure's top left corner."""
    across, down = figure.get_size_inches()
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    axes = figure.add_axes(box, label=f"{half.name} {label}", xlim=half.extent[:2], ylim=half.extent[2:])
    axes.set(xticks=[], yticks=[], autoscale_on=False)
    style.frame(axes, *style.ALL_SIDES)
    return axes


def _draw(figure: Figure, half: Half) -> None:
    top = TITLE + HEADING
    across, down = figure.get_size_inches()
    style.write(figure, half.left / across, 1 - (TITLE + 0.12) / down, half.heading, size=10.0)
    lefts = [half.left + i * (half.width + GAP) for i in range(3)]
    axes = _axes(figure, half, "source", lefts[0], top, half.width, PANEL)
    axes.imshow(half.image, cmap="magma", aspect="auto", origin=half.origin, extent=half.extent)
    _caption_above(axes, half.first)
    if half.name == "listen":
        _scales(axes, half)
    if half.maps is None:
        axes = _axes(figure, half, "absent", lefts[1], top, 2 * half.width + GAP, PANEL)
        axes.set_facecolor("#f6f8fa")
        style.write(axes, 0.5, 0.5, half.absent, colour=style.SOFT, ha="center", va="center")
        return
    maps = half.maps.detach().float().cpu().numpy()
    for name, left, theta in (("mean of blocks", lefts[1], maps.mean(axis=0)), ("last block", lefts[2], maps[-1])):
        axes = _axes(figure, half, name, left, top, half.width, PANEL)
        _overlay(axes, half, theta)
        _caption_above(axes, name)
        lines = ["brightest patch", f"{_percent(float(_even_shares(half, theta).max()))} of even share"]
        if half.elsewhere:
            lines.insert(0, f"{_percent(_on_prefix(theta))} on {half.prefix}")
        style.write(axes, 0.0, -0.05, "\n".join(lines), size=style.TICK_SIZE, colour=style.SOFT, va="top")
    top += PANEL + CAPTION
    text = f"Each block: attention on {half.prefix}" if half.elsewhere else "Each block"
    style.write(figure, half.left / across, 1 - (top + 0.16) / down, text, size=style.TICK_SIZE)
    _draw_blocks(figure, half, maps, top + SMALL_HEADING)


def _draw_blocks(figure: Figure, half: Half, maps: npt.NDArray[np.floating], top: float) -> None:
    """Small maps of up to twelve blocks, evenly spaced from the first to the last."""
    width, height = half.small
    shown = np.unique(np.linspace(0, len(maps) - 1, min(len(maps), SMALL_SHOWN)).round().astype(int))
    for place, index in enumerate(shown.tolist()):
        number = half.blocks[index] + 1
        row, column = divmod(place, SMALL_COLUMNS)
        left = half.left + column * (width + SMALL_GAP)
        down = top + row * (height + SMALL_CAPTION) + SMALL_CAPTION
        axes = _axes(figure, half, f"block {number}", left, down, width, height)
        _overlay(axes, half, maps[index])
        share = f": {_percent(_on_prefix(maps[index]))}" * bool(half.elsewhere)
        _caption_above(axes, f"{number}{share}")


def _on_prefix(theta: npt.NDArray[np.floating]) -> float:
    """Share of the attention that is on no patch."""
    return max(0.0, 1 - float(theta.sum()))


def _even_shares(half: Half, theta: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Attention as a multiple of what each token would get if it were even."""
    shares: npt.NDArray[np.floating] = theta * (theta.size + half.elsewhere)
    return shares


def _overlay(axes: Axes, half: Half, theta: npt.NDArray[np.floating]) -> None:
    """Heat map over the grey image, from 0 to `BRIGHTEST` even shares."""
    heat = np.clip(_even_shares(half, theta) / BRIGHTEST, 0, 1)
    axes.imshow(half.grey, cmap="gray", vmin=0, vmax=1, aspect="auto", origin=half.origin, extent=half.extent)
    axes.imshow(
        heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.35 + 0.45 * heat, aspect="auto", origin=half.origin,
        extent=half.extent, interpolation="nearest",
    )  # fmt: skip


def _draw_scale(figure: Figure) -> None:
    """The scale of all maps, at the bottom left."""
    across, down = figure.get_size_inches()
    box = (EDGE / across, 0.34 / down, SCALE_WIDTH / across, SCALE_HEIGHT / down)
    axes = figure.add_axes(box, label="scale", yticks=[])
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=HEAT, aspect="auto", extent=(0, BRIGHTEST, 0, 1))
    marks = [0.0, 1.0, 2.0, BRIGHTEST]
    axes.set_xticks(marks, [*(f"{100 * mark:.0f}" for mark in marks[:-1]), f"≥ {100 * BRIGHTEST:.0f} %"])
    axes.tick_params(
        colors=style.FAINT, labelcolor=style.SOFT, labelsize=style.TICK_SIZE, labelfontfamily=style.FONT, length=3
    )
    style.frame(axes, *style.ALL_SIDES)
    style.write(
        figure, (EDGE + SCALE_WIDTH + 0.45) / across, 0.34 / down, NOTE, size=style.TICK_SIZE, colour=style.SOFT
    )


def _scales(axes: Axes, half: Half) -> None:
    """Ticks in seconds and hertz on the log-mel."""
    second, stop, _, bins = half.extent
    axes.tick_params(
        colors=style.FAINT, labelcolor=style.SOFT, labelsize=style.TICK_SIZE, labelfontfamily=style.FONT, length=3
    )
    style.mark_hertz(axes, int(bins))
    axes.set_xticks([second, stop], [f"{second:g}" if stop < 60 else clock(second), clock(stop)])
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")  # so that it stays clear of the next panel


def _caption_above(axes: Axes, text: str) -> None:
    style.write(axes, 0, style.above(axes, 0.05), text, size=style.TICK_SIZE, colour=style.SOFT)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"
