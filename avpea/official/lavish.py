"""LAVISH's checkpoints (Lin et al., CVPR 2023): its models for AVE, on a ViT or Swin V2, and for MUSIC-AVQA."""

import re
from typing import Any

import torch
from torch import Tensor

from avpea.data.readers.ave import AVE_CLASSES
from avpea.errors import CheckpointError
from avpea.experiment import Experiment
from avpea.labels import EventLabels, Labels
from avpea.official._base import Official, Piece, Rule, Table, to
from avpea.official.avst import answering_rules, require_words

__all__ = ["LAVISHCheckpoint"]

VIT, SWIN = "ViT.v.", "swin."
FIRST = "vis_adapter_blocks_p1.0."
# Recipes by the width of the image network's last tokens; other sizes keep the recipe and change its backbone.
VITS = {768: "paper/avel-lavish-vit-b16", 1024: "paper/avel-lavish-vit-l16"}


class LAVISHCheckpoint(Official):
    """LAVISH for events and for questions. The frozen network of the file, whose norms may be trained, is kept."""

    code = "GenjiB/LAVISH"
    example = "cvpr_best.pt, the state_dict of MMIL_Net or AVQA_Fusion_Net"
    tasks = ("avel", "avqa")
    left_out = (
        (r"adapter_token_downsampler\..*", "registered there, but never used"),
        (r"(audio|vis)_adapter_blocks_p\d\.\d+\.gate_tk", "a gate that is 1, as at its start"),
        (r"fc_(a1|a1_pure|a2_pure|v|st|aq|vq)\..*|fc\..*|norm3\..*", "registered there, but never used"),
    )

    @staticmethod
    def recognises(table: Table) -> bool:
        """By the adapters of the visual stream."""
        return any(key.startswith("vis_adapter_blocks_p1.") for key in table)

    @staticmethod
    def recipe(table: Table) -> str:
        """By the layers for questions, and the image network."""
        if "fc_ans.weight" in table:
            return "paper/avqa-lavish-swinv2-l"
        if f"{SWIN}norm.weight" in table:
            return "paper/avel-lavish-swinv2-l"
        width = table[f"{VIT}cls_token"].shape[2] if f"{VIT}cls_token" in table else 0
        if width not in VITS:
            raise CheckpointError(
                f"The checkpoint's image network has width {width}; expected a ViT-B/16 (768), ViT-L/16 (1024) or "
                "Swin-V2-L. Name a recipe with its network (backbone.name)."
            )
        return VITS[width]

    @staticmethod
    def settings(table: Table, experiment: Experiment) -> dict[str, Any]:
        """The adapters' sizes and layers.

        Raises:
            CheckpointError: The adapters have other layers than those that the public code's scripts ask for.
        """
        names = {key.removeprefix(FIRST) for key in table if key.startswith(FIRST)}
        needed = {"my_tokens", "down_sampler.weight", "up_sampler.weight", "ln_before.weight", "ln_post.weight"}
        if lacking := sorted(needed - names):
            raise CheckpointError(
                f"The adapters have no {', '.join(lacking)}: they were trained with other settings than those of the "
                "public code's scripts (is_multimodal, is_before_layernorm and is_post_layernorm are 1), for which "
                "there is no place here."
            )
        if experiment.adapter is None or experiment.adapter.name != "lavish":
            raise CheckpointError("The recipe has no adapter 'lavish'; leave the recipe out, or name one of LAVISH's.")
        narrow, width = table[f"{FIRST}down_sampler.weight"].shape[:2]
        latents, dim = table[f"{FIRST}my_tokens"].shape
        return {
            "adapter.latents": latents,
            "adapter.reduction": dim // narrow,
            "adapter.groups": dim // width,
            "adapter.batch_norm": "bn1.weight" in names,
            "adapter.latent_gate": _latent_gate(table),
        }

    @staticmethod
    def frozen(table: Table) -> dict[str, str]:
        """The ViT or Swin V2, under timm's names."""
        found: dict[str, str] = {}
        for prefix in (VIT, SWIN):
            found |= {key: key.removeprefix(prefix) for key in table if key.startswith(prefix)}
        return found

    @staticmethod
    def labels(table: Table, experiment: Experiment) -> Labels:
        """AVE's classes; for questions, the words' order is known from the data set only."""
        if experiment.task.name == "avqa":
            raise require_words(table)
        classes = len(table["mlp_class_2.weight"]) - 1 if "mlp_class_2.weight" in table else 0
        if classes != len(AVE_CLASSES):
            raise CheckpointError(
                f"The checkpoint has {classes} classes, and AVE has {len(AVE_CLASSES)}; name the data set that it was "
                "trained on with --data.root FOLDER."
            )
        return EventLabels(AVE_CLASSES)

    @staticmethod
    def rules(table: Table, experiment: Experiment) -> list[Rule]:
        """Adapters and head; on Swin V2 the head's first layer reads the frame before the sound, here after it.

        Raises:
            CheckpointError: There are gates that the adapters leave out, and that are not 1.
        """
        first = to(r"head.head.hidden.\1", _swapped if f"{SWIN}norm.weight" in table else lambda value: value)
        rules = [*_ADAPTERS, (r"mlp_class\.(.+)", first), (r"mlp_class_2\.(.+)", to(r"head.head.classes.\1"))]
        if not getattr(experiment.adapter, "latent_gate", False):
            if _latent_gate(table):
                raise CheckpointError(
                    "The checkpoint's gates gate_tk have left 1, at which they start, and adapter.latent_gate is "
                    "false; leave that option out, since without them the model computes something else."
                )
            rules = [rule for rule in rules if "gate_tk" not in rule[0]]
        if experiment.task.name != "avqa":
            return rules
        return [
            *rules,
            (r"yb_fc_v\.(.+)", to(r"head.head.grounding.visual_in.\1")),
            (r"yb_fc_a\.(.+)", to(r"head.head.grounding.audio_in.\1")),
            *answering_rules(),
        ]

    @staticmethod
    def made(table: Table, wanted: Table) -> dict[str, Tensor]:
        """A gate of 1 for sounds' adapters that were trained without one."""
        gates = {name: value for name, value in wanted.items() if name.endswith(".audio.output_gate")}
        if "audio_adapter_blocks_p1.0.gate" in table:
            return {}
        return {name: torch.ones_like(value) for name, value in gates.items()}

    @staticmethod
    def differences(experiment: Experiment) -> list[str]:
        """Of frames and sound; and of training on."""
        found = [
            "Frames come from the video itself, resized bicubically with antialiasing; there, from JPEG files, resized "
            "without.",
        ]
        if getattr(experiment.data, "seconds", "") == "lavish":
            found.append(
                "Moments as there: sounds start evenly from the first to 0.1 s before the last that fits (AVE: 0, "
                "0.99, ..., 8.9 s), and frames are those at each second's start."
            )
        else:
            found.append("Each segment is a second with its middle frame; there, sounds start evenly from 0 to 8.9 s.")
        if not experiment.backbone.mean:
            found.append(
                "Pixels are normalised as the weights were trained; there, with ImageNet's mean and deviation."
            )
        found.append(
            "If trained on, the frozen network stays as it is; there, it runs in training mode, with timm's stochastic "
            "depth for Swin V2 (0.1 in the last block), and its norms may train."
        )
        return found


def _latent_gate(table: Table) -> bool:
    """Whether any gate of what the latents gather has left its start; the code's other versions do not read it."""
    gates = [value for key, value in table.items() if key.endswith(".gate_tk")]
    return any(not value.is_meta and bool((value != 1).any()) for value in gates)


def _swapped(value: Tensor) -> Tensor:
    """The halves of a matrix in the other order; a bias as it is."""
    return torch.cat(value.chunk(2, dim=1)[::-1], dim=1) if value.ndim == 2 else value


def _adapter(name: str, matrix: bool = False) -> Any:
    """A tensor of an adapter; `matrix` for a 1x1 convolution, which is a linear layer here."""

    def piece(match: re.Match[str], value: Tensor) -> Piece:
        stream, position, block, *rest = match.groups()
        place = f"adapters.{block}.{'attn' if position == '1' else 'mlp'}.{'audio' if stream == 'audio' else 'visual'}"
        scalar = value.reshape(()) if value.shape == (1,) and "gate" in name else value
        return Piece(".".join((place, name, *rest)), scalar.flatten(1) if matrix else scalar)

    return piece


_PLACE = r"(audio|vis)_adapter_blocks_p([12])\.(\d+)"
_ADAPTERS: list[Rule] = [
    (rf"{_PLACE}\.my_tokens", _adapter("latents")),
    (rf"{_PLACE}\.gate_av", _adapter("cross_gate")),
    (rf"{_PLACE}\.gate_tk", _adapter("latent_gate")),
    (rf"{_PLACE}\.gate", _adapter("output_gate")),
    (rf"{_PLACE}\.ln_before\.(.+)", _adapter("norm_before")),
    (rf"{_PLACE}\.down_sampler\.weight", _adapter("down.weight", matrix=True)),
    (rf"{_PLACE}\.bn1\.(.+)", _adapter("batch_norm_down")),
    (rf"{_PLACE}\.up_sampler\.weight", _adapter("up.weight", matrix=True)),
    (rf"{_PLACE}\.bn2\.(.+)", _adapter("batch_norm_up")),
    (rf"{_PLACE}\.ln_post\.(.+)", _adapter("norm_after")),
]
