"""The answer to a question: where each second's sound was located in its frame, and which seconds mattered."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from avpea.media import log_mel
from avpea.plot import style
from avpea.tables import clock

# Inches.
LEFT, RIGHT, TOP, BOTTOM, GAP = 1.5, 0.3, 0.5, 0.3, 0.1
QUESTION_LINE, ANSWER_ROW, HEADING = 0.22, 0.24, 0.34
SOUND_HEIGHT, BAR_HEIGHT, SECONDS = 0.5, 0.62, 0.24
NARROWEST, WIDEST, ALL_COLUMNS = 0.85, 1.9, 9.6
ANSWERS_WIDTH = 5.0
SHOWN_ANSWERS = 5
MEL_BINS = 64
HEAT = "inferno"
# The heat of a map is faint if its peak is below this multiple of an even share: the map says little then.
CLEAR_PEAK = 3.0


@dataclass(frozen=True)
class Columns:
    """The columns of the segments: `count` frames of `width` x `height` inches."""

    count: int
    width: float
    height: float

    @property
    def inches(self) -> float:
        """Width of all columns, in inches."""
        return self.count * (self.width + GAP) - GAP


def grounding_figure(
    *,
    title: str,
    question: str,
    answers: Sequence[tuple[str, float]],
    frames: UInt8[Tensor, "segments height width 3"],
    frame_seconds: Sequence[float],
    frame_aspect: float,
    waveform: Float[Tensor, " samples"],
    spatial: Float[Tensor, "segments rows columns"] | None,
    seen: Float[Tensor, " segments"] | None,
    heard: Float[Tensor, " segments"] | None,
) -> Figure:
    """Draw the answer to a question: probabilities, where the sound was located, and which seconds mattered.

    Axes are labelled `answers`, `frame 0`, `sound 0`, ...

    Args:
        title: Title of the figure, such as the file's name.
        question: The question.
        answers: Answers with their probabilities, the most probable first; the first five are shown.
        frames: RGB frames, one per segment.
        frame_seconds: Start of each segment in the video.
        frame_aspect: Width / height of a frame as displayed.
        waveform: Mono sound at 16 kHz, one second per segment, concatenated.
        spatial: Attention of each segment's sound over the patches of its frame; None if the model computes none.
        seen: Temporal attention over the frames; None if the model computes none.
        heard: Temporal attention over the sounds; None if the model computes none.
    """
    columns = _columns(len(frames), frame_aspect)
    lines = textwrap.wrap(style.plain(question, 180), 90)[:2] or [""]
    shown = list(answers)[:SHOWN_ANSWERS]
    bars = [(name, shares) for name, shares in (("picture", seen), ("sound", heard)) if shares is not None]
    top = TOP + len(lines) * QUESTION_LINE + len(shown) * ANSWER_ROW + 0.12
    body = HEADING + columns.height + SECONDS + SOUND_HEIGHT + (HEADING + len(bars) * (BAR_HEIGHT + GAP)) * bool(bars)
    width, height = max(LEFT + columns.inches + RIGHT, 8.0), top + body + BOTTOM
    figure = style.new_figure(width, height, title)

    def panel(label: str, left: float, above: float, inches: tuple[float, float]) -> Axes:
        box = (left / width, 1 - (above + inches[1]) / height, inches[0] / width, inches[1] / height)
        return figure.add_axes(box, label=label)

    for number, line in enumerate(lines):
        style.write(figure, 0.16 / width, 1 - (TOP + (number + 0.7) * QUESTION_LINE) / height, line, size=10.5)
    inches = (min(ANSWERS_WIDTH, width - LEFT - 1.2), len(shown) * ANSWER_ROW)
    _draw_answers(panel("answers", LEFT, TOP + len(lines) * QUESTION_LINE + 0.06, inches), shown)
    lefts = [LEFT + index * (columns.width + GAP) for index in range(columns.count)]
    above = top + HEADING
    style.write(figure, 0.16 / width, 1 - (above - 0.12) / height, _heading(spatial), size=style.HEADING_SIZE)
    for index, left in enumerate(lefts):
        axes = panel(f"frame {index}", left, above, (columns.width, columns.height))
        _draw_frame(axes, frames[index], None if spatial is None else spatial[index])
    above += columns.height
    for index, left in enumerate(lefts):
        _mark_second(figure, (left + columns.width / 2) / width, 1 - (above + 0.16) / height, frame_seconds[index])
    above += SECONDS
    sounds = waveform.reshape(columns.count, -1)
    for index, left in enumerate(lefts):
        _draw_sound(panel(f"sound {index}", left, above, (columns.width, SOUND_HEIGHT)), sounds[index])
    style.write(
        figure, 0.16 / width, 1 - (above + SOUND_HEIGHT / 2) / height, "sound, low to high", size=style.TICK_SIZE
    )
    above += SOUND_HEIGHT + HEADING
    if bars:
        text = "Which seconds mattered for the answer: share of each one's picture and sound (line: all alike)"
        style.write(figure, 0.16 / width, 1 - (above - 0.12) / height, text, size=style.HEADING_SIZE)
    for number, (name, shares) in enumerate(bars):
        axes = panel(name, LEFT, above + number * (BAR_HEIGHT + GAP), (columns.inches, BAR_HEIGHT))
        _draw_bars(axes, shares, columns, style.COLOURS[number])
        style.write(
            figure, 0.16 / width, 1 - (above + number * (BAR_HEIGHT + GAP) + BAR_HEIGHT / 2) / height, name,
            size=style.LABEL_SIZE, va="center",
        )  # fmt: skip
    return figure


def _columns(segments: int, aspect: float) -> Columns:
    width = min(WIDEST, max(NARROWEST, ALL_COLUMNS / segments - GAP))
    return Columns(segments, width, min(width / aspect, 1.8 * width))


def _heading(spatial: Tensor | None) -> str:
    if spatial is None:
        return "The seconds"
    peak = float(spatial.flatten(1).amax(dim=1).max()) * spatial[0].numel()
    return f"Where each second's sound was found in its picture (brightest patch: {peak:.1f} times an even share)"


def _draw_answers(axes: Axes, answers: Sequence[tuple[str, float]]) -> None:
    rows = range(len(answers))
    colours = [style.COLOURS[2] if row == 0 else style.FAINT for row in rows]
    axes.barh(rows, [chance for _, chance in answers], height=0.62, color=colours)
    axes.set_xlim(0, 1.12)
    axes.set_ylim(len(answers) - 0.5, -0.5)
    axes.set_yticks(rows, [style.plain(answer, 20) for answer, _ in answers])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    for row, (_, chance) in enumerate(answers):
        axes.text(chance + 0.012, row, f"{100 * chance:.0f} %", va="center", fontsize=8, color=style.SOFT)
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=style.LABEL_SIZE, labelfontfamily=style.FONT, labelcolor=style.INK)
    style.frame(axes)


def _draw_frame(
    axes: Axes, frame: UInt8[Tensor, "height width 3"], shares: Float[Tensor, "rows columns"] | None
) -> None:
    extent = (0.0, 1.0, 1.0, 0.0)
    if shares is None:
        axes.imshow(frame.numpy(), extent=extent, aspect="auto")
    else:
        grey = frame.float().mean(dim=-1).numpy() / 255
        axes.imshow(grey, extent=extent, aspect="auto", cmap="gray", vmin=0, vmax=1)
        heat = _heat(shares)
        axes.imshow(heat, extent=extent, aspect="auto", cmap=HEAT, vmin=0, vmax=1, alpha=0.25 + 0.45 * heat)
    axes.set(xticks=[], yticks=[])
    style.frame(axes, *style.ALL_SIDES)


def _heat(shares: Float[Tensor, "rows columns"]) -> npt.NDArray[np.floating]:
    """Attention above an even share, scaled to its maximum, in [0, 1]; fainter where the maximum is small."""
    times = shares.float() * shares.numel()
    above = (times - 1).clamp(min=0)
    heat: npt.NDArray[np.floating] = (above / max(float(above.max()), CLEAR_PEAK - 1)).numpy()
    return heat


def _mark_second(figure: Figure, x: float, y: float, second: float) -> None:
    style.write(
        figure, x, y, clock(second, decimals=int(second % 1 > 0)), size=style.TICK_SIZE, colour=style.SOFT, ha="center"
    )


def _draw_sound(axes: Axes, waveform: Float[Tensor, " samples"]) -> None:
    image = log_mel(waveform, mel_bins=MEL_BINS, frame_shift_ms=10.0)
    axes.imshow(image.T.numpy(), origin="lower", aspect="auto", cmap="magma", vmin=-14, vmax=2)
    axes.set(xticks=[], yticks=[])
    style.frame(axes)


def _draw_bars(axes: Axes, shares: Float[Tensor, " segments"], columns: Columns, colour: str) -> None:
    middles = [index * (columns.width + GAP) + columns.width / 2 for index in range(columns.count)]
    axes.bar(middles, shares.tolist(), width=0.55 * columns.width, color=colour)
    even = 1 / columns.count
    axes.axhline(even, color=style.SOFT, linewidth=0.8)
    axes.set_xlim(0, columns.inches)
    axes.set_ylim(0, 1.25 * max(float(shares.max()), 1.6 * even))
    for middle, share in zip(middles, shares.tolist(), strict=True):
        axes.text(
            middle, share, f"{100 * share:.0f}", ha="center", va="bottom", fontsize=style.TICK_SIZE, color=style.SOFT
        )
    axes.set(xticks=[], yticks=[])
    style.frame(axes, "bottom")
