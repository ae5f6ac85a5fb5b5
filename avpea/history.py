"""Read experiments that earlier versions of avpea wrote."""

from collections.abc import Mapping
from typing import Any

from avpea import registry
from avpea.errors import ExperimentError
from avpea.experiment import Experiment, class_of
from avpea.options import option_names

__all__ = ["read_experiment"]

_SECTIONS = ("data", "audio", "backbone", "encoder", "adapter", "head", "train")
_OF_THE_TEXT_MODEL = ("name", "weights", "length")


def read_experiment(values: Mapping[str, Any], source: str = "") -> Experiment:
    """The experiment of a run, a checkpoint or a result, whichever version wrote it.

    Up to version 0.1.0 a section held the options of all extensions of its kind, and a section `text` those of text
    models. Options that the named extension does not have were never used and are dropped.

    Raises:
        ExperimentError: As `Experiment.from_dict`.
    """
    values = _divided(values)
    if isinstance(values.get("task"), Mapping):
        return Experiment.from_dict(values, source)
    try:
        translated = _translated(values)
    except ExperimentError as error:
        raise ExperimentError(f"{source}: {error}" if source else str(error)) from None
    return Experiment.from_dict(translated, source)


def _translated(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the present version would write them."""
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for section in (*_SECTIONS, "text"):
        if not isinstance(found.setdefault(section, {}), dict):
            raise ExperimentError(f"'{section}' takes names and values, got {found[section]!r:.80}.")
    text = found.pop("text")
    found["head"] |= {key: value for key, value in text.items() if key not in _OF_THE_TEXT_MODEL}
    found["head"]["text"] = {key: text[key] for key in _OF_THE_TEXT_MODEL if key in text}
    audio = found["audio"]
    found["encoder"]["positions"] = audio.pop("positions", "grid")
    audio["rows"] = audio.pop("native_frames", 102)
    encoder = registry.load("encoder", str(found["encoder"].get("name", "dual_stream")))
    if not issubclass(registry.load("adapter", str(found["adapter"].get("name", "av_pea"))), encoder.adapters):
        del found["adapter"]
    for section in _SECTIONS:
        if section in found:
            had = found[section]
            known = {name.partition(".")[0] for name in option_names(class_of(section, had))}
            found[section] = {key: value for key, value in had.items() if key in known}
    return found


def _divided(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Before there was `data.divide`, a manifest without splits was divided by a hash."""
    data = values.get("data")
    if not isinstance(data, Mapping) or data.get("name") != "manifest" or "divide" in data:
        return values
    return {**values, "data": {**data, "divide": "by_hash"}}
