"""Options: what an extension may be told by a recipe. Each kind of extension has a base class, each extension its own.

    @dataclass(frozen=True)
    class LoRAOptions(AdapterOptions):
        rank: int = 8

A recipe's section is parsed by the options class of the extension that the section names. A name that the class does
not have, and a value that does not fit, are refused then, before anything runs.
"""

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, cast

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from avpea.errors import ExperimentError

__all__ = ["Options", "Word", "declared", "option_names", "parse", "plain", "require"]

O = TypeVar("O", bound="Options")


@dataclass(frozen=True)
class Options:
    """Base of all options: a frozen dataclass, one field for each option, with its default.

    A check that goes beyond types belongs into `__post_init__`, and raises `ExperimentError`.

    Attributes:
        locations: Options that say where a file or folder is. They change no result, and results leave folders out.
        harmless: Other options that may change between the two halves of an interrupted run.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)
    locations: ClassVar[tuple[str, ...]] = ()
    harmless: ClassVar[tuple[str, ...]] = ()

    def rebuilt(self: O) -> O:
        """The options to rebuild a trained model with: without files that only training starts from."""
        return self


class Word(str):
    """A value as it was typed on the command line; the type of the option says how it is read."""


def require(condition: bool, message: str) -> None:
    """Refuse a value.

    Raises:
        ExperimentError: The condition does not hold.
    """
    if not condition:
        raise ExperimentError(message)


def declared(extension: Any, base: type[O], skip: tuple[str, ...] = ()) -> type[O]:
    """The options class of an extension: its `Options`, or one made of its constructor's keyword-only arguments.

    Args:
        extension: The extension's class.
        base: Options that all extensions of its kind have.
        skip: Keyword-only arguments that are facts and no options.
    """
    own: type[O] | None = getattr(extension, "Options", None)
    if own is not None:
        return own
    made: type[O] = _from_constructor(extension, cast("Any", base), skip)
    return made


@cache
def _from_constructor(extension: Any, base: Any, skip: tuple[str, ...]) -> Any:
    hints = typing.get_type_hints(extension.__init__)
    fields = [
        (argument.name, hints.get(argument.name, Any), dataclasses.field(default=argument.default))
        for argument in inspect.signature(extension.__init__).parameters.values()
        if argument.kind is argument.KEYWORD_ONLY and argument.default is not argument.empty
        if argument.name not in skip
    ]
    return dataclasses.make_dataclass(f"{extension.__name__}Options", fields, bases=(base,), frozen=True)


def option_names(cls: type[Options], prefix: str = "") -> list[str]:
    """Dotted names of a class's options, those of nested options included."""
    names: list[str] = []
    for field in dataclasses.fields(cls):
        nested = _nested(field.type)
        names += option_names(nested, f"{prefix}{field.name}.") if nested else [f"{prefix}{field.name}"]
    return names


def parse(cls: type[O], values: Mapping[str, Any], section: str) -> O:
    """Options from plain values; what is left out has its default.

    Args:
        cls: The options class.
        values: By name, nested as the options are.
        section: What the options are called in errors, such as `adapter`.

    Raises:
        ExperimentError: Values of a wrong type or that cannot work; all of them are named. Names that the class does
            not have are for the caller to refuse first, who knows where else they may belong.
    """
    try:
        made: O = _adapter(cast("Any", cls)).validate_python(_read_words(cls, values, section))
    except ValidationError as error:
        raise ExperimentError(" ".join(_sentence(section, one) for one in error.errors())) from None
    return made


@cache
def _adapter(cls: Any) -> Any:
    return TypeAdapter(cls)


def plain(value: Any) -> Any:
    """Options, or a part of them, as lists, dictionaries and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _nested(kind: Any) -> type[Options] | None:
    return kind if isinstance(kind, type) and issubclass(kind, Options) else None


def _read_words(cls: type[Options], values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Values with what was typed on the command line read, and with what pydantic is too lenient with refused."""
    kinds = {field.name: field.type for field in dataclasses.fields(cls)}
    found = {}
    for name, value in values.items():
        kind, where = kinds.get(name), f"{section}.{name}"
        if value is None:
            raise ExperimentError(f"{where} is empty; give it a value or leave it out.")
        nested = _nested(kind)
        if nested is not None:
            if not isinstance(value, Mapping):
                raise ExperimentError(f"{where} is {value!r}; expected names and values.")
            value = _read_words(nested, value, where)
        elif isinstance(value, Word):
            value = _read_word(kind, value, where)
        if isinstance(value, bool) and kind in (int, float):
            raise ExperimentError(f"{where} is {value}; expected a {'whole ' * (kind is int)}number.")
        found[name] = value
    return found


def _read_word(kind: Any, word: Word, where: str) -> Any:
    """A word as YAML, unless the option takes text."""
    if kind is str or (typing.get_origin(kind) is Literal and all(isinstance(x, str) for x in typing.get_args(kind))):
        return str(word)
    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:
        raise ExperimentError(f"--{where} {str(word)!r} cannot be read.") from None


_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "dataclass": "names and values",
    "dict": "names and values",
}


def _sentence(section: str, error: Any) -> str:
    """One of pydantic's errors as a sentence: where, what was found, what was expected."""
    kind, place = error["type"], ".".join(map(str, (section, *error["loc"])))
    if kind == "value_error":  # of a check in `__post_init__`, which is a sentence already
        return str(error["ctx"]["error"])
    if kind == "literal_error":
        expected = f"one of {error['ctx']['expected']}"
    else:
        expected = _EXPECTED.get(kind) or _EXPECTED.get(kind.partition("_")[0]) or error["msg"]
    return f"{place} is {error['input']!r}; expected {expected}."
