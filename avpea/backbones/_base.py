"""The interface of frozen transformers: `embed`, blocks of two residual branches, and `norm`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea.backbones._frozen import Frozen
from avpea.backbones.families import FrozenBlock
from avpea.errors import ExperimentError
from avpea.options import require
from avpea.sections import BackboneOptions

__all__ = ["BackboneKind", "Positions", "Transformer", "TransformerOptions"]

Positions = Literal["grid", "sequence"]


@runtime_checkable
class BackboneKind(Protocol):
    """The interface of a class that is registered as a kind of backbone.

    Attributes:
        Options: The options of the kind.
    """

    Options: type[BackboneOptions]

    def serves(self, name: str) -> bool:
        """Whether a `backbone.name` is a network of this kind."""

    def build(self, options: Any) -> Any:
        """The frozen backbone of a recipe, with its weights, in evaluation mode: a `Transformer` or a `CNN`.

        Raises:
            ExperimentError: An option that the network cannot have.
            WeightsError: The weights cannot be loaded, or do not fit.
        """

    def shape_only(self, options: Any) -> Any:
        """The backbone of a recipe on the meta device, for shapes and counts; nothing is loaded or downloaded.

        Raises:
            ExperimentError: As `build`.
        """

    def classifier_parameters(self, name: str) -> int:
        """Number of parameters of the network's own classifier, which a backbone leaves out.

        The paper's counts of frozen parameters include it: 16,797,267 for 21,843 classes with ViT-B of ImageNet-21k.
        """


@dataclass(frozen=True)
class TransformerOptions(BackboneOptions):
    """Options of transformers.

    Attributes:
        depth: Number of blocks to use, counted from the first; 0 means all.
    """

    depth: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth >= 0, f"backbone.depth is {self.depth}; expected 0 (all blocks) or more.")


class Transformer(Frozen, ABC):
    """A timm transformer, frozen: no weight gets a gradient, and it stays in evaluation mode.

    Gradients pass through it to the tokens, and so to adapters of earlier blocks. The weights must not change after
    construction, as fingerprint and resampled positions are computed once. The constructor of a subclass keeps the
    parts of a model that compute tokens and then calls `freeze`.

    Attributes:
        name: Its `backbone.name`.
        dim: Width of the tokens after the last block.
        dims: Width of the tokens in each block.
        depth: Number of blocks.
        layers: The blocks as modules, in order.
        num_prefix_tokens: Tokens before the patches: CLS (if `has_cls`, at index 0) and registers.
        has_cls: Whether there is a CLS token.
        patch_size: Side of a patch in pixels.
        image_size: Side of the square frames in pixels.
        mean: Mean of each channel that pixels in [0, 1] are normalised with.
        std: Standard deviation of each channel that pixels in [0, 1] are normalised with.
    """

    name: str
    dim: int
    dims: tuple[int, ...]
    depth: int
    layers: nn.ModuleList
    num_prefix_tokens: int
    has_cls: bool
    patch_size: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch_embed: Any

    def freeze(self) -> None:
        """Freeze all weights and compute their fingerprint."""
        super().freeze()
        self._kept: dict[tuple[Any, ...], Any] = {}

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of whole patches in an image; pixels beyond them at the right and bottom are cropped.

        Raises:
            ExperimentError: The image is smaller than one patch.
        """
        rows, columns = height // self.patch_size, width // self.patch_size
        if not rows or not columns:
            raise ExperimentError(
                f"An image of {height}x{width} pixels is smaller than a patch of '{self.name}' "
                f"({self.patch_size}x{self.patch_size}); use a larger backbone.image_size or audio image."
            )
        return rows, columns

    @abstractmethod
    def embed(
        self, pixels: Float[Tensor, "images 3 height width"], positions: Positions = "grid"
    ) -> Float[Tensor, "images tokens dim"]:
        """Pixels to the tokens that enter the first block.

        Args:
            pixels: Normalised images; cast to the type of the weights.
            positions: How position embeddings are resampled to another patch grid.

        Raises:
            ExperimentError: The image is too small, or the transformer cannot resample positions like this.
        """

    def require_positions(self, positions: Positions) -> None:
        """Refuse, before any video is decoded, a way to resample positions that `embed` would refuse.

        Raises:
            ExperimentError: The transformer cannot resample positions like this.
        """

    @abstractmethod
    def blocks_for(self, height: int, width: int) -> tuple[FrozenBlock, ...]:
        """The blocks for images of a size in pixels; the same objects whenever the same layers run."""

    @abstractmethod
    def norm(self, tokens: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The transformer's last normalisation."""

    @abstractmethod
    def grids(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Rows and columns of patches in each block, for images of a size in pixels.

        Raises:
            ExperimentError: The image is smaller than one patch.
        """

    @property
    def blocks(self) -> tuple[FrozenBlock, ...]:
        """The blocks for square frames of `image_size`."""
        return self.blocks_for(self.image_size, self.image_size)

    def extra_repr(self) -> str:
        """Name and sizes, for `print(backbone)`."""
        return f"{self.name}, dim={self.dim}, depth={self.depth}, patch_size={self.patch_size}, frozen"

    def _placement(self) -> tuple[torch.device, torch.dtype]:
        weight = self.patch_embed.proj.weight
        return weight.device, weight.dtype

    def _keep(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """The result of `make`, computed once per key; it may depend on the frozen weights and the key only."""
        if key not in self._kept:
            # A tensor made in inference mode cannot take part in a later backward pass.
            with torch.inference_mode(False), torch.no_grad():
                self._kept[key] = make()
        return self._kept[key]
