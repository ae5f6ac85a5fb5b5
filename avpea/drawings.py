"""Small drawings as SVG with the colours of the page that holds them, light or dark; every text is escaped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from avpea.escapes import for_html

__all__ = ["Line", "bars_of_reliability", "learning_curve", "matrix"]

WIDTH, HEIGHT = 460, 250  # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 34, 34


@dataclass(frozen=True)
class Line:
    """A line of a learning curve.

    Attributes:
        name: Its name.
        points: x and y; points that are not finite are left out.
    """

    name: str
    points: Sequence[tuple[float, float]]


def learning_curve(title: str, lines: Sequence[Line], marked: float | None = None) -> str:
    """At most two lines over epochs, with the value of each at its last point.

    Args:
        title: What is drawn, with its unit.
        lines: The lines.
        marked: Epoch that is marked, such as the best one.
    """
    known = [Line(l.name, [(x, y) for x, y in l.points if math.isfinite(y)]) for l in lines]
    points = [point for line in known for point in line.points]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    ticks = _ticks(min(ys), max(ys))
    low, high = min(ticks[0], *ys), max(ticks[-1], *ys)
    first, last = min(xs), max(max(xs), min(xs) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_text(0, 14, title, "ink")]
    for tick in ticks:
        _, y = place(first, tick)
        parts += [_rule(LEFT, y, WIDTH - RIGHT, y, "grid"), _text(LEFT - 6, y + 4, f"{tick:g}", anchor="end")]
    for x in _whole(min(xs), max(xs)):
        parts.append(_text(place(x, low)[0], HEIGHT - BOTTOM + 16, f"{x:g}", anchor="middle"))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 2, "epoch", anchor="end"))
    if marked is not None and first <= marked <= last:
        x, _ = place(marked, low)
        parts.append(_rule(x, TOP, x, HEIGHT - BOTTOM, "even"))
    right = float(WIDTH - RIGHT)
    for line, colour in zip(known, ("one", "two"), strict=False):
        places = [place(x, y) for x, y in line.points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="{colour}" points="{joined}"/>')
        parts += [f'<circle class="fill-{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places]
        if len(known) > 1:
            parts.append(f'<circle class="fill-{colour}" cx="{right - 7 * len(line.name) - 8:.0f}" cy="24" r="4"/>')
            parts.append(_text(right, 28, line.name, anchor="end"))
            right -= 7 * len(line.name) + 28
    return _svg(WIDTH, HEIGHT, title, parts)


def bars_of_reliability(bins: Sequence[tuple[float, float, float | None, int]]) -> str:
    """Accuracy of each bin of confidence, beside the diagonal on which both are the same.

    Args:
        bins: Start and end of each bin in [0, 1], its accuracy (None if it is empty), and its number of answers.
    """
    side = HEIGHT - TOP - BOTTOM
    most = max((count for *_, count in bins), default=0)
    title = "How often answers of a confidence are correct"
    parts = [_text(0, 14, title, "ink")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y, x = HEIGHT - BOTTOM - share * side, LEFT + share * side
        parts += [_rule(LEFT, y, LEFT + side, y, "grid"), _text(LEFT - 6, y + 4, f"{100 * share:.0f} %", anchor="end")]
        parts.append(_text(x, HEIGHT - BOTTOM + 16, f"{100 * share:.0f}", anchor="middle"))
    for start, stop, accuracy, count in bins:
        if accuracy is None or not count:
            continue
        x, width, tall = LEFT + start * side + 1, (stop - start) * side - 2, accuracy * side
        about = f"{count} answers, {100 * accuracy:.0f} % correct"
        opacity = 0.35 + 0.65 * count / most
        parts.append(
            f'<rect class="fill-one" x="{x:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" width="{max(width, 1):.1f}" '
            f'height="{tall:.1f}" opacity="{opacity:.2f}"><title>{about}</title></rect>'
        )
    parts.append(_rule(LEFT, HEIGHT - BOTTOM, LEFT + side, TOP, "even"))
    parts.append(_text(LEFT + side, HEIGHT - 2, "confidence, %", anchor="end"))
    return _svg(LEFT + side + RIGHT + 60, HEIGHT, title, parts)


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A confusion matrix: a row for what is annotated, a column for what is predicted, darker for a larger share.

    Args:
        names: Names of rows and columns.
        counts: Counts, one sequence for each row.
    """
    shown = [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
    cell = 34 if len(names) <= 16 else 24 if len(names) <= 32 else 16
    margin = 14 + 7 * max((len(name) for name in shown), default=0)
    parts = [_text(0, 14, "Rows are annotated, columns predicted", "ink")]
    top = margin + 24
    for index, name in enumerate(shown):
        middle = (index + 0.5) * cell
        parts.append(_text(margin - 6, top + middle + 4, name, anchor="end"))
        x, y = margin + middle + 4, top - 6
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" transform="rotate(-90 {x:.1f} {y:.1f})">{for_html(name)}</text>')
    for row, of_row in enumerate(counts):
        total = sum(of_row)
        for column, count in enumerate(of_row):
            x, y, share = margin + column * cell, top + row * cell, count / total if total else 0.0
            about = for_html(f"{names[row]}, predicted as {names[column]}: {count} ({100 * share:.0f} %)")
            # An opaque colour would hide the grid; the text stays readable on half of it in light and in dark.
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" class="grid" '
                f'style="fill:rgba(var(--heat),{0.75 * share:.3f})"><title>{about}</title></rect>'
            )
            if count and cell >= 24:
                parts.append(_text(x + cell / 2, y + cell / 2 + 4, str(count), "ink", anchor="middle"))
    side = len(names) * cell
    return _svg(max(margin + side + 2, 260), top + side + 2, "Confusion matrix", parts, kind="large")


def _svg(width: float, height: float, title: str, parts: Sequence[str], kind: str = "small") -> str:
    return (
        f'<svg class="{kind}" xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{for_html(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{for_html(text)}</text>'


def _rule(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def _ticks(low: float, high: float) -> list[float]:
    """Two to seven round values that span the range."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 3))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def _whole(low: float, high: float) -> list[float]:
    """Up to ten whole numbers in a range."""
    step = max(1, math.ceil((high - low) / 9))
    return [float(x) for x in range(math.ceil(low), math.floor(high) + 1, step)]
