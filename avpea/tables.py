"""Sentences and tables on the terminal, and numbers and times as people read them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from avpea.escapes import for_terminal

__all__ = ["Table", "clock", "how_many", "show"]


@dataclass(frozen=True)
class Table:
    """A table of text; by default all columns but the first are right-aligned.

    Attributes:
        columns: Headings of the columns.
        rows: Cells of each row; None draws a line between two rows.
        title: Title above the table.
        left: Number of left-aligned columns.
        wide: Whether the table may be wider than the terminal.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str] | None]
    title: str = ""
    left: int = 1
    wide: bool = False


def clock(seconds: float, decimals: int = 0, *, colons: bool = False) -> str:
    """A time for people: `7 s`; from a minute on `01:05`, from an hour on `1:01:05`.

    Args:
        seconds: The time in seconds, 0 or more.
        decimals: Decimals of the seconds.
        colons: Whether to write a time below a minute as `00:07` too, as beside longer ones on an axis.
    """
    rounded = round(seconds, decimals)  # first, so that 59.96 s becomes 01:00 and not 60.0 s
    if rounded < 60 and not colons:
        return f"{rounded:.{decimals}f} s"
    minutes, rest = divmod(rounded, 60)
    hours, minutes = divmod(int(minutes), 60)
    last = f"{minutes:02d}:{rest:0{3 + decimals if decimals else 2}.{decimals}f}"
    return f"{hours}:{last}" if hours else last


def how_many(count: int, noun: str, plural: str = "") -> str:
    """A number of things: `1 sample`, `2 samples`; `plural` where it is more than `noun` and an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def show(parts: Iterable[str | Table]) -> None:
    """Print sentences and tables, one after the other."""
    for part in parts:
        if isinstance(part, Table):
            _print(part)
        else:
            print(for_terminal(part))  # a line each: a file's name may hold a line break, and must not begin one


def _print(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as Drawn

    drawn = Drawn(title=for_terminal(table.title), title_justify="left", title_style="bold", header_style="bold")
    for index, column in enumerate(table.columns):
        drawn.add_column(for_terminal(column), justify="left" if index < table.left else "right", overflow="fold")
    for row in table.rows:
        if row is None:
            drawn.add_section()
        else:
            drawn.add_row(*map(for_terminal, row))
    if table.wide:
        width: int | None = 40 + 12 * len(table.columns)
    else:  # a pipe has no width: leave enough room that no column is cut
        width = None if Console().is_terminal else 160
    # Names may hold brackets and colons, which are no markup and no emoji.
    Console(width=width, markup=False, emoji=False).print(drawn)
