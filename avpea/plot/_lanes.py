"""The timeline of a video with lanes: frames, log-mel, what is seen, heard and both, and confidence."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from avpea.plot import _timeline, style
from avpea.plot._event import EventLike
from avpea.plot._timeline import CONFIDENCE_HEIGHT, SOUND_HEIGHT, Row, Span

HEADINGS = {"seen": "Seen", "heard": "Heard", "both": "Seen and heard"}


def lanes_figure(
    *,
    title: str,
    frames: UInt8[Tensor, "segments height width 3"],
    waveform: Float[Tensor, " samples"],
    lanes: Mapping[str, Sequence[EventLike]],
    seen: Float[Tensor, "segments classes"],
    heard: Float[Tensor, "segments classes"],
    class_names: Sequence[str],
    frame_aspect: float | None = None,
    threshold: float = 0.5,
) -> Figure:
    """Draw a video along time: its frames, its sound, the events of each lane, and how sure the model was.

    Axes are labelled `frames`, `sound`, `seen`, `heard`, `both` and `confidence`. A class has one colour in all lanes.

    Args:
        title: Title of the figure, such as the file's name.
        frames: RGB frames, one per second.
        waveform: Mono sound at 16 kHz.
        lanes: The events of the lanes `seen`, `heard` and `both`.
        seen: Probability that a class is seen in a second.
        heard: Probability that a class is heard in a second.
        class_names: Names of the columns of the probabilities.
        frame_aspect: Width / height of a frame as displayed, if it was resized for a model; None means that of the
            tensor.
        threshold: Probability from which on a class counts; drawn as a line if it is above 0.
    """
    segments, height, width = frames.shape[:3]
    aspect = frame_aspect or width / height
    every = _timeline.rows_of([event for events in lanes.values() for event in events])
    rows = {lane: [row for row in every if _has(row, events)] for lane, events in lanes.items()}
    span = Span(0.0, float(segments), _timeline.left_margin(every))
    count, thumbnail_height = _timeline.thumbnails(segments, aspect, span.inches)
    heights = {
        "frames": thumbnail_height,
        "sound": SOUND_HEIGHT,
        **{lane: _timeline.rows_height(rows[lane]) for lane in lanes},
        "confidence": CONFIDENCE_HEIGHT,
    }
    figure, panels = _timeline.new_panels(heights, span, title)
    _timeline.draw_frames(panels["frames"], frames, count, span, thumbnail_height, aspect)
    _timeline.draw_sound(panels["sound"], waveform.detach().float().cpu(), span)
    for lane, events in lanes.items():
        _timeline.draw_events(panels[lane], rows[lane], events, None, span, HEADINGS[lane])
    _draw_confidence(panels["confidence"], every, seen, heard, class_names, threshold, span)
    return figure


def _has(row: Row, events: Sequence[EventLike]) -> bool:
    return any(event.label in row.labels for event in events)


def _draw_confidence(
    axes: Axes,
    rows: Sequence[Row],
    seen: Float[Tensor, "segments classes"],
    heard: Float[Tensor, "segments classes"],
    class_names: Sequence[str],
    threshold: float,
    span: Span,
) -> None:
    """A solid line for what is seen and a dashed one for what is heard, of each row's labels."""
    edges = span.start + np.arange(len(seen) + 1)
    column = {name: index for index, name in enumerate(class_names)}
    handles: list[Line2D | Patch] = []
    streams: tuple[tuple[str, Tensor, Literal["-", "--"]], ...] = (("seen", seen, "-"), ("heard", heard, "--"))
    for name, chances, dashes in streams:
        for row in reversed(rows):
            values = chances[:, [column[label] for label in row.labels]].amax(dim=1).float().cpu().numpy()
            line = axes.stairs(values, edges, baseline=None, color=row.colour, linestyle=dashes, linewidth=1.8)
            line.set(clip_on=False, zorder=3)
        handles.append(Line2D([], [], color=style.SOFT, linewidth=1.8, linestyle=dashes, label=name))
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "50", "100 %"])
    axes.grid(axis="x", color=style.GRID, linewidth=0.8)
    _timeline.heading(axes, "Confidence in each second")
    _timeline.draw_limits(axes, threshold, None, handles, span)
