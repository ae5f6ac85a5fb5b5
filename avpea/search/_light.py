"""LanceDB without the clients of its cloud service, whose making takes longer than all else that it imports.

LanceDB imports types of requests from a package that, as a whole, makes such clients. Only the types are made here. The
rest of that package comes when somebody looks up one of its names, as if it had been imported in the usual way.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["import_lancedb"]

_CLIENTS = "lance_namespace_urllib3_client"
_LOOKED_UP = ("__all__", "__version__")  # other such names are those of the import system and of `inspect`


class _Deferred(ModuleType):
    """A package whose modules can be imported, and whose own code runs when a name is looked up that it lacks."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__, self.__loader__, self.__file__ = spec, spec.loader, spec.origin
        self.__package__ = spec.name
        self.__path__ = list(spec.submodule_search_locations or ())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _LOOKED_UP:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def import_lancedb() -> Any:
    """The module `lancedb`.

    Raises:
        ImportError: It is not installed.
    """
    if "lancedb" not in sys.modules and _CLIENTS not in sys.modules:
        spec = importlib.util.find_spec(_CLIENTS)
        if spec is not None:
            sys.modules[_CLIENTS] = _Deferred(spec)
    return importlib.import_module("lancedb")
