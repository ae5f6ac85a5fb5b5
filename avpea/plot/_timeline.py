"""The timeline of a video: frames, log-mel, events and confidence above one axis of seconds."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import MultipleLocator
from torch import Tensor

from avpea.media import SAMPLE_RATE_HZ, log_mel
from avpea.plot import _style as style
from avpea.plot._event import EventLike

WIDTH = 10.0  # everything here that has no other unit is in inches
RIGHT, TOP, BOTTOM, GAP = 0.25, 0.5, 0.5, 0.34
SOUND_HEIGHT, CONFIDENCE_HEIGHT, ROW_HEIGHT = 1.05, 1.15, 0.36
THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT = 0.7, 1.5  # at least this wide (landscape), at most this high
ROWS = 12  # labels with a row of their own; further ones share the last
MEL_BINS = 64  # none of which is empty at this resolution
SHOWN_COLUMNS = 2400  # of the log-mel: what a print resolves
CHUNK_SECONDS = 30


@dataclass(frozen=True)
class Row:
    """A line of the event panel: the labels in it, its name, colour and line style."""

    labels: tuple[str, ...]
    name: str
    colour: str
    dashes: str = "-"


@dataclass(frozen=True)
class Span:
    """The time axis: seconds on the video's clock, and its place across the figure."""

    start: float
    stop: float
    left: float

    @property
    def inches(self) -> float:
        return WIDTH - RIGHT - self.left


def timeline_figure(
    *,
    title: str,
    frames: UInt8[Tensor, "segments height width 3"],
    waveform: Float[Tensor, " samples"],
    events: Sequence[EventLike],
    probabilities: Float[Tensor, "segments categories"],
    class_names: Sequence[str],
    start_seconds: float = 0.0,
    truth: Sequence[EventLike] | None = None,
    frame_aspect: float | None = None,
) -> Figure:
    """Build the figure that `avpea.plot.timeline` saves; its axes are labelled frames, sound, events, confidence."""
    segments, height, width = frames.shape[:3]
    rows = _rows([*events, *(truth or ())])
    span = Span(start_seconds, start_seconds + segments, _left_margin(rows))
    thumbnails, thumbnail_height = _thumbnails(segments, frame_aspect or width / height, span.inches)
    heights = {
        "frames": thumbnail_height,
        "sound": SOUND_HEIGHT,
        "events": ROW_HEIGHT * max(1, len(rows)) + 0.08,
        "confidence": CONFIDENCE_HEIGHT,
    }
    figure = style.new_figure(WIDTH, TOP + sum(heights.values()) + 3 * GAP + 0.12 + BOTTOM, title)
    panels = _panels(figure, heights, span)
    _draw_frames(panels["frames"], frames, thumbnails, span, thumbnail_height, frame_aspect or width / height)
    _draw_sound(panels["sound"], waveform.detach().float().cpu(), span)
    _draw_events(panels["events"], rows, events, truth, span)
    _draw_confidence(panels["confidence"], rows, probabilities.detach().float().cpu(), class_names, span)
    return figure


def _rows(events: Sequence[EventLike]) -> list[Row]:
    """A row for each label in order of appearance; of too many, those that last longest keep their own."""
    seconds: dict[str, float] = {}
    for event in sorted(events, key=lambda e: e.start_seconds):
        seconds[event.label] = seconds.get(event.label, 0.0) + event.end_seconds - event.start_seconds
    kept = set(seconds)
    if len(seconds) > ROWS:
        kept = set(sorted(seconds, key=lambda label: -seconds[label])[: ROWS - 1])
    rows = [
        Row(
            (label,),
            style.wrapped(label),
            style.COLOURS[i % len(style.COLOURS)],
            "-" if i < len(style.COLOURS) else "--",
        )
        for i, label in enumerate(label for label in seconds if label in kept)
    ]
    if further := tuple(label for label in seconds if label not in kept):
        rows.append(Row(further, f"{len(further)} further labels", style.SOFT, ":"))
    return rows


def _left_margin(rows: Sequence[Row]) -> float:
    """Room for the widest label beside its swatch, in inches."""
    lines = [line for row in rows for line in row.name.split("\n")]
    points = (TextPath((0, 0), line, size=style.LABEL_SIZE).get_extents().width for line in lines if line)
    return max(0.9, max(points, default=0.0) / 72 + 0.62)


def _thumbnails(segments: int, aspect: float, inches: float) -> tuple[int, float]:
    """How many frames fit side by side and stay legible, and their height in inches."""
    narrowest = THUMBNAIL_WIDTH * min(1.0, max(aspect, 0.6))
    count = max(1, min(segments, int(inches / narrowest)))
    return count, min(THUMBNAIL_HEIGHT, inches / count / aspect)


def _panels(figure: Figure, heights: dict[str, float], span: Span) -> dict[str, Axes]:
    """Axes from top to bottom with one time axis, on which only the lowest has labels."""
    total = figure.get_figheight()
    panels: dict[str, Axes] = {}
    top = total - TOP - 0.12
    step = next(
        s for s in (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 1e9) if (span.stop - span.start) / s <= 12
    )
    for name, height in heights.items():
        box = (span.left / WIDTH, (top - height) / total, span.inches / WIDTH, height / total)
        axes = figure.add_axes(box, label=name, sharex=panels.get("frames"))
        style.quiet(axes)
        axes.tick_params(labelbottom=name == "confidence", bottom=name != "frames")
        panels[name] = axes
        top -= height + GAP
    lowest = panels["confidence"]
    lowest.set_xlim(span.start, span.stop)
    lowest.xaxis.set_major_locator(MultipleLocator(step))
    lowest.set_xlabel("seconds", fontsize=style.LABEL_SIZE, fontfamily=style.FONT, color=style.SOFT)
    return panels


def _heading(axes: Axes, text: str) -> None:
    inches = axes.get_position().height * axes.figure.get_figheight()
    style.write(axes, 0, 1 + 0.07 / inches, text, size=style.HEADING_SIZE, colour=style.SOFT)
