"""Choose the options class of each section, merge values over a base's, and parse all sections."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avpea import registry
from avpea.errors import ExperimentError
from avpea.experiment._unknown import no_such, refuse_unknown
from avpea.options import Options, declared, parse
from avpea.sections import OWNED, AdapterOptions, EncoderOptions, audio_options, train_options

__all__ = ["Values", "class_of", "merged", "parsed", "spelled"]

CHOSEN = {"audio": audio_options, "train": train_options}
Values = dict[str, Any]


@dataclass(frozen=True)
class _Top(Options):
    """Keys of a recipe outside of its sections."""

    title: str = ""
    published: dict[str, float] = field(default_factory=dict)


def class_of(section: str, values: Mapping[str, Any]) -> type[Options]:
    """The options class that a section's values choose."""
    if section in CHOSEN:
        return CHOSEN[section](dict(values))
    kind, base, facts = OWNED[section]
    name = values.get("name", base.name)
    if not isinstance(name, str) or not name:
        raise ExperimentError(f"{section}.name is {name!r}; expected one of {', '.join(registry.names(kind))}.")
    if kind == "backbone":
        from avpea.backbones import kind_of

        return declared(kind_of(name), base, facts)
    return declared(registry.load(kind, name), base, facts)


def spelled(values: Mapping[str, Any]) -> Values:
    """The values with the short form `task: NAME` written out."""
    spelled = dict(values)
    if isinstance(spelled.get("task"), str):
        spelled["task"] = {"name": str(spelled["task"])}
    return spelled


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """Merge `above` over `below`; where that changes a section's extension, only options that both share are kept."""
    below, above = spelled(below), spelled(above)
    merged = dict(below)
    for key, value in above.items():
        old = below.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and key != "published":
            merged[key] = _nested_merge(_staying(key, old, value), value)
        else:
            # `published` belongs to one row of one table and is never inherited piecewise.
            merged[key] = value
    # Changing the encoder drops an adapter that the new one does not take, unless `above` names the adapter.
    if "adapter" in below and "adapter" not in above and "encoder" in above and not _has_place(merged):
        del merged["adapter"]
    return merged


def _nested_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _nested_merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _staying(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    if section not in OWNED and section not in CHOSEN:
        return old
    before, after = class_of(section, old), class_of(section, {**old, **new})
    common: type[Options] = next(one for one in after.__mro__ if issubclass(before, one))
    dropped = {item.name for item in dataclasses.fields(before)} - {item.name for item in dataclasses.fields(common)}
    # Unknown options stay, so that they are refused later, with the right message.
    return {key: value for key, value in old.items() if key not in dropped}


def _has_place(values: Mapping[str, Any]) -> bool:
    adapter = values.get("adapter")
    if not isinstance(adapter, Mapping) or not isinstance(values.get("encoder"), Mapping):
        return True
    encoder = registry.load("encoder", str(values["encoder"].get("name", EncoderOptions.name)))
    return issubclass(registry.load("adapter", str(adapter.get("name", AdapterOptions.name))), encoder.adapters)


def parsed(values: Values) -> Values:
    """Parse every section with its options class."""
    known = ["title", "published", *OWNED, *CHOSEN]
    for key in values:
        if not isinstance(key, str):
            raise ExperimentError(f"{key!r} is not the name of a section or an option.")
    for name in ("task", "data"):
        if name not in values:
            kinds = ", ".join(registry.names(OWNED[name][0]))
            raise ExperimentError(f"{name}.name is missing; expected one of {kinds}.")
    given: Values = {name: values.get(name, {}) for name in (*OWNED, *CHOSEN)}
    for name, section in given.items():
        if not isinstance(section, Mapping):
            raise ExperimentError(f"'{name}' takes names and values, got {section!r}.")
    task = registry.load("task", str(given["task"].get("name", "")))
    given["head"] = {"name": task.default_head, **given["head"]}
    encoder = registry.load("encoder", str(given["encoder"].get("name", EncoderOptions.name)))
    if "adapter" not in values:
        given["adapter"] = {"name": encoder.default_adapter} if encoder.default_adapter else None
    classes = {name: class_of(name, section) for name, section in given.items() if section is not None}
    for key in values:
        if key not in known:
            raise ExperimentError(no_such(key, values[key], classes, known))
    for name, section in given.items():
        if section is not None:
            refuse_unknown(name, classes[name], section, classes)
    top = parse(_Top, {key: values[key] for key in ("title", "published") if key in values}, "recipe")
    parsed = {name: None if section is None else parse(classes[name], section, name) for name, section in given.items()}
    return {"title": top.title, "published": top.published, **parsed}
