"""Atomic writing: a file is either the old one or the complete new one, even if the process is killed."""

import errno
import json
import math
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["finite", "replacing", "unwritable", "write_json", "write_text"]


@contextmanager
def replacing(path: Path, *, several_writers: bool = False) -> Iterator[Path]:
    """A temporary path in the same folder, which is renamed to `path` when the block ends without an error.

    Args:
        path: The file to write; its folder is made if it does not exist.
        several_writers: Whether other processes may write the same file now, so that each needs its own temporary name.
            Otherwise the name is fixed, and a leftover of a killed process is overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid.uuid4().hex}.tmp" if several_writers else f".{path.name}.tmp")
    try:
        aside.unlink(missing_ok=True)
        aside.touch()  # with the permissions of the umask, which safetensors replaces by those of its owner alone
        permissions = stat.S_IMODE(aside.stat().st_mode)
        yield aside
        aside.chmod(permissions)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def unwritable(folder: Path) -> str:
    """Why no file can be written in a folder, which need not exist yet; empty if one can. Nothing is made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        return os.strerror(errno.ENOTDIR)
    return "" if os.access(there, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8; bytes of file names that are not UTF-8 become escapes, as JSON has them."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any, *, indent: int = 2) -> None:
    """Write a JSON file that ends with a newline."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """The value with None for every number that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
