"""VGGish, frozen: the audio network of AudioSet's released features, with 128 numbers for 0.96 s of sound.

Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP 2017, as in AudioSet's public code: six
3x3 convolutions in four stages, each stage followed by max pooling, then three linear layers; ReLU after every layer;
72,141,184 parameters. Weights are named as in the public port to PyTorch (github.com/harritaylor/torchvggish). The
original is channels-last, so the feature map is flattened in the order rows, columns, channels.

The embeddings are the raw output of the network, without the PCA, the clipping to [-2, 2] and the 8-bit quantisation of
AudioSet's released features.
"""

import os
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea.backbones._frozen import Frozen
from avpea.backbones.weights import fill, read_table
from avpea.errors import WeightsError

__all__ = ["VGGish", "build_vggish", "named_file", "vggish_file"]

ROWS, COLUMNS = 96, 64  # of the log-mel that it reads
DIM = 128
CHANNELS = (64, 128, 256, 512)  # of the four stages
CONVOLUTIONS = (1, 1, 2, 2)
HIDDEN = 4096


class VGGish(Frozen):
    """Log-mels from `avpea.media.vggish_log_mel` to embeddings.

    The weights must not change after `freeze`, which computes their fingerprint.

    Attributes:
        dim: Width of an embedding.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for channels, convolutions in zip(CHANNELS, CONVOLUTIONS, strict=True):
            for _ in range(convolutions):
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
                width = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(width * (ROWS // 16) * (COLUMNS // 16), HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, DIM), nn.ReLU(),
        )  # fmt: skip
        self.dim = DIM
        self.name = "VGGish"

    def forward(self, log_mel: Float[Tensor, "images 1 96 64"]) -> Float[Tensor, "images 128"]:
        """Log-mels, whose rows are analysis windows and columns mel bands, to embeddings in the type of the weights."""
        feature_map = self.features(log_mel.to(next(self.parameters()).dtype))
        embedding: Tensor = self.embeddings(feature_map.permute(0, 2, 3, 1).flatten(1))
        return embedding


def build_vggish(weights: str) -> VGGish:
    """VGGish with its weights, frozen.

    Args:
        weights: The path of a .safetensors or .pth file; `random` (a fixed seed, for tests and counting only); or
            `pretrained`, which is an error that says which file to download.

    Raises:
        WeightsError: The weights cannot be loaded, or do not fit.
    """
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same weights, and so the same fingerprint, in every run
            model = VGGish()
        model.freeze()
        return model
    path = vggish_file(weights)
    with torch.device("meta"):
        model = VGGish()
    remedy = "name a file with the keys of torchvggish ('features.0.weight' to 'embeddings.4.bias')"
    fill(model, model.state_dict(), read_table(path, "torchvggish's VGGish"), f"{path}", "VGGish", remedy)
    model.freeze()
    return model


def vggish_file(weights: str) -> Path:
    """The file of VGGish's weights that `encoder.audio_weights` names.

    Raises:
        WeightsError: It names no file, or the file does not exist.
    """
    if weights == "pretrained":
        raise WeightsError(
            "encoder.audio_weights is 'pretrained', and no hub name is built in for VGGish's weights: download "
            "vggish-10086976.pth from the releases of github.com/harritaylor/torchvggish and give it with "
            "--encoder.audio_weights FILE."
        )
    return named_file(weights, "torchvggish")


def named_file(weights: str, keys: str) -> Path:
    """The file that `encoder.audio_weights` names; `keys` is whose keys it should have, for the error.

    Raises:
        WeightsError: The file does not exist.
    """
    path = Path(os.path.expanduser(weights))
    if not os.path.isfile(path):
        raise WeightsError(
            f"encoder.audio_weights is '{weights}', and there is no such file; expected 'random', or the path of a "
            f".safetensors or .pth file with the keys of {keys}."
        )
    return path
