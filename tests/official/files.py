"""Synthetic checkpoints with the names and shapes of the public codes' modules."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (dim,)
    yield f"{name}.bias", (dim,)


def linear(name: str, out: int, into: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def attention(name: str, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """torch's MultiheadAttention."""
    yield f"{name}.in_proj_weight", (3 * dim, dim)
    yield f"{name}.in_proj_bias", (3 * dim,)
    yield from linear(f"{name}.out_proj", dim, dim)


def lstm(name: str, into: int, hidden: int, both: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    for suffix in ("", "_reverse") if both else ("",):
        yield f"{name}.weight_ih_l0{suffix}", (4 * hidden, into)
        yield f"{name}.weight_hh_l0{suffix}", (4 * hidden, hidden)
        yield f"{name}.bias_ih_l0{suffix}", (4 * hidden,)
        yield f"{name}.bias_hh_l0{suffix}", (4 * hidden,)


def cmbs(visual: int = 512, audio: int = 128, d: int = 256, classes: int = 28) -> Shapes:
    """`supv_main_model` of marmot-xy/CMBS, dead layers included."""
    keys: Shapes = {}
    att = "spatial_channel_att"
    for name, out, into in (
        *(("affine_video_1", 512, 512), ("affine_audio_1", 512, audio), ("affine_bottleneck", d, 512)),
        *(("affine_v_c_att", 512, d), ("affine_video_2", d, 512), ("affine_audio_2", d, audio)),
        *(("affine_v_s_att", 1, d), ("video_query", 128, 512), ("video_key", 128, 512), ("video_value", 512, 512)),
        *(("affine_video_ave", d, 512), ("affine_video_3", d, 512), ("ave_bottleneck", d, 512), ("ave_v_att", 1, d)),
    ):
        keys |= dict(linear(f"{att}.{name}", out, into))
    keys |= dict(norm(f"{att}.norm", 512)) | dict(linear("v_fc", 512, visual))
    for stream, width in (("video", 512), ("audio", d)):
        for place in ("encoder_layer", "encoder.layers.0", "encoder.layers.1"):
            layer = f"{stream}_encoder.{place}"
            keys |= dict(attention(f"{layer}.self_attn", d)) | _feed_forward(layer, d)
        for place in ("decoder_layer", "decoder.layers.0"):
            layer = f"{stream}_decoder.{place}"
            keys |= dict(attention(f"{layer}.self_attn", d)) | dict(attention(f"{layer}.multihead_attn", d))
            keys |= _feed_forward(layer, d)
        for part in ("encoder", "decoder"):
            keys |= dict(linear(f"{stream}_{part}.affine_matrix", d, width))
        keys |= dict(linear(f"{stream}_gated.0", 1, d)) | dict(norm(f"{stream}_norm", d))
        keys |= dict(linear(f"{stream}_cas", classes, d))
    rnn = "audio_visual_rnn_layer"
    keys |= dict(lstm(f"{rnn}.audio_rnn", audio, d // 2, both=True)) | dict(
        lstm(f"{rnn}.visual_rnn", 512, d, both=True)
    )
    for name in ("AVInter", "VAInter"):
        keys |= dict(attention(f"{name}.video_multihead", d)) | dict(norm(f"{name}.norm1", d))
    keys |= dict(linear("localize_module.classifier", 1, d))
    return keys | dict(linear("localize_module.event_classifier", classes, d))


def _feed_forward(layer: str, d: int) -> Shapes:
    keys = dict(linear(f"{layer}.linear1", 1024, d)) | dict(linear(f"{layer}.linear2", d, 1024))
    return keys | dict(norm(f"{layer}.norm1", d)) | dict(norm(f"{layer}.norm2", d))


def resnet18() -> Shapes:
    """torchvision's names, and the filters for sounds that MUSIC-AVQA's copy registers."""
    keys: Shapes = {"conv1_a.weight": (64, 1, 7, 7), "conv1.weight": (64, 3, 7, 7)}

    def batch_norm(name: str, dim: int) -> Shapes:
        statistics = {f"{name}.running_mean": (dim,), f"{name}.running_var": (dim,), f"{name}.num_batches_tracked": ()}
        return dict(norm(name, dim)) | statistics

    keys |= batch_norm("bn1", 64)
    into = 64
    for stage, dim in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            keys[f"{name}.conv1.weight"], keys[f"{name}.conv2.weight"] = (dim, into, 3, 3), (dim, dim, 3, 3)
            keys |= batch_norm(f"{name}.bn1", dim) | batch_norm(f"{name}.bn2", dim)
            if into != dim:
                keys[f"{name}.downsample.0.weight"] = (dim, into, 1, 1)
                keys |= batch_norm(f"{name}.downsample.1", dim)
            into = dim
    return keys | dict(linear("fc", 1000, 512))


GROUNDING = {"fc_a1": (512, 128), "fc_a2": (512, 512), "fc_gl": (512, 1024), "fc1": (512, 1024), "fc2": (256, 512),
             "fc3": (128, 256), "fc4": (2, 128)}  # fmt: skip
UNUSED = {"fc_a1_pure": (512, 128), "fc_a2_pure": (512, 512), "fc_v": (512, 2048), "fc_st": (512, 512),
          "fc": (512, 1024), "fc_aq": (512, 512), "fc_vq": (512, 512)}  # fmt: skip


def grounding() -> Shapes:
    """`AVQA_AVatt_Grounding` of GeWu-Lab/MUSIC-AVQA."""
    keys = {f"visual_net.{name}": shape for name, shape in resnet18().items()}
    return keys | {k: v for name, shape in GROUNDING.items() for k, v in linear(name, *shape)}


def answering(words: int = 93, answers: int = 42) -> Shapes:
    """What AVST and LAVISH's network for questions share."""
    keys = {k: v for name, shape in (GROUNDING | UNUSED).items() for k, v in linear(name, *shape)}
    for name in ("linear11", "linear12", "linear21", "linear22"):
        keys |= dict(linear(name, 512, 512))
    for name in ("norm1", "norm2", "norm3"):
        keys |= dict(norm(name, 512))
    keys |= dict(attention("attn_a", 512)) | dict(attention("attn_v", 512)) | dict(linear("fc_fusion", 512, 1024))
    keys |= {"question_encoder.word2vec.weight": (words, 512)} | dict(lstm("question_encoder.lstm", 512, 512))
    return keys | dict(linear("question_encoder.fc", 512, 1024)) | dict(linear("fc_ans", answers, 512))


def avst(words: int = 93, answers: int = 42) -> Shapes:
    """`AVQA_Fusion_Net` of GeWu-Lab/MUSIC-AVQA."""
    return answering(words, answers) | {f"visual_net.{name}": shape for name, shape in resnet18().items()}


def adapters(
    dims: list[int],
    latents: int = 2,
    groups: int = 2,
    reduction: int = 8,
    batch_norm: bool = True,
    gate_tk: bool = False,
) -> Shapes:
    """LAVISH's four adapters of each block."""
    keys: Shapes = {}
    for place in (
        "audio_adapter_blocks_p1",
        "vis_adapter_blocks_p1",
        "audio_adapter_blocks_p2",
        "vis_adapter_blocks_p2",
    ):
        for i, dim in enumerate(dims):
            one, narrow = f"{place}.{i}", dim // reduction
            keys |= {f"{one}.gate": (1,), f"{one}.my_tokens": (latents, dim), f"{one}.gate_av": (1,)}
            keys |= {f"{one}.gate_tk": (1,)} if gate_tk else {}
            keys[f"{one}.down_sampler.weight"] = (narrow, dim // groups, 1, 1)
            keys[f"{one}.up_sampler.weight"] = (dim, narrow // groups, 1, 1)
            for name, width in (("bn1", narrow), ("bn2", dim)) if batch_norm else ():
                keys |= dict(norm(f"{one}.{name}", width))
                keys |= {f"{one}.{name}.running_mean": (width,), f"{one}.{name}.running_var": (width,)}
                keys[f"{one}.{name}.num_batches_tracked"] = ()
            keys |= dict(norm(f"{one}.ln_before", dim)) | dict(norm(f"{one}.ln_post", dim))
    return keys


def vit(dim: int, blocks: int, classes: int = 21_843, side: int = 14, patch: int = 16) -> Shapes:
    """timm's ViT, as LAVISH holds it under `ViT.v.`."""
    keys: Shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, side**2 + 1, dim)}
    keys |= {"patch_embed.proj.weight": (dim, 3, patch, patch), "patch_embed.proj.bias": (dim,)}
    for i in range(blocks):
        block = f"blocks.{i}"
        keys |= dict(norm(f"{block}.norm1", dim)) | dict(norm(f"{block}.norm2", dim))
        keys |= dict(linear(f"{block}.attn.qkv", 3 * dim, dim)) | dict(linear(f"{block}.attn.proj", dim, dim))
        keys |= dict(linear(f"{block}.mlp.fc1", 4 * dim, dim)) | dict(linear(f"{block}.mlp.fc2", dim, 4 * dim))
    return keys | dict(norm("norm", dim)) | (dict(linear("head", classes, dim)) if classes else {})


def lavish_vit(dim: int = 768, blocks: int = 12) -> Shapes:
    """`MMIL_Net` of GenjiB/LAVISH on a ViT."""
    keys = {f"ViT.v.{name}": shape for name, shape in vit(dim, blocks).items()} | adapters([dim] * blocks)
    return keys | dict(linear("mlp_class", 512, 2 * dim)) | dict(linear("mlp_class_2", 29, 512))


def of_the_past(name: str) -> str:
    """A name of timm's Swin V2 in version 0.6, where a stage ends with the merging that now starts the next one."""
    head, _, rest = name.partition(".downsample.")
    return f"layers.{int(head.removeprefix('layers.')) - 1}.downsample.{rest}" if rest else name


def values(shapes: Mapping[str, tuple[int, ...]], seed: int = 0, dtype: Any = torch.float32) -> dict[str, Tensor]:
    """Random values: positive variances, counters as whole numbers, small matrices."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
            continue
        value = torch.randn(shape, generator=generator, dtype=dtype) * (0.3 if len(shape) < 2 else shape[-1] ** -0.5)
        found[name] = value.abs() + 0.5 if name.endswith("running_var") else value
    return found


def write_ave_features(root: Path, rows: int = 6, width: int = 512) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AVE's published files with made-up features: three rows to train, one to validate, two to test."""
    import h5py

    generator = np.random.default_rng(0)
    visual = generator.random((rows, 10, 7, 7, width))
    audio = generator.random((rows, 10, 128))
    labels = np.zeros((rows, 10, 29))
    for row in range(rows):
        labels[row, np.arange(10), np.where(np.arange(10) < row + 2, 3 * row, 28)] = 1
    root.mkdir(parents=True, exist_ok=True)
    for name, table in (("visual_feature", visual), ("audio_feature", audio), ("labels", labels)):
        with h5py.File(root / f"{name}.h5", "w") as file:
            file["avadataset"] = table
    for split, order in (("train", [5, 0, 2]), ("val", [1]), ("test", [4, 3])):
        with h5py.File(root / f"{split}_order.h5", "w") as file:
            file["order"] = np.array(order, np.int64)
    return visual, audio, labels
