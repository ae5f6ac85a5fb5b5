"""Frozen networks: one contract for every timm ViT, timm's CNNs, VGGish, and where their weights come from."""

from avpea.backbones.cnn import CNN
from avpea.backbones.families import FrozenBlock, attention_linears
from avpea.backbones.vggish import VGGish, build_vggish
from avpea.backbones.vit import Backbone, Positions
from avpea.backbones.weights import build, classifier_parameters, shape_only

__all__ = [
    "CNN",
    "Backbone",
    "FrozenBlock",
    "Positions",
    "VGGish",
    "attention_linears",
    "build",
    "build_vggish",
    "classifier_parameters",
    "shape_only",
]
