"""A file name is an extension's name: `adapters/mine.py` with one public class is adapter `mine`.

Third parties add their own through Python entry points named `avpea.adapters`, `avpea.heads` and so on.
Only the chosen file is imported.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from avpea.errors import ExperimentError

__all__ = ["did_you_mean", "load", "names"]

_FOLDERS = {"adapter": "adapters", "encoder": "encoders", "head": "heads", "task": "tasks", "data": "data"}
# Files of a room that serve its extensions and are none themselves.
_NOT_EXTENSIONS = {"cache", "verify"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name, with a blank before it: what was probably meant, and what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    guess = f" Did you mean '{close[0]}'?" if close else ""
    return f"{guess} Known: {', '.join(known)}." if known else guess


def names(kind: str) -> list[str]:
    """Names of the extensions of a kind: `adapter`, `encoder`, `head`, `task` or `data`."""
    return sorted({*_files(kind), *_entry_points(kind)})


def load(kind: str, name: str) -> Any:
    """The class (or, for `data`, the module's `read` function's owner) behind a name.

    Returns:
        The one public class of the module; a module that names `EXTENSION` answers with that object.

    Raises:
        ExperimentError: No extension of that kind has the name.
    """
    found = _entry_points(kind).get(name)
    if found is not None:
        return found.load()
    if name not in _files(kind):
        where = {"data": "data set reader"}.get(kind, kind)
        raise ExperimentError(f"No {where} is called '{name}'.{did_you_mean(name, names(kind))}")
    module = importlib.import_module(f"avpea.{_FOLDERS[kind]}.{name}")
    if hasattr(module, "EXTENSION"):
        return module.EXTENSION
    public = [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and key in getattr(module, "__all__", [key])
    ]
    if len(public) != 1:
        raise TypeError(f"{module.__name__} must define one public class or EXTENSION, found {len(public)}")
    return public[0]


def _files(kind: str) -> list[str]:
    folder = Path(__file__).parent / _FOLDERS[kind]
    stems = (path.stem for path in folder.glob("*.py"))
    return [stem for stem in stems if not stem.startswith("_") and stem not in _NOT_EXTENSIONS]


def _entry_points(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"avpea.{_FOLDERS[kind]}")}
