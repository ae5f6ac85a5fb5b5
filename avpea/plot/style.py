"""Colours, type sizes and helpers that all pictures share."""

import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from avpea.escapes import for_terminal
from avpea.media import SAMPLE_RATE_HZ

INK, SOFT, FAINT, PALE, GRID = "#1f2328", "#59636e", "#c4cad1", "#d9dee4", "#e4e7eb"
# Okabe and Ito's palette, which colour-blind people can tell apart, without its yellow, too pale on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FONT = "DejaVu Sans"  # comes with matplotlib, so that a picture looks the same everywhere
TITLE_SIZE, HEADING_SIZE, LABEL_SIZE, TICK_SIZE = 12.0, 9.0, 9.0, 8.0
LOWEST_HZ = 20.0
ALL_SIDES = ("left", "right", "top", "bottom")


def new_figure(width: float, height: float, title: str) -> Figure:
    """A white figure of this size in inches, with its title at the top left."""
    figure = Figure(figsize=(width, height), facecolor="white")
    write(figure, 0.16 / width, 1 - 0.14 / height, plain(title, 110), size=TITLE_SIZE, va="top", weight="bold")
    return figure


def write(
    on: Figure | Axes, x: float, y: float, text: str, *, size: float = LABEL_SIZE, colour: str = INK,
    ha: str = "left", va: str = "baseline", weight: str = "normal",
) -> None:  # fmt: skip
    """Write text verbatim (a dollar sign starts no formula); x and y are fractions of the figure or axes."""
    place: dict[str, Any] = {} if isinstance(on, Figure) else {"transform": on.transAxes}
    on.text(
        x, y, text, fontsize=size, color=colour, ha=ha, va=va, fontweight=weight, fontfamily=FONT,
        parse_math=False, **place,
    )  # fmt: skip


def legend(figure: Figure, lines: Mapping[str, Any], right: float, size: float) -> None:
    """Name lines verbatim, from a place in the figure on to its right, which gets as wide as that needs.

    A name that is very long is shortened.
    """
    # matplotlib leaves out names that begin with an underscore.
    names = [" " * name.startswith("_") + plain(name, 40) for name in lines]
    key = figure.legend(
        list(lines.values()), names, loc="center left", bbox_to_anchor=(right, 0.5), frameon=False, fontsize=size
    )
    for text in key.get_texts():
        text.set_parse_math(False)
    beyond = key.get_window_extent().x1 / figure.dpi + 0.2 - figure.get_figwidth()
    if beyond > 0:
        share = figure.get_figwidth() / (figure.get_figwidth() + beyond)
        for axes in figure.axes:
            left, bottom, width, height = axes.get_position().bounds
            axes.set_position((share * left, bottom, share * width, height))
        for text in figure.texts:
            text.set_x(share * text.get_position()[0])
        key.set_bbox_to_anchor((share * right, 0.5))
        figure.set_figwidth(figure.get_figwidth() + beyond)


@contextmanager
def boxes_for_missing_letters() -> Iterator[None]:
    """No warning for each letter that the font lacks, such as an emoji: a box stands in its place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")
        yield


def above(axes: Axes, inches: float) -> float:
    """The y coordinate, in fractions of the axes, of a point this many inches above them."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return float(1 + inches / (axes.get_position().height * figure.get_figheight()))


def plain(text: str, length: int) -> str:
    """Text on one line of at most `length` characters, shortened in the middle; broken Unicode is replaced."""
    text = for_terminal(" ".join(text.encode("utf-8", "replace").decode().split()))
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[head - length + 1 :]}"


def wrapped(text: str, columns: int = 26) -> str:
    """A label on at most two lines; a longer one is cut and ends in an ellipsis."""
    return "\n".join(textwrap.wrap(plain(text, 4 * columns), columns, max_lines=2, placeholder=" …"))


def label_width(line: str) -> float:
    """Width in inches of one line of a label."""
    if not line.strip():
        return 0.0  # a text path of nothing cannot be measured
    # A text path would take dollar signs for mathematics; an 8 is as wide.
    path = TextPath((0, 0), line.replace("$", "8"), size=LABEL_SIZE, prop=FontProperties(family=FONT))
    return float(path.get_extents().width) / 72


def frame(axes: Axes, *sides: str) -> None:
    """Draw a thin grey line at these sides of the axes, and none at the others."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set(color=FAINT, linewidth=0.8)


def quiet(axes: Axes) -> None:
    """Thin grey lines at the left and bottom, small grey tick labels."""
    frame(axes, "left", "bottom")
    axes.tick_params(colors=FAINT, labelcolor=SOFT, labelsize=TICK_SIZE, labelfontfamily=FONT, length=3, width=0.8)


def mel_row(hertz: float, mel_bins: int) -> float:
    """Position of a frequency on an axis where mel bin b of `media.log_mel` covers [b, b + 1)."""
    low, high, mel = (1127.0 * math.log(1.0 + f / 700.0) for f in (LOWEST_HZ, SAMPLE_RATE_HZ / 2, hertz))
    return (mel - low) / ((high - low) / (mel_bins + 1)) - 0.5


def mark_hertz(axes: Axes, mel_bins: int) -> None:
    """Tick labels in hertz on the vertical axis of a log-mel image."""
    marks = {"0.25": 250.0, "1": 1000.0, "4 kHz": 4000.0}
    axes.set_yticks([mel_row(hertz, mel_bins) for hertz in marks.values()], list(marks))
