"""Frozen networks: timm's ViTs, Swin V2 and CNNs behind one interface, VGGish, and their weights."""

import functools
from typing import Any

from avpea import registry

from avpea.backbones._light import WithoutValues  # first, since it imports timm  # isort: skip
from avpea.backbones._base import BackboneKind, Positions, Transformer, TransformerOptions
from avpea.backbones._frozen import Frozen
from avpea.backbones._timm import refuse_unknown
from avpea.backbones.families import FrozenBlock, attention_linears
from avpea.backbones.hub import fetch, fetch_if_there
from avpea.backbones.kinds.cnn import CNN
from avpea.backbones.kinds.features import Features
from avpea.backbones.kinds.swin import Swin
from avpea.backbones.kinds.vit import Backbone
from avpea.backbones.vggish import VGGish, build_vggish, named_file, vggish_file
from avpea.backbones.weights import fill, read_table
from avpea.sections import BackboneOptions

__all__ = [
    "CNN",
    "Backbone",
    "BackboneKind",
    "BackboneOptions",
    "Features",
    "Frozen",
    "FrozenBlock",
    "Positions",
    "Swin",
    "Transformer",
    "TransformerOptions",
    "VGGish",
    "WithoutValues",
    "attention_linears",
    "build",
    "build_vggish",
    "classifier_parameters",
    "fetch",
    "fetch_if_there",
    "fill",
    "kind_of",
    "named_file",
    "read_table",
    "shape_only",
    "vggish_file",
]


@functools.cache
def kind_of(name: str) -> BackboneKind:
    """The kind of backbone for a `backbone.name`; kinds of other packages are asked first.

    Raises:
        ExperimentError: No kind serves the name.
    """
    kinds: list[Any] = list(registry.usable("backbone").values())
    kind: BackboneKind
    for kind in sorted(kinds, key=lambda kind: kind.__module__.startswith("avpea.")):
        if kind.serves(name):
            return kind
    raise refuse_unknown(name)


def build(options: BackboneOptions) -> Any:
    """The frozen backbone of a recipe with its weights: see `BackboneKind.build`."""
    return _normalising(kind_of(options.name).build(options), options)


def shape_only(options: BackboneOptions) -> Any:
    """The backbone of a recipe on the meta device: see `BackboneKind.shape_only`."""
    return _normalising(kind_of(options.name).shape_only(options), options)


def _normalising(backbone: Any, options: BackboneOptions) -> Any:
    """The backbone, which normalises pixels as the recipe says, or else as its weights were trained."""
    if options.mean:
        backbone.mean = options.mean
    if options.std:
        backbone.std = options.std
    return backbone


def classifier_parameters(name: str) -> int:
    """Parameters in a network's own classifier: see `BackboneKind.classifier_parameters`."""
    return kind_of(name).classifier_parameters(name)
