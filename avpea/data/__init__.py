"""Data sets: readers of annotations, checks of the videos, and the cache of decoded samples."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from avpea import registry
from avpea.data._places import is_url
from avpea.errors import DataError
from avpea.files import closed
from avpea.labels import Annotations
from avpea.sections import ReaderOptions

__all__ = ["keep_division", "read"]


def read(options: ReaderOptions) -> Annotations:
    """Read the annotations of the data set that a recipe names; no video is decoded.

    Raises:
        DataError: `data.root` is empty or wrong, or the annotations are malformed.
        ExperimentError: No reader has the name.
    """
    reader: Any = registry.load("reader", options.name)
    if not options.root:
        raise DataError(f"data.root is empty; say where the data set '{options.name}' is with --data.root FOLDER.")
    if options.root.startswith("~"):  # a shell leaves it as it is after `--data.root=`
        options = replace(options, root=os.path.expanduser(options.root))
    if not is_url(options.root) and (reason := closed(Path(options.root))):
        raise DataError(f"{reason}; get permission for it, or name another data set with --data.root.")
    if not os.path.isabs(options.root) and not is_url(options.root) and not os.path.lexists(options.root):
        raise DataError(
            f"There is no {options.root} (--data.root) in {os.getcwd()}; a relative path counts from the folder in "
            "which the command runs, so run it where it was first, or give the path of the data set."
        )
    annotations: Annotations = reader.read(options)
    return annotations


def keep_division(annotations: Annotations) -> list[str]:
    """Write down how videos without a split of their own were divided, so that later ones leave them where they are.

    Returns:
        A note if that cannot be done.
    """
    from avpea.data.readers._divide import keep_division as keep

    note = "" if annotations.division is None else keep(annotations.division)
    return [note] if note else []
