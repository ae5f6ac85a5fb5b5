"""Finding the video files of a data set by their names without ending."""

from collections.abc import Iterable
from pathlib import Path

from avpea.dataset import MEDIA_SUFFIXES

__all__ = ["by_stem"]


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
