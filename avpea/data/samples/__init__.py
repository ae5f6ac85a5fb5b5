"""Small data sets made on the spot from what pip brings; a file here is a sample (`av-digits`)."""

import importlib
from pathlib import Path
from typing import Any

from avpea.errors import DataError
from avpea.registry import did_you_mean

__all__ = ["make", "names"]


def names() -> list[str]:
    """Names of the samples that `make` knows."""
    stems = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(stem.replace("_", "-") for stem in stems if not stem.startswith("_"))


def make(name: str, folder: str | Path, **options: Any) -> Any:
    """Make the sample data set `name` in `folder`.

    Args:
        name: One of `names()`.
        folder: New or empty, or one that an earlier, interrupted call with the same options left.
        **options: The sample's own, for example `train`, `val`, `test`, `seed`, `progress`.

    Returns:
        The sample's `Summary`.

    Raises:
        DataError: No sample has the name, or it cannot be made; the sentence says why.
    """
    if name not in names():
        raise DataError(f"No sample data set is called '{name}'.{did_you_mean(name, names())}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.make(Path(folder), **options)
