"""Refuse unknown options, and say what was probably meant or which extension has the option."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from avpea import registry
from avpea.errors import ExperimentError
from avpea.options import Options, declared, option_names
from avpea.registry import did_you_mean
from avpea.sections import OWNED, ContinuousOptions, LogMelOptions, RowsOptions, TrainOptions, train_options

__all__ = ["no_such", "refuse_unknown"]

# Option names of version 0.1.0 whose new name a spelling suggestion would not find.
_MOVED = {"audio.native_frames": "audio.rows"}
_MOVED |= {f"text.{name}": f"head.text.{name}" for name in ("name", "weights", "length")}
_MOVED |= {f"text.{name}": f"head.{name}" for name in ("prompt", "masked", "beams", "longest")}


def refuse_unknown(
    section: str, cls: type[Options], values: Mapping[str, Any], classes: Mapping[str, type[Options]], prefix: str = ""
) -> None:
    """Refuse options that a section's class does not have, and say which extension has them."""
    fields = {item.name: item.type for item in dataclasses.fields(cls)}
    for key, value in values.items():
        dotted = f"{prefix or section}.{key}"
        if key not in fields:
            names = [f"{prefix or section}.{name}" for name in option_names(cls)]
            owners = [] if prefix else _owners(section, str(key))
            if owners:
                raise ExperimentError(
                    f"{dotted} is an option of {' and '.join(owners)}, but {_choice(section, values)}; leave it out."
                )
            raise ExperimentError(no_such(dotted, value, classes, names))
        nested = fields[key]
        if isinstance(nested, type) and issubclass(nested, Options) and isinstance(value, Mapping):
            refuse_unknown(section, nested, value, classes, dotted)


def _choice(section: str, values: Mapping[str, Any]) -> str:
    """The choice that a section makes, such as `adapter.name is 'lora'`."""
    if section == "audio":
        key = "features" if values.get("features") in ("vggish", "precomputed") else "layout"
        default: str = LogMelOptions.layout
    elif section == "train":
        key, default = "schedule", TrainOptions.schedule
    else:
        key, default = "name", OWNED[section][1].name
    return f"{section}.{key} is '{values.get(key, default)}'"


def _owners(section: str, key: str) -> list[str]:
    """Other choices in the same section that have an option."""
    if section == "train":
        choices: dict[str, type[Options]] = {"the schedule 'step'": train_options({"schedule": "step"})}
    elif section == "audio":
        choices = {
            "every layout of the features 'kaldi'": LogMelOptions,
            "the layouts 'native', 'slices' and 'continuous'": RowsOptions,
            "the layout 'continuous'": ContinuousOptions,
        }
    else:
        kind, base, facts = OWNED[section]
        what = "the kind '{}' of backbone" if kind == "backbone" else f"the {kind} '{{}}'"
        choices = {what.format(name): declared(each, base, facts) for name, each in registry.usable(kind).items()}
    found = [name for name, cls in choices.items() if key in {item.name for item in dataclasses.fields(cls)}]
    return found[:1] if section == "audio" else found


def no_such(dotted: str, value: Any, classes: Mapping[str, type[Options]], beside: Sequence[str]) -> str:
    """The message for an unknown option: suggests the closest name beside it, or the same name in another section."""
    everywhere = [f"{section}.{name}" for section, cls in classes.items() for name in option_names(cls)]
    if isinstance(value, Mapping) and value:  # a whole section
        dotted = f"{dotted}.{next(iter(value))}"
    if dotted in _MOVED:
        return f"no option is called '{dotted}'; it is now '{_MOVED[dotted]}'."
    section, _, name = dotted.partition(".")
    last = dotted.rpartition(".")[2]
    elsewhere = [one for one in everywhere if last and one.rpartition(".")[2] == last]
    if elsewhere and not any(one.startswith(f"{section}.") for one in elsewhere):
        return f"no option is called '{dotted}'. Did you mean '{elsewhere[0]}'?"
    if section not in classes:
        near = [f"{one}.{name}" for one in classes] if name else list(classes)
        close = did_you_mean(dotted, [*everywhere, *near]).partition(" Known:")[0]
        close = close if close.partition("'")[2].rstrip("'?") in everywhere else ""
        return f"no option is called '{dotted}'.{close} Sections: {', '.join(sorted(classes))}."
    return f"no option is called '{dotted}'.{did_you_mean(dotted, beside)}"
