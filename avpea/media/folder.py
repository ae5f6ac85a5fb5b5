"""The media files in a folder and in all folders below it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from avpea.labels import MEDIA_SUFFIXES, shortened
from avpea.tables import how_many

__all__ = ["MediaBelow", "media_below"]


@dataclass
class MediaBelow:
    """What a folder holds.

    Attributes:
        files: The media files, sorted by path.
        others: Files without the ending of a media file.
        closed: Folders that cannot be listed.
        unreadable: The reason by path, for folders that cannot be listed, and for what has the name of a media file but
            is none, such as a link to nothing or a pipe.
    """

    files: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)

    def remarks(self) -> list[str]:
        """How many files of which kinds were left out, in a sentence."""
        if not self.others:
            return []
        kinds = shortened(sorted({path.suffix.lower() or path.name for path in self.others}), 8)
        return [f"{how_many(len(self.others), 'file')} without the ending of a video or sound left out ({kinds})."]


def media_below(folder: Path) -> MediaBelow:
    """Find the media files in a folder and below it, by their names.

    Hidden files and folders are skipped. Links to folders are followed, but no folder is searched twice, so links that
    form a loop end.

    Args:
        folder: The folder to search.
    """
    found, folders = MediaBelow(), [folder]
    links: list[Path] = []
    seen: set[tuple[int, int]] = set()
    while folders or links:
        here = folders.pop() if folders else links.pop(0)  # links last: a folder is found by its own path first
        try:
            about = os.stat(here)
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            found.closed.append(here)
            found.unreadable[here] = f"The folder {here} cannot be listed ({error.strerror}); it was left out."
            continue
        for entry in entries:
            if not entry.name.startswith("."):
                _sort_in(entry, found, folders, links)
    found.files.sort()
    return found


def _sort_in(entry: "os.DirEntry[str]", found: MediaBelow, folders: list[Path], links: list[Path]) -> None:
    path = Path(entry.path)
    try:
        if entry.is_dir():
            (links if entry.is_symlink() else folders).append(path)
            if path.suffix.lower() in MEDIA_SUFFIXES:
                found.unreadable[path] = f"{path} is a folder with the name of a file; only what is in it was read."
            return
        is_file = entry.is_file()
    except OSError:  # a link to itself
        is_file = False
    if path.suffix.lower() not in MEDIA_SUFFIXES:
        found.others.append(path)
        return
    if is_file:
        found.files.append(path)
    else:
        what = "is a link to nothing" if entry.is_symlink() and not path.exists() else "is no regular file"
        found.unreadable[path] = f"{path} {what}; it was left out."
