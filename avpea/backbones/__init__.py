"""Frozen image transformers: one contract for every timm ViT, and where its weights come from."""

from avpea.backbones._base import Positions, Transformer
from avpea.backbones.families import FrozenBlock, attention_linears
from avpea.backbones.swin import Swin
from avpea.backbones.vit import Backbone
from avpea.backbones.weights import build, classifier_parameters, shape_only

__all__ = [
    "Backbone",
    "FrozenBlock",
    "Positions",
    "Swin",
    "Transformer",
    "attention_linears",
    "build",
    "classifier_parameters",
    "shape_only",
]
