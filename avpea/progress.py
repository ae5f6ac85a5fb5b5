"""Progress bars with rate and remaining time, and notes, on stderr."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from avpea.escapes import for_terminal

__all__ = ["note", "progress_bar", "say"]


def say(text: str) -> None:
    """Write a line on stderr; a stranger's words in it cannot steer the terminal.

    Where it cannot be written (a log on a full disk, a terminal that was closed), work goes on without.
    """
    with suppress(OSError):
        # Our own further lines are indented; a break in a file's name must not begin what looks like a line of ours.
        own = re.sub(r"\n(?!  )", r"\\n", text)
        print(for_terminal(own, lines=True), file=sys.stderr, flush=True)


class _Lossy:
    """A stream where what cannot be written is lost, as in `say`."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def note(text: str) -> None:
    """Tell the user something that is neither an answer nor progress."""
    say(f"avpea: {text}")


@contextmanager
def progress_bar(title: str, total: int, *, shown: bool = True, done: int = 0) -> Iterator[Callable[..., None]]:
    """A bar over `total` items.

    Yields:
        `advance(items=1, note="")`, which moves the bar and sets the note at its end.
    """
    if not shown:
        yield lambda items=1, note="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: object) -> Text:
            speed = getattr(task, "finished_speed", None) or getattr(task, "speed", None)
            rate = "" if not speed else f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min"
            return Text(rate, style="progress.data.speed")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    # What is printed goes above the bar, unless it goes elsewhere, such as to a file.
    here = sys.stdout.isatty()
    console = Console(file=cast(IO[str], _Lossy(sys.stderr)))
    with Progress(*columns, console=console, redirect_stdout=here) as progress:
        bar = progress.add_task(title, total=total, completed=done, note="")
        yield lambda items=1, note="": progress.update(bar, advance=items, note=note)
