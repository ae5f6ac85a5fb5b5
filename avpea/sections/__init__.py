"""The sections of a recipe: options that all extensions of a kind share, and the sections `audio` and `train`."""

from typing import Any

from avpea.sections._audio import (
    AudioOptions,
    ContinuousOptions,
    LogMelOptions,
    PrecomputedOptions,
    RowsOptions,
    VGGishOptions,
    audio_options,
)
from avpea.sections._data import ReaderOptions, SpreadOptions
from avpea.sections._model import AdapterOptions, BackboneOptions, Blocks, EncoderOptions, HeadOptions, TaskOptions
from avpea.sections._train import AugmentOptions, StepTrainOptions, TrainOptions, require_device_name, train_options

__all__ = [
    "OWNED",
    "AdapterOptions",
    "AudioOptions",
    "AugmentOptions",
    "BackboneOptions",
    "Blocks",
    "ContinuousOptions",
    "EncoderOptions",
    "HeadOptions",
    "LogMelOptions",
    "PrecomputedOptions",
    "ReaderOptions",
    "RowsOptions",
    "SpreadOptions",
    "StepTrainOptions",
    "TaskOptions",
    "TrainOptions",
    "VGGishOptions",
    "audio_options",
    "require_device_name",
    "train_options",
]

# Sections that belong to an extension: its kind, the options that all of the kind share, and constructor arguments
# that are not options.
OWNED: dict[str, tuple[str, type[Any], tuple[str, ...]]] = {
    "task": ("task", TaskOptions, ()),
    "data": ("reader", ReaderOptions, ()),
    "backbone": ("backbone", BackboneOptions, ()),
    "encoder": ("encoder", EncoderOptions, ()),
    "adapter": ("adapter", AdapterOptions, ("has_cls",)),
    "head": ("head", HeadOptions, ()),
}
