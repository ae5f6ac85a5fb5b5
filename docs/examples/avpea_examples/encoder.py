"""An encoder: each stream runs through the frozen transformer by itself; one trained bridge joins them at the end."""

from typing import Any

import torch
from torch import Tensor, nn

from avpea.adapters import Trained
from avpea.backbones import Transformer
from avpea.encoders import Encoder, PositionOptions, Streams, as_transformer
from avpea.experiment import Experiment


class Bridge(Trained):
    """What one stream tells the other. Modules of the type `Trained` are what trains, and what checkpoints hold."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, dim)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, other: Tensor) -> Tensor:
        answer: Tensor = self.gate * self.map(other.mean(dim=1, keepdim=True))
        return answer


class BridgeEncoder(Encoder):
    """It has no place for adapters, so its recipes have no section `adapter`."""

    Options = PositionOptions  # `encoder.positions`
    backbone: Transformer

    def __init__(self, backbone: Transformer, positions: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.positions = positions
        self.visual_dim = self.audio_dim = backbone.dim
        self.to_visual, self.to_audio = Bridge(backbone.dim), Bridge(backbone.dim)

    @classmethod
    def build(cls, backbone: Any, experiment: Experiment) -> "BridgeEncoder":
        options: Any = experiment.encoder
        return cls(as_transformer(backbone, experiment), options.positions)

    def forward(self, frames: Tensor, sounds: Tensor) -> Streams:
        seen, heard = self._tokens(frames, "grid"), self._tokens(sounds, self.positions)
        return Streams(seen, heard).plus((self.to_visual(heard), self.to_audio(seen)))

    def _tokens(self, images: Tensor, positions: Any) -> Tensor:
        x = self.backbone.embed(images, positions)
        for block in self.backbone.blocks_for(*images.shape[-2:]):
            x = block.merge(x) if block.merge else x
            x = x + block.attend(x)
            x = x + block.feed(x)
        return self.backbone.norm(x)
