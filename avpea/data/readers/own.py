"""Your own videos with events, in either form: a table (`manifest`), or a folder for each class (`folders`)."""

from pathlib import Path

from avpea.data.readers import folders, manifest
from avpea.data.readers._base import Reader
from avpea.data.readers._divide import DividedOptions
from avpea.errors import DataError
from avpea.labels import Annotations, EventLabels

__all__ = ["EXTENSION", "OwnReader", "read"]


def read(options: DividedOptions) -> Annotations:
    """Read a table of events if `root` is a file, and class folders if it is a folder.

    Raises:
        DataError: From `manifest.read` or `folders.read`; or the folder has another layout.
    """
    root = Path(options.root)
    if not root.is_dir():
        return manifest.read(options)
    if (root / "Annotations.txt").is_file():
        raise DataError(f"{root} has Annotations.txt, as AVE has; read it with --data.name ave.")
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in (".csv", ".jsonl", ".ndjson"))
    if tables and not any(path.is_dir() and not path.name.startswith(".") for path in root.iterdir()):
        raise DataError(f"{root} has no folder for each class, but a table; give that: --data.root {tables[0]}.")
    return folders.read(options)


class OwnReader(Reader):
    """A table of your own events, or a folder of your own videos for each class."""

    labels = EventLabels
    Options = DividedOptions
    read = staticmethod(read)


EXTENSION = OwnReader
