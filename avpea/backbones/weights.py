"""Build a backbone with weights from the hub, a local file, the starter wheel or a fixed seed."""

import difflib
import functools
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import eva, swin_transformer_v2, vision_transformer
from torch import Tensor, nn

from avpea.backbones._base import Transformer
from avpea.backbones.cnn import CNN, is_cnn, map_state
from avpea.backbones.families import check_family
from avpea.backbones.hub import from_hub
from avpea.backbones.starter import STARTER_TIMM_NAME, starter_state
from avpea.backbones.swin import Swin, is_swin
from avpea.backbones.vit import Backbone
from avpea.configs import BackboneConfig
from avpea.errors import ExperimentError, WeightsError

__all__ = ["build", "classifier_parameters", "fill", "read_table", "shape_only"]

# Parts of a timm model that make no tokens: a checkpoint may hold them, a backbone leaves them out.
_NOT_TOKENS = ("head.", "head_dist.", "pre_logits.", "fc_norm.", "attn_pool.", "mask_token")
# What torch.load answers to files that are no checkpoint.
_UNREADABLE = (
    pickle.UnpicklingError,
    SafetensorError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
)


def build(config: BackboneConfig) -> Transformer | CNN:
    """The frozen backbone of a recipe, with its weights, in evaluation mode.

    Raises:
        ExperimentError: Unknown model, neither a ViT, a Swin V2 nor a CNN, or more blocks than there are.
        WeightsError: The weights cannot be had, or do not fit.
    """
    shape_only(config)  # a wrong recipe is answered before anything is downloaded or read
    if config.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same weights, and so the same fingerprint, in every run
            model = _create(config)
    else:
        model = _create(config, "meta")
        if dict(model.named_buffers()).keys() - model.state_dict().keys():
            model = _create(config)  # rotary frequencies are in no checkpoint: they are computed
        state, source = _read(config, model)
        if is_cnn(model):
            wanted, state = map_state(model, state)
        else:
            wanted, state = _tokens_only(model.state_dict()), _tokens_only(state)
        fill(model, wanted, state, source)
    return _frozen(model, config)


def shape_only(config: BackboneConfig) -> Transformer | CNN:
    """The backbone of a recipe on the meta device: shapes and counts, no weights, no memory, no network.

    Raises:
        ExperimentError: As `build`.
    """
    backbone = _frozen(_create(config, "meta"), config)
    if isinstance(backbone, Transformer):
        backbone.grids(backbone.image_size, backbone.image_size)
    return backbone


def _frozen(model: nn.Module, config: BackboneConfig) -> Transformer | CNN:
    kind: type[Backbone | Swin | CNN] = Swin if is_swin(model) else CNN if is_cnn(model) else Backbone
    return kind(model, config.name, config.depth, config.image_size)


def classifier_parameters(name: str) -> int:
    """Number of parameters in the model's own classifier, which a backbone leaves out.

    The paper's frozen counts include it: 21,843 classes, 16,797,267 parameters for ViT-B of ImageNet-21k.

    Args:
        name: As in `BackboneConfig.name`.

    Raises:
        ExperimentError: Unknown model.
    """
    with torch.device("meta"):
        model: Any = _known(_timm_name(name))()
    return sum(parameter.numel() for parameter in model.get_classifier().parameters())


def _timm_name(name: str) -> str:
    return STARTER_TIMM_NAME if name == "starter" else name


def _known(name: str) -> Callable[..., nn.Module]:
    """A constructor of the named timm model, without weights."""
    architecture, _, tag = name.partition(".")
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if not timm.is_model(name) or (tag and name not in tagged):
        every = [*timm.list_models(), *timm.list_models(pretrained=True), "starter"]
        close = difflib.get_close_matches(name, every, n=3)
        guess = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
        raise ExperimentError(
            f"No timm model is called '{name}'.{guess} backbone.name takes a name of "
            "timm.list_models('vit_*', pretrained=True), or 'starter'."
        )
    return functools.partial(timm.create_model, name, pretrained=False)


def _create(config: BackboneConfig, device: str = "cpu") -> nn.Module:
    name = _timm_name(config.name)
    create = _known(name)
    with torch.device("meta"):
        shape: Any = create(num_classes=0)
        swin, convolutional = is_swin(shape), is_cnn(shape)
    if swin and 0 < config.image_size < (patch := shape.patch_embed.patch_size[0]):
        raise ExperimentError(
            f"backbone.image_size is {config.image_size}, smaller than a patch of '{name}' ({patch}x{patch})."
        )
    if not swin and not convolutional:
        check_family(shape, name)
    with torch.device(device):
        if convolutional:
            return _with_stride(create, config)
        if config.output_stride:
            raise ExperimentError(
                f"backbone.output_stride is {config.output_stride}, but '{name}' is no CNN, and has its patches; "
                "leave it at 0."
            )
        if swin:
            # Windows are cut to the grid of this size; other sizes pad theirs.
            size = {"img_size": config.image_size} if config.image_size else {}
            return create(num_classes=0, dynamic_img_size=True, **size)
        # With `dynamic_img_size`, rotary positions are computed for whatever grid is asked for.
        return create(num_classes=0, dynamic_img_size=True)


def _with_stride(create: Callable[..., nn.Module], config: BackboneConfig) -> nn.Module:
    stride = {"output_stride": config.output_stride} if config.output_stride else {}
    try:
        return create(num_classes=0, **stride)
    except (TypeError, AssertionError, ValueError, RuntimeError):
        raise ExperimentError(
            f"backbone.output_stride is {config.output_stride}, which '{config.name}' cannot have; leave it at 0."
        ) from None


def _read(config: BackboneConfig, model: nn.Module) -> tuple[dict[str, Tensor], str]:
    """A checkpoint under timm's names, and what to call it in errors."""
    if config.weights == "pretrained":
        if config.name == "starter":
            return starter_state(), "the starter weights"
        path = from_hub(config.name)
    else:
        path = Path(config.weights).expanduser()
        if not path.is_file():
            raise WeightsError(
                f"backbone.weights is '{config.weights}', and there is no such file; expected 'pretrained', "
                "'random', or the path of a .safetensors or .pth file."
            )
    state = read_table(path, "a timm model")
    return (state if is_cnn(model) else _to_timm(state, model, path)), str(path)


def read_table(path: Path, what: str) -> dict[str, Tensor]:
    """Named tensors of a checkpoint file.

    Args:
        path: A .safetensors file, or a .pth, .pt or .bin file, of which only tensors are unpickled.
        what: What the file should be the `state_dict` of, for the error.

    Raises:
        WeightsError: It cannot be read, or holds something else.
    """
    try:
        safe = path.suffix == ".safetensors"
        loaded: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise WeightsError(
            f"{path} cannot be read as weights ({reason}); expected a .safetensors file, or a .pth, .pt or "
            ".bin file that opens with torch.load(weights_only=True)."
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds no table of named tensors; expected the state_dict of {what}.")
    return dict(loaded)


def _to_timm(state: dict[str, Tensor], model: Any, path: Path) -> dict[str, Tensor]:
    """Let timm rename the keys of original checkpoints, and resample positions of another grid."""
    if any("encoder.layer." in key or "embeddings.patch_embeddings" in key for key in state):
        raise WeightsError(
            f"{path} has the key names of the transformers library ('{next(iter(state))}' and so on); "
            "expected timm's ('blocks.0.attn.qkv.weight' and so on), as on the hub under 'timm/'."
        )
    filters = state.get("patch_embed.proj.weight")
    if filters is not None and filters.shape[2:] != model.patch_embed.proj.weight.shape[2:]:
        return state  # timm would resample another patch size; here it is another model, and `fill` says so
    family = eva if isinstance(model, eva.Eva) else swin_transformer_v2 if is_swin(model) else vision_transformer
    convert: Any = family.checkpoint_filter_fn
    try:
        return dict(convert(state, model))
    except (RuntimeError, ValueError, LookupError, AssertionError):
        return state  # what does not fit is named, key by key, by `fill`


def fill(
    model: nn.Module,
    wanted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    what: str = "backbone.name",
    remedy: str = "name the timm model that the file was made for",
) -> None:
    """Put a checkpoint into the model, in float32, or say what does not fit.

    Args:
        model: Takes the tensors themselves, wherever it was before.
        wanted: What it needs, by name.
        state: What the checkpoint has.
        source: What to call the checkpoint in errors.
        what: What it should fit.
        remedy: What helps where it does not.

    Raises:
        WeightsError: A shape differs, or tensors are missing or unknown.
    """
    # Positions last: they follow the patch size, which tells more about the file.
    for key in sorted(wanted, key=lambda key: key == "pos_embed"):
        if key in state and state[key].shape != wanted[key].shape:
            raise WeightsError(
                f"{source} does not fit {what}: '{key}' has shape {tuple(state[key].shape)}, expected "
                f"{tuple(wanted[key].shape)}; {remedy}."
            )
    missing, unknown = ([k for k in one if k not in other] for one, other in ((wanted, state), (state, wanted)))
    for verb, keys in (("lacks", missing), ("has unknown", unknown)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise WeightsError(f"{source} does not fit {what}: it {verb} {', '.join(keys[:3])}{more}; {remedy}.")
    # In float32 whatever the file holds: it is what fingerprints are taken of, and the model is cast later.
    model.load_state_dict({key: value.float() for key, value in state.items()}, strict=False, assign=True)


def _tokens_only(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(_NOT_TOKENS)}
