"""Small data sets that are composed from pip packages. The name of a file here is a data set's (`av-digits`)."""

import importlib
import os
from pathlib import Path
from typing import Any

from avpea.errors import DataError
from avpea.registry import did_you_mean

__all__ = ["make", "names"]


def names() -> list[str]:
    """Names of the data sets that `make` can make."""
    stems = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(stem.replace("_", "-") for stem in stems if not stem.startswith("_"))


def make(name: str, folder: str | Path, **options: Any) -> Any:
    """Make the data set `name` in `folder`.

    Args:
        name: One of `names()`.
        folder: A new or empty folder, or that of an interrupted call with the same options.
        **options: Number of clips in `train`, `val` and `test`; `seed` and `progress`.

    Returns:
        The `Summary` of what was made.

    Raises:
        DataError: There is no data set of that name, or it cannot be made.
    """
    if name not in names():
        raise DataError(f"No sample data set is called '{name}'.{did_you_mean(name, names())}")
    from avpea.data.samples import _making  # numpy: only when one is made

    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return _making.make(module.KIND, Path(os.path.expanduser(folder)), **options)
