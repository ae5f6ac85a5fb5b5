"""Helpers of the readers: videos by name, JSON files, safe names, and descriptions of annotation files."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avpea import parsing
from avpea.errors import DataError
from avpea.formats.text import read_text
from avpea.labels import MEDIA_SUFFIXES

__all__ = ["by_stem", "identity", "read_json", "require_stem", "safe", "source", "videos_by_stem"]


def by_stem(folders: Iterable[Path]) -> dict[str, Path]:
    """Video files by stem; earlier folders win, then earlier `MEDIA_SUFFIXES`. Missing folders are skipped."""
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            continue
        try:
            files = [path for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES]
        except OSError:  # `verify` names folders that cannot be listed, and the videos in them are missing
            continue
        for path in sorted(files, key=lambda path: (MEDIA_SUFFIXES.index(path.suffix.lower()), path.name)):
            found.setdefault(path.stem, path)
    return found


def videos_by_stem(root: Path) -> dict[str, Path]:
    """Video files by stem in `videos`, in the root itself, and in the other folders directly below it."""
    try:
        below = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError as error:
        raise DataError(f"The folder {root} cannot be listed ({error.strerror}); check its permissions.") from None
    return by_stem([root / "videos", root, *below])


def require_stem(where: str, found: str, name: object) -> str:
    """Check that a name can be the name of a file, without folder and ending.

    Args:
        where: File and row, for the error.
        found: The field with its value, for the error.
        name: The name.

    Raises:
        DataError: It cannot be a file name.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[^/\\\0]+", name) or name in {".", ".."}:
        raise DataError(f"{where}: found the {found}; expected a file name without folder or ending.")
    return name


def identity(path: Path) -> object:
    """What two paths to one file have in common: the file itself where it exists, else the path without detours."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return os.path.abspath(path)
    return about.st_dev, about.st_ino


def safe(name: str) -> str:
    """A name with all characters replaced that are not allowed in sample keys, at most 60 characters long."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]


def read_json(path: Path) -> Any:
    """Read a whole JSON file.

    Raises:
        DataError: The file cannot be read, is no text, or is not JSON, which names line and column, or is too deep.
    """
    return parsing.parse_json(read_text(path), str(path), DataError, remedy="get the file anew")


def source(root: Path, path: Path, holds: str) -> str:
    """Description of an annotation file: its name, what it holds, and a hash that identifies its version."""
    try:
        name = path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        name = "/".join(path.parts[-2:])
    return f"{name}, {holds}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
