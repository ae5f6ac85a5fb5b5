"""A kind of backbone that is not timm's: patches, and blocks of one linear map each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from avpea.backbones import BackboneOptions, FrozenBlock, Positions, Transformer

__all__ = ["EXTENSION", "Mixer", "MixerOptions"]


@dataclass(frozen=True)
class MixerOptions(BackboneOptions):
    """Options of the mixer.

    Attributes:
        width: Of its tokens.
    """

    width: int = 16


class Block(nn.Module):
    """A mixing map and a feed-forward map, as the two residual branches of a frozen block."""

    merge = None

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix, self.widen = nn.Linear(width, width), nn.Linear(width, width)

    def attend(self, x: Tensor) -> Tensor:
        """What a token has and the mean has not."""
        mixed: Tensor = self.mix(x - x.mean(dim=1, keepdim=True))
        return mixed

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward branch."""
        return nn.functional.gelu(self.widen(x))

    def with_attention(self, linears: Mapping[str, nn.Module]) -> "Block":
        """There is no attention to put anything in."""
        raise NotImplementedError


class Mixer(Transformer):
    """Two blocks on patches of 8 pixels, with a CLS token."""

    Options = MixerOptions
    num_prefix_tokens = 1
    has_cls = True
    patch_size = 8

    def __init__(self, options: MixerOptions) -> None:
        super().__init__()
        self.name, self.dim, self.depth = options.name, options.width, 2
        self.dims = (self.dim,) * self.depth
        self.image_size = options.image_size or 32
        self.mean, self.std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, self.dim, self.patch_size, stride=self.patch_size)
        self.cls = nn.Parameter(torch.zeros(1, 1, self.dim))
        self.layers = nn.ModuleList(Block(self.dim) for _ in range(self.depth))
        self.freeze()

    @classmethod
    def serves(cls, name: str) -> bool:
        """Its one name."""
        return name == "their_mixer"

    @classmethod
    def build(cls, options: Any) -> "Mixer":
        """With the weights of a fixed seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return cls(options)

    @classmethod
    def shape_only(cls, options: Any) -> "Mixer":
        """Without weights."""
        with torch.device("meta"):
            return cls(options)

    @classmethod
    def classifier_parameters(cls, name: str) -> int:
        """It has no classifier."""
        return 0

    def embed(self, pixels: Tensor, positions: Positions = "grid") -> Tensor:
        """Patches, CLS first."""
        proj = self.patch_embed.proj
        patches = proj(pixels.to(proj.weight.dtype)).flatten(2).transpose(1, 2)
        return torch.cat((self.cls.expand(len(patches), -1, -1), patches), dim=1)

    def blocks_for(self, height: int, width: int) -> tuple[FrozenBlock, ...]:
        """The same blocks for every size."""
        return tuple(cast("list[FrozenBlock]", list(self.layers)))

    def norm(self, tokens: Tensor) -> Tensor:
        """Unit deviation."""
        return nn.functional.layer_norm(tokens, tokens.shape[-1:])

    def grids(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """The same in each block."""
        return (self.grid(height, width),) * self.depth


EXTENSION = Mixer
