"""What readers of annotations share: videos by their names, JSON files, names that are safe, where a file is from."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avpea.errors import DataError
from avpea.labels import MEDIA_SUFFIXES

__all__ = ["by_stem", "read_json", "require_stem", "safe", "source", "videos_by_stem"]


def by_stem(folders: Iterable[Path]) -> dict[str, Path]:
    """Files by stem; earlier folders go first, then the order of `MEDIA_SUFFIXES`. What is no folder is passed over."""
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            continue
        files = [path for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES]
        for path in sorted(files, key=lambda path: (MEDIA_SUFFIXES.index(path.suffix.lower()), path.name)):
            found.setdefault(path.stem, path)
    return found


def videos_by_stem(root: Path) -> dict[str, Path]:
    """Files by stem in `videos`, in the root itself, and in any other folder directly below it."""
    return by_stem([root / "videos", root, *sorted(path for path in root.iterdir() if path.is_dir())])


def require_stem(where: str, found: str, name: object) -> str:
    """A name that can be that of a file without folder and ending.

    Args:
        where: File and row, for the message.
        found: What it is called there, and the name itself.
        name: The name.

    Raises:
        DataError: It cannot be one.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[^/\\\0]+", name) or name in {".", ".."}:
        raise DataError(f"{where}: found the {found}; expected a file name without folder or ending.")
    return name


def safe(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]


def read_json(path: Path) -> Any:
    """Read a whole JSON file.

    Raises:
        DataError: Not UTF-8, or not JSON: line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); get the file anew.") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}); get the file anew."
        ) from None


def source(root: Path, path: Path, holds: str) -> str:
    """An annotation file in a sentence's words: its name, what it holds, and what identifies its version."""
    try:
        name = path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        name = "/".join(path.parts[-2:])
    return f"{name}, {holds}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
