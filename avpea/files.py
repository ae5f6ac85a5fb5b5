"""Files that are either the old one or the whole new one, at whatever moment a process is killed."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["replacing", "write_json", "write_text"]


@contextmanager
def replacing(path: Path, *, several_writers: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to; once the block has ended without an error, it takes the place of `path`.

    Args:
        path: What is to be written; its folder is made if it is not there.
        several_writers: Other processes may write the same file at this moment, so each needs a name of its own.
            Otherwise there is one name, and what a killed process left behind is written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid.uuid4().hex}.tmp" if several_writers else f".{path.name}.tmp")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, indent: int = 2) -> None:
    """Write a JSON file that ends in a line break."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
