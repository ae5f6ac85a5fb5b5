"""A kind of backbone: the ViTs of torchvision, named as `torchvision/vit_b_16` in `backbone.name`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import VisionTransformer

from avpea.backbones import BackboneOptions, Transformer, read_table
from avpea.backbones.weights import fill
from avpea.errors import ExperimentError, WeightsError
from avpea.options import require

# Width, heads, hidden width and number of blocks.
SIZES = {"b": (768, 12, 3072, 12), "l": (1024, 16, 4096, 24)}


@dataclass(frozen=True)
class TorchvisionOptions(BackboneOptions):
    """Options of torchvision's ViTs, beside name, weights and image_size.

    Attributes:
        depth: Use only the first so many blocks; 0 means all.
    """

    depth: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth >= 0, f"backbone.depth is {self.depth}; expected 0 (all blocks) or more.")


@dataclass(frozen=True)
class Block:
    """The two residual branches of a block, without their skip connections."""

    layer: Any
    merge: None = None

    def attend(self, x: Tensor) -> Tensor:
        normed = self.layer.ln_1(x)
        return self.layer.self_attention(normed, normed, normed, need_weights=False)[0]

    def feed(self, x: Tensor) -> Tensor:
        return self.layer.mlp(self.layer.ln_2(x))

    def with_attention(self, linears: Any) -> "Block":
        raise NotImplementedError  # for LoRA: this attention does not call its linear layers as such


class TorchvisionViT(Transformer):
    """A frozen ViT of torchvision, from a file of its weights; it takes images of one size only."""

    Options = TorchvisionOptions
    num_prefix_tokens, has_cls = 1, True
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, vit: VisionTransformer, name: str) -> None:
        super().__init__()
        self.name, self.image_size, self.patch_size = name, vit.image_size, vit.patch_size
        self.dim, self.depth = vit.hidden_dim, len(vit.encoder.layers)
        self.dims = (self.dim,) * self.depth
        self.patches, self.class_token = vit.conv_proj, vit.class_token
        self.positions = vit.encoder.pos_embedding
        self.layers, self.last_norm = vit.encoder.layers, vit.encoder.ln
        self.freeze()

    # What an encoder calls, in this order.

    def embed(self, pixels: Tensor, positions: str = "grid") -> Tensor:
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            raise ExperimentError(f"'{self.name}' takes images of one size only; set audio.layout to image.")
        patches = self.patches(pixels.to(self.patches.weight.dtype)).flatten(2).transpose(1, 2)
        return torch.cat((self.class_token.expand(len(patches), -1, -1), patches), dim=1) + self.positions

    def blocks_for(self, height: int, width: int) -> tuple[Block, ...]:
        return tuple(Block(layer) for layer in self.layers)

    def norm(self, tokens: Tensor) -> Tensor:
        return self.last_norm(tokens)

    def grids(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        return (self.grid(height, width),) * self.depth

    # How a recipe finds the kind and builds it.

    @classmethod
    def serves(cls, name: str) -> bool:
        """Whether a `backbone.name` is one of this kind's."""
        return re.fullmatch(r"torchvision/vit_[bl]_\d+", name) is not None

    @classmethod
    def build(cls, options: TorchvisionOptions) -> "TorchvisionViT":
        """The network with its weights."""
        vit = cls._made(options)
        if options.weights != "random":
            file = Path(options.weights)
            if not file.is_file():
                raise WeightsError(f"backbone.weights is '{file}'; expected a file of torchvision's, or 'random'.")
            wanted, state = vit.state_dict(), read_table(file, "a ViT of torchvision")
            fill(vit, wanted, {name: state[name] for name in wanted if name in state}, str(file))
        return cls(vit, options.name)

    @classmethod
    def shape_only(cls, options: TorchvisionOptions) -> "TorchvisionViT":
        """The network without weights or memory, to count parameters and to check a recipe."""
        with torch.device("meta"):
            return cls(cls._made(options), options.name)

    @classmethod
    def classifier_parameters(cls, name: str) -> int:
        """Of the classifier, which a backbone leaves out and the paper counts: 1,000 classes."""
        return 1000 * (SIZES[name.split("_")[-2]][0] + 1)

    @classmethod
    def _made(cls, options: TorchvisionOptions) -> VisionTransformer:
        size, patch = options.name.split("_")[-2:]
        (dim, heads, hidden, depth), side = SIZES[size], options.image_size or 224
        require(side % int(patch) == 0, f"backbone.image_size is {side}; expected a multiple of {patch}.")
        require(options.depth <= depth, f"backbone.depth is {options.depth}, but there are {depth} blocks.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random weights are the same in every run
            vit = VisionTransformer(side, int(patch), options.depth or depth, heads, dim, hidden)
        vit.heads = torch.nn.Identity()
        return vit
