"""Frozen networks: one contract for every timm ViT, timm's CNNs, VGGish, and where their weights come from."""

from avpea.backbones._base import Positions, Transformer
from avpea.backbones.cnn import CNN
from avpea.backbones.families import FrozenBlock, attention_linears
from avpea.backbones.swin import Swin
from avpea.backbones.vggish import VGGish, build_vggish, named_file, vggish_file
from avpea.backbones.vit import Backbone
from avpea.backbones.weights import build, classifier_parameters, read_table, shape_only

__all__ = [
    "CNN",
    "Backbone",
    "FrozenBlock",
    "Positions",
    "Swin",
    "Transformer",
    "VGGish",
    "attention_linears",
    "build",
    "build_vggish",
    "classifier_parameters",
    "named_file",
    "read_table",
    "shape_only",
    "vggish_file",
]
