"""Your own videos in folders, one folder for each class.

    videos/dog/beagle.mp4
    videos/dog/pug.mp4
    videos/guitar/stage.mp4
    videos/background/street.mp4

A video of the folder `dog` is the event `dog` from its first second to its last. Only the videos of a folder called
`background` have no event, so without one a model never sees a second in which nothing happens, except the padding of
videos shorter than a window. Where events begin and end inside a video is what a manifest is for. The videos of each
class are divided among the splits (`DividedOptions`).
"""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from avpea.data.readers._base import Reader
from avpea.data.readers._divide import DividedOptions
from avpea.data.readers._files import identity
from avpea.data.readers.manifest import AnnotatedVideo, Event, annotations, divide
from avpea.errors import DataError
from avpea.formats.rows import one_line
from avpea.labels import MEDIA_SUFFIXES, SPLITS, Annotations, EventLabels, refuse_reserved, shortened
from avpea.tables import how_many

__all__ = ["BACKGROUND", "EXTENSION", "FolderReader", "read"]

BACKGROUND = "background"


def read(options: DividedOptions) -> Annotations:
    """Read a folder of class folders; only the headers of the videos are read.

    Args:
        options: `root` is the folder; `segments` is the length of a window.

    Returns:
        Windows in alphabetical order of the videos' paths; class names in alphabetical order.

    Raises:
        DataError: There is no such folder, or it is not laid out like this; names what was found.
    """
    root = Path(options.root)
    if not root.is_dir():
        raise DataError(f"There is no folder {root} (--data.root); expected one folder for each class in it.")
    classes, loose = _classes(root)
    videos, others = [], Counter[str]()
    for folder in classes:
        found, left = _videos(folder)
        others += left
        label = folder.name
        events = [] if label == BACKGROUND else [Event(label, 0.0, math.inf)]
        videos += [AnnotatedVideo(f"{label}/{file.name}", file, "", list(events)) for file in found]
    _require_two(root, [folder.name for folder in classes])
    _require_one_class(videos)
    how, division = divide(videos, options, root / "splits.json")
    notes = ["Each video is an event of its folder's name from start to end.", how[0].upper() + how[1:]]
    if BACKGROUND not in {folder.name for folder in classes}:
        notes.append(f"There is no folder '{BACKGROUND}', so no video shows what it is like if nothing happens.")
    notes += _left_out(root, loose, others)
    if odd := [path.relative_to(root) for folder in (root, *classes) for path in _entries(folder) if _is_odd(path)]:
        notes.append(f"Empty folders with the name of a video are left out: {shortened(list(map(str, odd)))}.")
    return annotations(root.resolve().name, root, videos, options, notes, division)


def _classes(root: Path) -> tuple[list[Path], list[Path]]:
    """The class folders, and the files beside them."""
    entries = _entries(root)
    classes = [path for path in entries if path.is_dir() and not _is_odd(path)]
    loose = [path for path in entries if not path.is_dir()]
    if not classes:
        raise DataError(
            f"{root} has no folders ({how_many(len(loose), 'file')}); expected one folder for each class, with its "
            f"videos, or give a table of events (.csv or .jsonl) as --data.root."
        )
    by_lower: dict[str, Path] = {}
    for folder in classes:
        other = by_lower.setdefault(folder.name.casefold(), folder)
        if other is not folder:
            raise DataError(
                f"{root} has the folders '{other.name}' and '{folder.name}', whose names differ in capitals only; "
                "put their videos into one folder, or rename one."
            )
        if folder.name != BACKGROUND:
            refuse_reserved({folder.name: str(root)})
        if not folder.name.isprintable() or folder.name != one_line(folder.name):
            raise DataError(
                f"{root} has a folder {folder.name!r}, which cannot be a class name (expected one line of characters "
                "that can be seen, with single spaces and none around it); rename it."
            )
    return classes, loose


def _is_odd(path: Path) -> bool:
    """Whether it is an empty folder with the name of a video, as interrupted programs leave, and no class."""
    return path.suffix.lower() in MEDIA_SUFFIXES and path.is_dir() and not _entries(path)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, in alphabetical order."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror}); change its permissions or move it away."
        ) from None


def _videos(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The videos of a class, and the number of other files by suffix."""
    entries = _entries(folder)
    entries = [path for path in entries if not _is_odd(path)]
    inner = [path for path in entries if path.is_dir()]
    if inner:
        layout = ", or give a table with the column 'split'" if folder.name in SPLITS else ""
        raise DataError(
            f"{folder} has a folder '{inner[0].name}' in it; expected only videos in the folder of a class, which is "
            f"directly below --data.root; move them up{layout}."
        )
    videos = [path for path in entries if path.suffix.lower() in MEDIA_SUFFIXES]
    others = Counter(path.suffix.lower() or path.name for path in entries if path not in videos)
    if not videos:
        found = f"{others.total()} other files: {shortened(list(others))}" if others else "it is empty"
        raise DataError(
            f"{folder} has no video ({found}); put some in ({shortened(MEDIA_SUFFIXES)}), or remove the folder."
        )
    return videos, others


def _require_two(root: Path, names: list[str]) -> None:
    if len(names) == 1:
        more = f"folder for another class, or one called '{BACKGROUND}' for videos without events"
        if names == [BACKGROUND]:
            more = "folder for each class"
        raise DataError(f"{root} has the single folder '{names[0]}', so there is nothing to tell apart; add a {more}.")


def _require_one_class(videos: list[AnnotatedVideo]) -> None:
    """Refuse a file that is in the folders of two classes, as a link."""
    known: dict[object, str] = {}
    for video in videos:
        other = known.setdefault(identity(video.path), video.name)
        if other.partition("/")[0] != video.name.partition("/")[0]:
            raise DataError(
                f"{other} and {video.name} are one file, and a folder's video has one class; remove one of the two, or "
                "give a table, which may name several classes for a video."
            )


def _left_out(root: Path, loose: list[Path], others: Counter[str]) -> Iterator[str]:
    unsorted = [path.name for path in loose if path.suffix.lower() in MEDIA_SUFFIXES]
    if unsorted:
        lie = how_many(len(unsorted), "video lies", "videos lie")
        yield f"{lie} in {root} itself, without a class, and left out: {shortened(unsorted)}."
    if others:
        kinds = shortened([f"{count} {suffix}" for suffix, count in sorted(others.items())])
        yield f"{how_many(others.total(), 'file')} in the folders left out, as no videos: {kinds}."


class FolderReader(Reader):
    """A folder of your own videos for each class."""

    labels = EventLabels
    Options = DividedOptions
    read = staticmethod(read)


EXTENSION = FolderReader
