"""Backbones from timm: found by name, built, and filled from the hub, a local file, the starter wheel or a seed."""

import difflib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import timm
import torch
from timm.models import vision_transformer
from torch import Tensor, nn

from avpea.backbones._frozen import Frozen
from avpea.backbones.hub import from_hub
from avpea.backbones.starter import STARTER_TIMM_NAME, starter_state
from avpea.backbones.weights import fill, read_table
from avpea.errors import ExperimentError, WeightsError
from avpea.sections import BackboneOptions

__all__ = ["FromTimm", "refuse_unknown"]

# Parts of a timm model that make no tokens: a checkpoint may hold them, a backbone leaves them out.
_NOT_TOKENS = ("head.", "head_dist.", "pre_logits.", "fc_norm.", "attn_pool.", "mask_token")


class FromTimm(Frozen):
    """A kind of backbone (`BackboneKind`) whose networks are timm's.

    Each says which timm models it opens, with which arguments they are made, and what of a checkpoint they need.
    """

    Options: ClassVar[type[BackboneOptions]] = BackboneOptions

    @classmethod
    def opens(cls, model: nn.Module) -> bool:
        """Whether it can open a timm model, which may be on the meta device."""
        raise NotImplementedError

    @classmethod
    def of(cls, model: nn.Module, options: Any) -> Self:
        """The frozen network of a timm model."""
        raise NotImplementedError

    @classmethod
    def arguments(cls, options: Any, shape: Any) -> dict[str, Any]:
        """What timm is to make the model with.

        Raises:
            ExperimentError: An option that it cannot serve.
        """
        return {}

    @classmethod
    def needed(cls, model: nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a model needs of its own state, and what a checkpoint has for it."""
        return _tokens_only(model.state_dict()), _tokens_only(state)

    @classmethod
    def renamed(cls, state: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
        """A checkpoint under timm's names, from those of the original code."""
        convert: Any = vision_transformer.checkpoint_filter_fn
        return dict(convert(state, model))

    @classmethod
    def serves(cls, name: str) -> bool:
        """See `BackboneKind`."""
        shape = _shape(name)
        return shape is not None and cls.opens(shape)

    @classmethod
    def build(cls, options: Any) -> Self:
        """See `BackboneKind`."""
        cls.shape_only(options)  # a wrong recipe is answered before anything is downloaded or read
        if options.weights == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the same weights, and so the same fingerprint, in every run
                return cls.of(cls._create(options), options)
        model = cls._create(options, "meta")
        if dict(model.named_buffers()).keys() - model.state_dict().keys():
            model = cls._create(options)  # rotary frequencies are in no checkpoint: they are computed
        state, source = cls._read(options, model)
        wanted, state = cls.needed(model, state)
        fill(model, wanted, state, source)
        return cls.of(model, options)

    @classmethod
    def shape_only(cls, options: Any) -> Self:
        """See `BackboneKind`."""
        return cls.of(cls._create(options, "meta"), options)

    @classmethod
    def classifier_parameters(cls, name: str) -> int:
        """See `BackboneKind`."""
        with torch.device("meta"):
            model: Any = _constructor(name)()
        return sum(parameter.numel() for parameter in model.get_classifier().parameters())

    @classmethod
    def _create(cls, options: Any, device: str = "cpu") -> nn.Module:
        shape = _shape(options.name)
        arguments = cls.arguments(options, shape)
        with torch.device(device):
            return _constructor(options.name)(num_classes=0, **arguments)

    @classmethod
    def _read(cls, options: Any, model: nn.Module) -> tuple[dict[str, Tensor], str]:
        """A checkpoint under timm's names, and what to call it in errors."""
        if options.weights == "pretrained":
            if options.name == "starter":
                return starter_state(), "the starter weights"
            path = from_hub(options.name)
        else:
            path = Path(options.weights).expanduser()
            if not path.is_file():
                raise WeightsError(
                    f"backbone.weights is '{options.weights}', and there is no such file; expected 'pretrained', "
                    "'random', or the path of a .safetensors or .pth file."
                )
        return cls._to_timm(read_table(path, "a timm model"), model, path), str(path)

    @classmethod
    def _to_timm(cls, state: dict[str, Tensor], model: Any, path: Path) -> dict[str, Tensor]:
        """Let timm rename the keys of original checkpoints, and resample positions of another grid."""
        if any("encoder.layer." in key or "embeddings.patch_embeddings" in key for key in state):
            raise WeightsError(
                f"{path} has the key names of the transformers library ('{next(iter(state))}' and so on); "
                "expected timm's ('blocks.0.attn.qkv.weight' and so on), as on the hub under 'timm/'."
            )
        filters = state.get("patch_embed.proj.weight")
        if filters is not None and filters.shape[2:] != model.patch_embed.proj.weight.shape[2:]:
            return state  # timm would resample another patch size; here it is another model, and `fill` says so
        try:
            return cls.renamed(state, model)
        except (RuntimeError, ValueError, LookupError, AssertionError):
            return state  # what does not fit is named, key by key, by `fill`


def refuse_unknown(name: str) -> ExperimentError:
    """What to say of a name that no kind of backbone serves."""
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
    """The named timm model on the meta device; None where timm has none of that name."""
    timm_name = STARTER_TIMM_NAME if name == "starter" else name
    architecture, _, tag = timm_name.partition(".")
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if not timm.is_model(timm_name) or (tag and timm_name not in tagged):
        return None
    with torch.device("meta"):
        model: nn.Module = _constructor(name)(num_classes=0)
    return model


def _tokens_only(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(_NOT_TOKENS)}
