"""CMBS's checkpoints (Xia & Zhao, CVPR 2022): `model_epoch_N_top1_A_task_Supervised_best_model.pth.tar`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avpea.data.readers.ave import AVE_CLASSES
from avpea.errors import CheckpointError
from avpea.experiment import Experiment
from avpea.labels import EventLabels
from avpea.official._base import Official, Rule, Table, to

__all__ = ["CMBSCheckpoint"]

WIDTH = 256  # of the sound inside the head


def widened(value: Tensor) -> Tensor:
    """A matrix for the sound, with columns of zeros for what `a_fc` adds to it."""
    return F.pad(value, (0, WIDTH - value.shape[1])) if value.shape[1] < WIDTH else value


class CMBSCheckpoint(Official):
    """CMBS, fully supervised, on VGG-19's or ResNet-152's maps and VGGish's vectors.

    The public code feeds VGGish's 128 numbers to its layers; here `a_fc` first makes 256 of them. It becomes the
    identity, with zeros below, and the matrices that read the sound get zeros for what was added.
    """

    code = "marmot-xy/CMBS"
    example = "model_epoch_N_top1_A_task_Supervised_best_model.pth.tar"
    tasks = ("avel",)
    left_out = (
        (r"(audio|video)_encoder\.encoder_layer\..*", "registered there, but never used"),
        (r"(audio|video)_decoder\.decoder_layer\..*", "registered there, but never used"),
        (r"(audio|video)_decoder\.decoder\.layers\.0\.self_attn\..*", "registered there, but never used"),
        (r"spatial_channel_att\.ave_bottleneck\..*", "registered there, but never used"),
        (r"(audio|video)_norm\..*", "registered there, but never used"),
    )

    @staticmethod
    def recognises(table: Table) -> bool:
        """By the attention over locations, which only CMBS calls so."""
        return any(key.startswith("spatial_channel_att.") for key in table)

    @staticmethod
    def recipe(table: Table) -> str:
        """The recipe that reads the published features, which need no other weights."""
        return "paper/avel-cmbs-features"

    @staticmethod
    def settings(table: Table, experiment: Experiment) -> dict[str, Any]:
        """The widths of the features.

        Raises:
            CheckpointError: The checkpoint is of the weakly supervised model, or the sound is wider than the head's.
        """
        if "localize_module.classifier.weight" not in table:
            raise CheckpointError(
                "This is a checkpoint of CMBS's weakly supervised model, which has other layers; expected the "
                "supervised one, of the public code's supv_main.py."
            )
        if (width := table["audio_visual_rnn_layer.audio_rnn.weight_ih_l0"].shape[1]) > WIDTH:
            raise CheckpointError(f"The sound has width {width}; expected {WIDTH} or less (VGGish: 128).")
        if experiment.backbone.name != "features":
            return {}
        return {"backbone.visual_dim": table["v_fc.weight"].shape[1], "backbone.audio_dim": width}

    @staticmethod
    def labels(table: Table, experiment: Experiment) -> EventLabels:
        """AVE's classes."""
        classes = len(table["localize_module.event_classifier.weight"])
        if classes != len(AVE_CLASSES):
            raise CheckpointError(
                f"The checkpoint has {classes} classes, and AVE has {len(AVE_CLASSES)}; name the data set that it was "
                "trained on with --data.root FOLDER."
            )
        return EventLabels(AVE_CLASSES)

    @staticmethod
    def rules(table: Table, experiment: Experiment) -> list[Rule]:
        """All layers that the forward pass uses."""
        return _RULES

    @staticmethod
    def made(table: Table, wanted: Table) -> dict[str, Tensor]:
        """`a_fc` as the identity."""
        weight = wanted.get("head.head.a_fc.weight")
        if weight is None:
            return {}
        width = table["audio_visual_rnn_layer.audio_rnn.weight_ih_l0"].shape[1]
        return {"head.head.a_fc.weight": torch.eye(WIDTH, width), "head.head.a_fc.bias": torch.zeros(WIDTH)}

    @staticmethod
    def differences(experiment: Experiment) -> list[str]:
        """Of the features, if they are computed here; and of training on."""
        found = ["Computed in float32; there, in float64."]
        if experiment.backbone.name != "features":
            found += [
                f"Features are computed from videos: {experiment.backbone.name} on the middle frame of each second, "
                "and VGGish's own 128 numbers for its first 0.96 s; the published ones were computed by other "
                "code. For those, leave the recipe out.",
            ]
        return [*found, "If trained on, a_fc and the added columns train too; there, they do not exist."]


def _head(name: str) -> Any:
    return to(f"head.head.{name}")


def _sound(name: str) -> Any:
    return to(f"head.head.{name}", lambda value: widened(value) if value.ndim == 2 else value)


_SPATIAL = {
    "affine_video_1": "visual_channel",
    "affine_bottleneck": "squeeze",
    "affine_v_c_att": "excite",
    "affine_video_2": "visual_spatial",
    "affine_v_s_att": "audio_score",
    "video_query": "query",
    "video_key": "key",
    "video_value": "value",
    "affine_video_ave": "self_mean",
    "affine_video_3": "self_each",
    "ave_v_att": "self_score",
    "norm": "norm",
}
_DECODER = {"multihead_attn": "attention", "linear1": "widen", "linear2": "narrow", "norm1": "norm_attention",
            "norm2": "norm_feed"}  # fmt: skip
_RULES: list[Rule] = [
    (r"v_fc\.(.+)", _head(r"v_fc.\1")),
    *((rf"spatial_channel_att\.{old}\.(.+)", _head(rf"spatial.{new}.\1")) for old, new in _SPATIAL.items()),
    (r"spatial_channel_att\.affine_audio_1\.(.+)", _sound(r"spatial.audio_channel.\1")),
    (r"spatial_channel_att\.affine_audio_2\.(.+)", _sound(r"spatial.audio_spatial.\1")),
    (r"audio_visual_rnn_layer\.audio_rnn\.(weight_ih_.+)", _sound(r"audio_lstm.\1")),
    (r"audio_visual_rnn_layer\.audio_rnn\.(.+)", _head(r"audio_lstm.\1")),
    (r"audio_visual_rnn_layer\.visual_rnn\.(.+)", _head(r"video_lstm.\1")),
    (r"(audio|video)_(encoder|decoder)\.affine_matrix\.(.+)", _head(r"\1_\2.project.\3")),
    (r"(audio|video)_encoder\.encoder\.layers\.(\d)\.(.+)", _head(r"\1_encoder.layers.\2.\3")),
    *(
        (rf"(audio|video)_decoder\.decoder\.layers\.0\.{old}\.(.+)", _head(rf"\1_decoder.{new}.\2"))
        for old, new in _DECODER.items()
    ),
    (r"(audio|video)_gated\.0\.(.+)", _head(r"\1_gate.\2")),
    (r"(audio|video)_cas\.(.+)", _head(r"\1_classes.\2")),
    (r"AVInter\.video_multihead\.(.+)", _head(r"join_video.attention.\1")),
    (r"AVInter\.norm1\.(.+)", _head(r"join_video.norm.\1")),
    (r"VAInter\.video_multihead\.(.+)", _head(r"join_audio.attention.\1")),
    (r"VAInter\.norm1\.(.+)", _head(r"join_audio.norm.\1")),
    (r"localize_module\.classifier\.(.+)", _head(r"relevance.\1")),
    (r"localize_module\.event_classifier\.(.+)", _head(r"category.\1")),
]
