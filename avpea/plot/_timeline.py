"""The timeline of a video: frames, log-mel, events and confidence above one axis of seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MultipleLocator
from torch import Tensor

from avpea.media import SAMPLE_RATE_HZ, log_mel
from avpea.plot import style
from avpea.plot._event import EventLike
from avpea.tables import clock

WIDTH = 10.0  # sizes without a unit in their name are in inches
RIGHT, TOP, BOTTOM, GAP = 0.25, 0.5, 0.5, 0.34
SOUND_HEIGHT, CONFIDENCE_HEIGHT, ROW_HEIGHT = 1.05, 1.15, 0.36
THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT = 0.7, 1.5  # minimum width (landscape) and maximum height
ROWS = 12  # at most; if there are more labels, the rest share the last row
MEL_BINS = 64  # few enough that no mel filter is empty
SHOWN_COLUMNS = 2400  # of the log-mel, at most: more cannot be seen in print
CHUNK_SECONDS = 30


@dataclass(frozen=True)
class Row:
    """A row of the event panel: its labels, name, colour and line style."""

    labels: tuple[str, ...]
    name: str
    colour: str
    dashes: Literal["-", "--", ":"] = "-"


@dataclass(frozen=True)
class Span:
    """The time axis: first and last second in the video, and its left end in the figure, in inches."""

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
    threshold: float = 0.0,
    unlike: Bool[Tensor, " segments"] | None = None,
) -> Figure:
    """Draw a video along time: its frames, its sound, the events found in it, and how sure the model was.

    Axes are labelled `frames`, `sound`, `events` and `confidence`.

    Args:
        title: Title of the figure, such as the file's name.
        frames: RGB frames, one per second.
        waveform: Mono sound at 16 kHz.
        events: The events that were found.
        probabilities: Probability of each category in each second; the last column is "no event".
        class_names: Names of the columns of `probabilities`, without the last.
        start_seconds: Start of the first frame's second in the video.
        truth: The annotated events, drawn as outlines.
        frame_aspect: Width / height of a frame as displayed, if it was resized for a model; None means that of the
            tensor.
        threshold: Confidence below which a second is no event; drawn as a line if it is above 0.
        unlike: Whether each second has an event, but is unlike the training set; such seconds are hatched.
    """
    segments, height, width = frames.shape[:3]
    rows = rows_of([*events, *(truth or ())])
    span = Span(start_seconds, start_seconds + segments, left_margin(rows))
    count, thumbnail_height = thumbnails(segments, frame_aspect or width / height, span.inches)
    heights = {
        "frames": thumbnail_height,
        "sound": SOUND_HEIGHT,
        "events": rows_height(rows),
        "confidence": CONFIDENCE_HEIGHT,
    }
    figure, panels = new_panels(heights, span, title)
    draw_frames(panels["frames"], frames, count, span, thumbnail_height, frame_aspect or width / height)
    draw_sound(panels["sound"], waveform.detach().float().cpu(), span)
    draw_events(panels["events"], rows, events, truth, span)
    handles = _draw_confidence(panels["confidence"], rows, probabilities.detach().float().cpu(), class_names, span)
    draw_limits(panels["confidence"], threshold, unlike, handles, span)
    return figure


def rows_of(events: Sequence[EventLike]) -> list[Row]:
    """A row for each label in order of appearance; if there are too many, the shortest in total share one."""
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


def rows_height(rows: Sequence[Row]) -> float:
    """Height of a panel of events, in inches."""
    return ROW_HEIGHT * max(1, len(rows)) + 0.08


def new_panels(heights: dict[str, float], span: Span, title: str) -> tuple[Figure, dict[str, Axes]]:
    """A new figure with its panels by name, from top to bottom, of the given heights in inches."""
    room = sum(heights.values()) + (len(heights) - 1) * GAP
    figure = style.new_figure(WIDTH, TOP + room + 0.12 + BOTTOM, title)
    return figure, _panels(figure, heights, span)


def left_margin(rows: Sequence[Row]) -> float:
    """Room for the widest label beside its swatch, in inches."""
    lines = [line for row in rows for line in row.name.split("\n")]
    return max(0.9, max(map(style.label_width, lines), default=0.0) + 0.62)


def thumbnails(segments: int, aspect: float, inches: float) -> tuple[int, float]:
    """How many frames fit side by side, and their height in inches."""
    narrowest = THUMBNAIL_WIDTH * min(1.0, max(aspect, 0.6))
    count = max(1, min(segments, int(inches / narrowest)))
    return count, min(THUMBNAIL_HEIGHT, inches / count / aspect)


def _panels(figure: Figure, heights: dict[str, float], span: Span) -> dict[str, Axes]:
    """Axes from top to bottom that share the time axis; only the lowest shows its labels."""
    total, last = figure.get_figheight(), list(heights)[-1]
    panels: dict[str, Axes] = {}
    top = total - TOP - 0.12
    step = next(
        s for s in (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 1e9) if (span.stop - span.start) / s <= 12
    )
    for name, height in heights.items():
        box = (span.left / WIDTH, (top - height) / total, span.inches / WIDTH, height / total)
        axes = figure.add_axes(box, label=name, sharex=panels.get("frames"))
        style.quiet(axes)
        axes.tick_params(labelbottom=name == last, bottom=name != "frames")
        panels[name] = axes
        top -= height + GAP
    lowest = panels[last]
    lowest.set_xlim(span.start, span.stop)
    lowest.xaxis.set_major_locator(MultipleLocator(step))
    minutes = span.stop > 60
    if minutes:
        lowest.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds, colons=True)))
    label = "seconds" if not minutes else "minutes:seconds" if span.stop < 3600 else "hours:minutes:seconds"
    lowest.set_xlabel(label, fontsize=style.LABEL_SIZE, fontfamily=style.FONT, color=style.SOFT)
    return panels


def heading(axes: Axes, text: str) -> None:
    """Write the heading of a panel."""
    style.write(axes, 0, style.above(axes, 0.07), text, size=style.HEADING_SIZE, colour=style.SOFT)


def _key(axes: Axes, handles: Sequence[Line2D | Patch]) -> None:
    """A legend at the right of the panel's heading."""
    key = axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1.0, style.above(axes, 0.045)), borderaxespad=0,
        borderpad=0, ncols=len(handles), frameon=False, labelcolor=style.SOFT, handlelength=1.6, columnspacing=1.2,
        prop={"family": style.FONT, "size": style.TICK_SIZE},
    )  # fmt: skip
    for text in key.get_texts():
        text.set_parse_math(False)


def draw_frames(
    axes: Axes, frames: UInt8[Tensor, "segments height width 3"], count: int, span: Span, height: float, aspect: float
) -> None:
    """Draw `count` of the frames side by side."""
    style.frame(axes)
    axes.set(ylim=(0, 1), yticks=[])
    slot = (span.stop - span.start) / count
    half = min(0.485 * slot, height * aspect / span.inches * (span.stop - span.start) / 2)
    for middle in (slot * (i + 0.5) for i in range(count)):
        image = frames[int(middle)].cpu().numpy()
        left, right = span.start + middle - half, span.start + middle + half
        axes.imshow(image, extent=(left, right, 0, 1), aspect="auto", interpolation="antialiased")
    share = "one a second" if count == len(frames) else f"{count} of {len(frames)} seconds"
    heading(axes, f"Frames ({share})" if len(frames) > 1 else "Frame")


def draw_sound(axes: Axes, waveform: Float[Tensor, " samples"], span: Span) -> None:
    """The log-mel of the whole sound, averaged to `SHOWN_COLUMNS` columns if it has more."""
    shift_ms = 10.0 if span.stop - span.start > 5 else 2.5
    shift = int(SAMPLE_RATE_HZ * shift_ms / 1000)
    step = CHUNK_SECONDS * SAMPLE_RATE_HZ
    # Analysis windows reach 15 ms or more into the next chunk, and after the last chunk into silence.
    padded = torch.nn.functional.pad(waveform, (0, 400 - shift))
    chunks = [padded[i : i + step + 400 - shift] for i in range(0, max(len(waveform), 1), step)]
    image = torch.cat([log_mel(c, mel_bins=MEL_BINS, frame_shift_ms=shift_ms) for c in chunks if len(c) >= 400])
    stop = span.start + len(image) * shift / SAMPLE_RATE_HZ
    if len(image) > SHOWN_COLUMNS:
        image = torch.nn.functional.adaptive_avg_pool1d(image.T, SHOWN_COLUMNS).T
    values = image.numpy()
    low, high = np.quantile(values, (0.05, 0.998))
    axes.imshow(
        values.T, extent=(span.start, stop, 0, MEL_BINS), aspect="auto", origin="lower", cmap="magma",
        vmin=low, vmax=max(high, low + 6.0), interpolation="antialiased",
    )  # fmt: skip
    axes.set_ylim(0, MEL_BINS)
    style.mark_hertz(axes, MEL_BINS)
    heading(axes, "Sound (log-mel)")


def draw_events(
    axes: Axes,
    rows: Sequence[Row],
    events: Sequence[EventLike],
    truth: Sequence[EventLike] | None,
    span: Span,
    title: str = "Events",
) -> None:
    """Draw a bar for each event, in the row of its label, and an outline for each annotated one."""
    count = max(1, len(rows))
    axes.set(ylim=(count - 0.5 + 0.04, -0.54), yticks=[])
    axes.set_axisbelow(True)
    if rows:
        axes.grid(axis="x", color=style.GRID, linewidth=0.8)
    place = {label: (i, row) for i, row in enumerate(rows) for label in row.labels}
    per_second = span.inches / (span.stop - span.start)
    for event in events:
        i, row = place[event.label]
        seconds, doubtful = min(event.end_seconds, span.stop) - event.start_seconds, _is_doubtful(event)
        looks = _hatched(row.colour) if doubtful else {"facecolor": row.colour, "linewidth": 0}
        axes.add_patch(Rectangle((event.start_seconds, i - 0.29), seconds, 0.58, **looks))
        text = f"{100 * event.confidence:.0f} %" + " ?" * doubtful
        text = text if seconds * per_second > (0.6 if doubtful else 0.45) else "?" * doubtful
        if text:
            axes.text(
                event.start_seconds + seconds / 2, i, text, ha="center", va="center",
                color=style.INK if doubtful else _on(row.colour), fontsize=style.TICK_SIZE, fontfamily=style.FONT,
                clip_on=True, zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0} if doubtful else None,
            )  # fmt: skip
    for event in truth or ():
        i, _ = place[event.label]
        corner, seconds = (event.start_seconds, i - 0.41), event.end_seconds - event.start_seconds
        axes.add_patch(Rectangle(corner, seconds, 0.82, fill=False, edgecolor=style.INK, linewidth=1.2, zorder=3))
    for i, row in enumerate(rows):
        _name(axes, row, 1 - (i + 0.54) / (count + 0.08), span)
    if not rows:
        style.write(axes, 0.5, 0.5, "no event found", colour=style.SOFT, ha="center", va="center")
    heading(axes, title if events else f"{title} (none found)")
    handles: list[Line2D | Patch] = []
    if truth is not None:
        handles.append(Patch(facecolor=style.SOFT, label="found, with mean confidence"))
    if any(map(_is_doubtful, events)):
        handles.append(Patch(**_hatched(style.SOFT), label="doubtful: unlike the training set"))
    if truth is not None:
        handles.append(Patch(fill=False, edgecolor=style.INK, linewidth=1.2, label="annotated"))
    if handles:
        _key(axes, handles)


def _is_doubtful(event: EventLike) -> bool:
    return bool(getattr(event, "doubtful", False))


def _hatched(colour: str) -> dict[str, Any]:
    """How a doubtful bar is drawn: an outline with hatching instead of a fill."""
    return {"facecolor": "white", "edgecolor": colour, "hatch": "/////", "linewidth": 1.0}


def _name(axes: Axes, row: Row, height: float, span: Span) -> None:
    """The row's label, with a sample of its line in the confidence panel."""
    ends = (-0.3 / span.inches, -0.08 / span.inches)
    swatch = Line2D(ends, (height, height), color=row.colour, linestyle=row.dashes, linewidth=2.2)
    swatch.set(transform=axes.transAxes, clip_on=False)
    axes.add_line(swatch)
    style.write(axes, -0.38 / span.inches, height, row.name, ha="right", va="center")


def _draw_confidence(
    axes: Axes,
    rows: Sequence[Row],
    probabilities: Float[Tensor, "segments categories"],
    class_names: Sequence[str],
    span: Span,
) -> list[Line2D | Patch]:
    """Draw the confidence of each row's labels and of "no event"; returns what the legend has to explain."""
    edges = span.start + np.arange(len(probabilities) + 1)
    column = {name: i for i, name in enumerate(class_names)}
    width = 2.0 if len(probabilities) <= 60 else 1.4 if len(probabilities) <= 240 else 1.0
    axes.stairs(probabilities[:, -1].numpy(), edges, fill=True, color=style.PALE)
    handles: list[Line2D | Patch] = [Patch(facecolor=style.PALE, label="no event")]
    if not rows and column:
        best = int(probabilities[:, :-1].amax(dim=0).argmax())
        rows = [Row((class_names[best],), "", style.COLOURS[0])]
        label = f"likeliest category: {style.plain(class_names[best], 40)}"
        handles.insert(0, Line2D([], [], color=style.COLOURS[0], linewidth=2.0, label=label))
    for row in reversed(rows):
        if columns := [column[label] for label in row.labels if label in column]:
            values = probabilities[:, columns].amax(dim=1).numpy()
            line = axes.stairs(values, edges, baseline=None, color=row.colour, linestyle=row.dashes, linewidth=width)
            line.set(clip_on=False, zorder=3)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "50", "100 %"])
    axes.grid(axis="x", color=style.GRID, linewidth=0.8)
    heading(axes, "Confidence in each second")
    return handles


def draw_limits(
    axes: Axes, threshold: float, unlike: Bool[Tensor, " segments"] | None, handles: list[Line2D | Patch], span: Span
) -> None:
    """The threshold, seconds that are unlike training, and the legend of the panel."""
    if threshold > 0:
        axes.axhline(threshold, color=style.INK, linewidth=0.9, linestyle=":", zorder=4)
        label = f"threshold, {100 * threshold:.0f} %"
        handles.append(Line2D([], [], color=style.INK, linewidth=0.9, linestyle=":", label=label))
    if unlike is not None and bool(unlike.any()):
        looks: dict[str, Any] = {"facecolor": "none", "edgecolor": style.FAINT, "hatch": "/////", "linewidth": 0}
        edges = torch.nn.functional.pad(unlike.int(), (1, 1)).diff().nonzero().flatten().tolist()
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            axes.add_patch(Rectangle((span.start + start, 0), stop - start, 1, zorder=2, **looks))
        handles.append(Patch(**looks, label="unlike the training set"))
    _key(axes, handles)


def _on(colour: str) -> str:
    """Black or white, whichever is more legible on a colour (relative luminance, Rec. 709)."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return style.INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else "white"
