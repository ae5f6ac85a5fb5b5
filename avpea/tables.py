"""What a person reads on the terminal: sentences and tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Table", "show"]


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column is left-aligned, the others are figures.

    Attributes:
        columns: Headings.
        rows: Cells; None is a line between two rows.
        title: Above it.
        left: How many columns are left-aligned.
        wide: Whether it may be wider than the terminal.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str] | None]
    title: str = ""
    left: int = 1
    wide: bool = False


def show(parts: Iterable[str | Table]) -> None:
    """Print sentences and tables, one after the other."""
    for part in parts:
        if isinstance(part, Table):
            _print(part)
        else:
            print(part)


def _print(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as Drawn

    drawn = Drawn(title=table.title, title_justify="left", title_style="bold", header_style="bold")
    for index, column in enumerate(table.columns):
        drawn.add_column(column, justify="left" if index < table.left else "right", overflow="fold")
    for row in table.rows:
        if row is None:
            drawn.add_section()
        else:
            drawn.add_row(*row)
    if table.wide:
        Console(width=40 + 12 * len(table.columns)).print(drawn)
        return
    # A pipe has no width: as wide as the table wants, so that no column is cut.
    console = Console()
    Console(width=None if console.is_terminal else 160).print(drawn)
