"""Helpers of the readers: videos by name, JSON files, safe names, and descriptions of annotation files."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avpea import parsing
from avpea.data.identity import size_and_start
from avpea.errors import DataError
from avpea.formats.text import read_text
from avpea.labels import MEDIA_SUFFIXES, SOUND_SUFFIXES, shortened
from avpea.tables import how_many

__all__ = ["Files", "by_stem", "identity", "read_json", "require_stem", "safe", "source", "videos_by_stem"]


class Files(dict[str, Path]):
    """Media files by stem.

    A file that has pictures by its ending goes before one of sound alone, wherever they are, since a folder of sounds
    is what programs write beside one of videos; then earlier folders go first, and then earlier `MEDIA_SUFFIXES`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._all: dict[str, list[Path]] = defaultdict(list)

    def add(self, path: Path) -> None:
        """Add a file, after those of earlier folders."""
        self._all[path.stem].append(path)
        if path.stem not in self or (_has_pictures(path) and not _has_pictures(self[path.stem])):
            self[path.stem] = path

    def doubts(self, names: Iterable[str]) -> list[str]:
        """Of which names there are several files that differ, in a sentence; none if there are no such names."""
        found = {name: others for name in dict.fromkeys(names) if (others := self._others(name))}
        shown = []
        for name, others in found.items():
            both = " and ".join("/".join(path.parts[-2:]) for path in (self[name], others[0]))
            shown.append(f"{both}, of which the first is read")
        if not found:
            return []
        many = how_many(
            len(found), "video id has several files that differ", "video ids have several files that differ"
        )
        return [f"{many}: {shortened(shown, 3)}. Move those away that are not meant."]

    def _others(self, name: str) -> list[Path]:
        """Files that were passed over for one of the same kind, and are no copies of it."""
        every = self._all.get(name, [])
        if len(every) < 2:
            return []
        used = self[name]
        rivals = [path for path in every if path != used and _has_pictures(path) == _has_pictures(used)]
        known = size_and_start(used) if rivals else ""
        return [path for path in rivals if identity(path) != identity(used) and size_and_start(path) != known]


def _has_pictures(path: Path) -> bool:
    return path.suffix.lower() not in SOUND_SUFFIXES


def by_stem(folders: Iterable[Path]) -> Files:
    """Media files by stem in some folders; missing folders are skipped."""
    found = Files()
    for folder in folders:
        if not folder.is_dir():
            continue
        try:
            files = [path for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES]
        except OSError:  # `verify` names folders that cannot be listed, and the videos in them are missing
            continue
        for path in sorted(files, key=lambda path: (MEDIA_SUFFIXES.index(path.suffix.lower()), path.name)):
            found.add(path)
    return found


def videos_by_stem(root: Path) -> Files:
    """Media files by stem in `videos`, in the root itself, and in the other folders directly below it."""
    try:
        below = sorted(path for path in root.iterdir() if path.is_dir() and path.name != "videos")
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
