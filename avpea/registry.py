"""A file or folder name is an extension's name: `adapters/mine.py` with one public class is the adapter `mine`.

    adapter    avpea/adapters/NAME.py             encoder    avpea/encoders/NAME.py
    backbone   avpea/backbones/kinds/NAME.py      reader     avpea/data/readers/NAME.py
    task       avpea/tasks/NAME/task.py           head       avpea/tasks/TASK/heads/NAME.py
    official   avpea/official/NAME.py

Other packages add theirs through Python entry points in the groups `avpea.adapters`, `avpea.encoders`,
`avpea.backbones`, `avpea.readers`, `avpea.tasks`, `avpea.heads` and `avpea.officials`. An entry point names the class,
or for a task its package, laid out like those here: `task.py` and, if it has a command, `command.py`. Only what is used
is imported.
"""

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from avpea.errors import ExperimentError
from avpea.progress import note

__all__ = ["command_modules", "did_you_mean", "load", "names", "usable"]

_ROOT = Path(__file__).parent
_FILES = {
    "adapter": "adapters/*.py",
    "encoder": "encoders/*.py",
    "backbone": "backbones/kinds/*.py",
    "reader": "data/readers/*.py",
    "task": "tasks/*/task.py",
    "head": "tasks/*/heads/*.py",
    "official": "official/*.py",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name, with a leading space: what was probably meant, and which names exist."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    guess = f" Did you mean '{close[0]}'?" if close else ""
    return f"{guess} Known: {', '.join(known)}." if known else guess


def names(kind: str) -> list[str]:
    """Names of the extensions of a kind, such as `adapter`, `reader` or `official`."""
    return sorted({*_modules(kind), *_entry_points(kind)})


def load(kind: str, name: str) -> Any:
    """The class of an extension.

    Returns:
        The module's `EXTENSION` if it defines one, else its only public class.

    Raises:
        ExperimentError: No extension of that kind has the name, several packages have it, or it cannot be imported.
    """
    module, points = _modules(kind).get(name), _entry_points(kind).get(name, ())
    if len(points) > 1 or (points and module):
        homes = [point.value for point in points] + ([module] if module else [])
        raise ExperimentError(f"Several {kind}s are called '{name}' ({', '.join(homes)}); uninstall all but one.")
    for point in points:
        try:
            value = point.load()
            return _extension(import_module(f"{value.__name__}.task")) if isinstance(value, ModuleType) else value
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ExperimentError(f"The {kind} '{name}' ({point.value}) cannot be imported: {reason}.") from error
    if module is None:
        raise ExperimentError(f"No {kind} is called '{name}'.{did_you_mean(name, names(kind))}")
    return _extension(import_module(module))


def usable(kind: str) -> dict[str, Any]:
    """The extensions of a kind by name, without those of other packages that cannot be imported."""
    found = {}
    for name in names(kind):
        with suppress(ExperimentError):
            found[name] = load(kind, name)
    return found


def command_modules() -> Iterator[ModuleType]:
    """Import the module `command` of each task that has one; such modules import nothing heavy themselves."""
    packages = [module.removesuffix(".task") for module in _modules("task").values()]
    packages += [point.value for points in _entry_points("task").values() for point in points if ":" not in point.value]
    for package in sorted(set(packages)):
        try:
            if importlib.util.find_spec(f"{package}.command") is not None:
                yield import_module(f"{package}.command")
        except Exception as error:
            note(f"the commands of {package} are missing ({type(error).__name__}: {error}).")


def _extension(module: ModuleType) -> Any:
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


@cache
def _modules(kind: str) -> dict[str, str]:
    """Module names of avpea's own extensions, by extension name."""
    found = {}
    for path in sorted(_ROOT.glob(_FILES[kind])):
        name = path.parent.name if kind == "task" else path.stem
        if not name.startswith("_"):
            found[name] = ".".join(("avpea", *path.relative_to(_ROOT).with_suffix("").parts))
    return found


def _entry_points(kind: str) -> dict[str, list[EntryPoint]]:
    return _found_by(entry_points)[kind]


@cache
def _found_by(find: Callable[[], Any]) -> dict[str, dict[str, list[EntryPoint]]]:
    """Entry points by kind and name; one look at all installed packages takes as long as one for a single kind."""
    every, found = find(), dict[str, dict[str, list[EntryPoint]]]()
    for kind in _FILES:
        found[kind] = {}
        for point in every.select(group=f"avpea.{kind}s"):
            if point not in found[kind].setdefault(point.name, []):  # an editable install may be listed twice
                found[kind][point.name].append(point)
    return found
