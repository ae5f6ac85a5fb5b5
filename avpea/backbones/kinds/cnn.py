"""Frozen CNNs: any timm CNN; the locations of its last feature map are the visual tokens.

    tokens = cnn(pixels)        (images, rows x columns, channels), no CLS token

is the output of timm's `forward_features`, as CMBS uses it of VGG-19 and ResNet-152.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.eva import Eva
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from avpea.backbones._timm import FromTimm
from avpea.errors import ExperimentError
from avpea.sections import BackboneOptions

__all__ = ["CNN", "EXTENSION", "CNNOptions"]

# Keys of what comes after the feature map in timm's and torchvision's checkpoints.
_AFTER_THE_MAP = ("fc.", "classifier.", "head.", "pre_logits.")


@dataclass(frozen=True)
class CNNOptions(BackboneOptions):
    """Options of CNNs.

    Attributes:
        output_stride: Stride of the last feature map in pixels, 8 or 16, with dilation instead of stride in the later
            stages (AVST: 16, 14x14 locations at 224 pixels); 0 means the network's own.
        dilated: Whether `output_stride` puts dilation in the stride's place, so that each filter sees as much of the
            image as it was trained on; without, as in AVST's public code, the stride is only taken away.
    """

    output_stride: Literal[0, 8, 16] = 0
    dilated: bool = True


class CNN(FromTimm):
    """A timm CNN, frozen: no weight gets a gradient, and BatchNorm stays in evaluation mode.

    Pooling, classifier and everything else after the feature map are dropped. The weights must not change after
    construction, as the fingerprint is computed once.

    Args:
        model: A timm network for which `accepts` is true.
        name: What the recipe calls it.
        image_size: Side of the square frames in pixels; 0 means the size that the weights were made for.

    Attributes:
        dim: Width of the tokens: channels of the feature map.
        num_prefix_tokens: 0.
        has_cls: False.
        mean: Mean of each channel that pixels in [0, 1] are normalised with.
        std: Standard deviation of each channel that pixels in [0, 1] are normalised with.

    Raises:
        ExperimentError: The feature map is empty at this image size.
    """

    Options = CNNOptions
    num_prefix_tokens = 0
    has_cls = False

    def __init__(self, model: nn.Module, name: str, image_size: int = 0) -> None:
        super().__init__()
        about: Any = getattr(model, "pretrained_cfg", None) or {}
        self.name = name
        self.image_size = image_size or _native_size(model)
        self.mean: tuple[float, float, float] = tuple(about.get("mean", IMAGENET_DEFAULT_MEAN))
        self.std: tuple[float, float, float] = tuple(about.get("std", IMAGENET_DEFAULT_STD))
        self.model = model
        self.train(False)
        feature_map, unused = _probe(model, self.image_size)
        if not feature_map.shape[2] * feature_map.shape[3]:
            raise ExperimentError(
                f"backbone.image_size is {self.image_size}, at which the map of '{name}' is empty; use larger frames."
            )
        self.dim = int(feature_map.shape[1])
        for child in unused:
            setattr(model, child, nn.Identity())
        self.freeze()

    @classmethod
    def accepts(cls, model: Any) -> bool:
        """Networks whose features are a map (images, channels, rows, columns), and that are no ViT."""
        if isinstance(model, VisionTransformer | Eva | SwinTransformerV2) or not hasattr(model, "forward_features"):
            return False
        feature_map, _ = _probe(model.eval(), _native_size(model))
        # Some transformers return a grid too, channels last.
        return feature_map.ndim == 4 and feature_map.shape[1] == model.num_features

    @classmethod
    def from_model(cls, model: nn.Module, options: CNNOptions) -> "CNN":
        """The frozen CNN of a timm model."""
        return cls(model, options.name, options.image_size)

    @classmethod
    def needed(cls, model: nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `FromTimm`; without what comes after the feature map, and without BatchNorm's counters.

        Evaluation never reads the counters, and old checkpoints lack them.
        """
        _, unused = _probe(model.eval(), _native_size(model))
        left_out = tuple(f"{child}." for child in unused)

        def kept(key: str, more: tuple[str, ...]) -> bool:
            return not key.startswith((*left_out, *more)) and not key.endswith(".num_batches_tracked")

        wanted = {key: value for key, value in model.state_dict().items() if kept(key, ())}
        return wanted, {key: value for key, value in state.items() if key in wanted or kept(key, _AFTER_THE_MAP)}

    @classmethod
    def _create(cls, options: CNNOptions, device: str = "cpu") -> nn.Module:
        try:
            return _undilated(super()._create(options, device), options)
        except (TypeError, AssertionError, ValueError, RuntimeError):
            raise ExperimentError(
                f"backbone.output_stride is {options.output_stride}, which '{options.name}' cannot have; leave it at 0."
            ) from None

    @classmethod
    def arguments(cls, options: CNNOptions, shape: Any) -> dict[str, Any]:
        """The output stride, if it is not the network's own."""
        return {"output_stride": options.output_stride} if options.output_stride else {}

    @classmethod
    def _to_timm(cls, state: dict[str, Tensor], model: Any, path: Path) -> dict[str, Tensor]:
        return state  # timm's and torchvision's keys are the same

    def forward(self, pixels: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images tokens dim"]:
        """Normalised pixels, cast to the type of the weights, to the locations of the feature map, row by row."""
        model: Any = self.model
        feature_map: Tensor = model.forward_features(pixels.to(next(self.parameters()).dtype))
        return feature_map.flatten(2).transpose(1, 2)

    def extra_repr(self) -> str:
        """Name and width, for `print(cnn)`."""
        return f"{self.name}, dim={self.dim}, frozen"


def _undilated(model: nn.Module, options: CNNOptions) -> nn.Module:
    """The model without the dilation that `output_stride` brought, if the recipe wants none."""
    if options.dilated or not options.output_stride:
        return model
    own = FromTimm._create(options, "meta")  # `FromTimm` does not know output strides
    for made, plain in zip(model.modules(), own.modules(), strict=True):
        if isinstance(made, nn.Conv2d) and isinstance(plain, nn.Conv2d):
            made.dilation, made.padding = plain.dilation, plain.padding
    return model


def _native_size(model: Any) -> int:
    about = getattr(model, "pretrained_cfg", None) or {}
    return int(about.get("input_size", (3, 224, 224))[-1])


def _probe(model: Any, image_size: int) -> tuple[Tensor, list[str]]:
    """The feature map of a black image, and the names of the children that computed nothing for it."""
    called: set[int] = set()
    hooks = [m.register_forward_pre_hook(lambda module, _: called.add(id(module))) for m in model.modules()]
    pixels = torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device)
    norms: list[Any] = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:  # a shape is not changed by it, and on the meta device torch would import its compiler for it
        norm.forward = lambda x: x
    try:
        with torch.no_grad():
            feature_map: Tensor = model.forward_features(pixels)
    except RuntimeError as error:  # a kernel larger than what is left of the image
        raise ExperimentError(
            f"{type(model).__name__} cannot read frames of {image_size}x{image_size} pixels "
            f"({str(error).splitlines()[0][:100]}); choose another backbone.image_size."
        ) from None
    finally:
        for hook in hooks:
            hook.remove()
        for norm in norms:
            del norm.forward
    unused = [name for name, child in model.named_children() if not any(id(m) in called for m in child.modules())]
    return feature_map, unused


EXTENSION = CNN
