"""VALOR's checkpoints (Chen et al., 2023): `ckpt/model_step_N.pt`, one table of CLIP, audio tower, BERT and heads."""

import re
from typing import Any

import torch
from torch import Tensor

from avpea.errors import CheckpointError
from avpea.experiment import Experiment
from avpea.labels import CaptionLabels, Labels, QuestionLabels, QuestionVocabulary
from avpea.labels.questions import MUSIC_AVQA_ANSWERS, PADDING
from avpea.official._base import Official, Piece, Rule, Table, to
from avpea.tasks.avc.heads.writer import FRAMES

__all__ = ["VALORCheckpoint"]

IMAGE = "clip_model.visual."
BERT, TEXT = "multimodal_encoder.", "txt_encoder."
# Parts of the heads here that only retrieval has, and only writing; BERT has cross-attention where it writes.
RETRIEVES = ("head.head.log_scale", "head.head.project.", "head.head.weigh.")
WRITES = ("head.head.text.words.", "head.head.modality.", "head.head.place.", "head.head.enter.")


class VALORCheckpoint(Official):
    """VALOR-B and VALOR-L, for captions, answers and (VALOR-L) retrieval."""

    code = "TXH-mercury/VALOR"
    example = "ckpt/model_step_N.pt"
    tasks = ("avc", "avqa_generative", "avr")
    left_out = (
        (r"clip_model\.(transformer\..*|token_embedding.*|positional_embedding|ln_final.*|text_projection)",
         "CLIP's text encoder, in whose place BERT reads"),
        (r"contra_temp", "temperature for image networks other than CLIP"),
        (r"(multimodal|txt)_encoder\.(pooler\..*|embeddings\.position_ids)", "parts of BERT that VALOR does not read"),
        (r"(multimodal|txt)_encoder\.encoder\.layer\.\d+\.cross_attn\..*", "for other tasks"),
        (r"(multimodal|txt)_encoder\..*", "a text encoder of its own, for other tasks"),
    )  # fmt: skip

    @staticmethod
    def recognises(table: Table) -> bool:
        """By the audio tower or the heads, whose names no other code has."""
        return any(key.startswith((BERT, "contra_head_", "audio_embeddings.", "clip_model.")) for key in table)

    @staticmethod
    def recipe(table: Table) -> str:
        """Captions, in the checkpoint's size: a checkpoint does not say which task it was trained for last."""
        width = len(table[f"{IMAGE}class_embedding"]) if f"{IMAGE}class_embedding" in table else 0
        sizes = {768: "b", 1024: "l"}
        if width not in sizes:
            raise CheckpointError(
                f"The checkpoint's image network has width {width}; expected CLIP ViT-B/16 (768) or ViT-L/14 (1024). "
                "Name a recipe of its size."
            )
        return f"paper/avc-valor-{sizes[width]}"

    @staticmethod
    def settings(table: Table, experiment: Experiment) -> dict[str, Any]:
        """The public code's cleaning of texts, its padding and its loss.

        Raises:
            CheckpointError: The checkpoint is VALOR-B, and the task is retrieval.
        """
        task = experiment.task.name
        if task == "avr" and "contra_head_t.linear.weight" not in table:
            raise CheckpointError(
                "This is a checkpoint of VALOR-B, which reads texts for retrieval by CLIP's text encoder; here BERT "
                "reads them, and the checkpoint has no projection for it (contra_head_t), so texts "
                "would be read untrained. Import VALOR-L for retrieval, or this file for paper/avc-valor-b or "
                "paper/avqa-generative-valor-b."
            )
        own = {"avr": {"head.padding": "zero"}, "avqa_generative": {"head.average": "texts"}}.get(task, {})
        return {"head.joined": "kept", **own}

    @staticmethod
    def frozen(table: Table) -> dict[str, str]:
        """CLIP's image network, under the names of OpenAI's code."""
        return {key: key.removeprefix("clip_model.") for key in table if key.startswith(IMAGE)}

    @staticmethod
    def labels(table: Table, experiment: Experiment) -> Labels:
        """None are needed, but MUSIC-AVQA's answers say which written answers are none."""
        if experiment.task.name != "avqa_generative":
            return CaptionLabels()
        return QuestionLabels(QuestionVocabulary((PADDING,), 1, MUSIC_AVQA_ANSWERS))

    @staticmethod
    def rules(table: Table, experiment: Experiment) -> list[Rule]:
        """The audio tower, BERT and all heads; for retrieval BERT as the text encoder has it."""
        retrieves = experiment.task.name == "avr" and any(key.startswith(TEXT) for key in table)
        return _rules(TEXT if retrieves else BERT)

    @staticmethod
    def elsewhere(name: str, experiment: Experiment) -> str:
        """One file has what all tasks need; and most encoders here have no transformer of its own for the sound."""
        if name.startswith("adapters.tower."):
            here = experiment.encoder.name == "audio_tower"
            return "" if here else f"VALOR's audio transformer, which the encoder '{experiment.encoder.name}' has not"
        retrieves = experiment.task.name == "avr"
        other = name.startswith(WRITES if retrieves else RETRIEVES) or (retrieves and ".crossattention." in name)
        return "for other tasks" if other else ""

    @staticmethod
    def may_miss(name: str) -> bool:
        """Adapters beside CLIP, which training starts from."""
        return name.startswith("adapters.") and ".vit." not in name

    @staticmethod
    def twins(name: str) -> tuple[str, ...]:
        """BERT stands twice in a file of VALOR-L, as it reads and writes; and its words are the last layer of `cls`."""
        if name == "cls.decoder.weight":
            return tuple(f"{bert}embeddings.word_embeddings.weight" for bert in (BERT, TEXT))
        pairs = ((BERT, TEXT), (TEXT, BERT))
        return tuple(other + name.removeprefix(one) for one, other in pairs if name.startswith(one))

    @staticmethod
    def differences(experiment: Experiment) -> list[str]:
        """Of frames, of texts, and of sound where the recipe has another than VALOR's."""
        audio: Any = experiment.audio
        found = [
            "Frames come from the video itself, resized bicubically with antialiasing; there, from JPEG files of 1 "
            "fps, resized bilinearly.",
            "Frames are those of seconds spread evenly over the video; there, the middle ones of as many equal parts.",
        ]
        if audio.layout == "continuous":
            found.append(
                "Sound as there: 22,050 Hz, one log-mel of the whole video, padded and cut into slices of 512 rows; in "
                "training always the middle slice of each part, there a random one."
            )
        else:
            found.append(f"Sound at 16 kHz in the layout '{audio.layout}'; there, 22,050 Hz in slices of 512 rows.")
        return found


def _head(name: str) -> Any:
    return to(f"head.head.{name}")


def _tower(name: str) -> Any:
    return to(f"adapters.tower.vit.{name}")


def _rows(table: Tensor, count: int) -> Tensor:
    """Frame embeddings (1, frames, dim) cut to `count` frames, or extended by repeating the last, as in VALOR."""
    missing = count - table.shape[1]
    return torch.cat((table, table[:, -1:].expand(-1, missing, -1)), dim=1) if missing > 0 else table[:, :count]


def _qkv(match: re.Match[str], value: Tensor) -> Piece:
    """Query, key and value are one layer here."""
    layer, part, kind = match.groups()
    return Piece(f"adapters.tower.vit.blocks.{layer}.attn.qkv.{kind}", value, int(part))


def _rules(bert: str) -> list[Rule]:
    base = re.escape(bert)
    layer, ours = rf"{base}encoder\.layer\.(\d+)", r"text.bert.encoder.layer.\1"

    def place(name: str) -> Any:
        return to(f"head.head.place.{name}", lambda value: _rows(value, FRAMES))

    return [
        (rf"{base}embeddings\.prompt_embedding\.weight", to("head.head.text.prompt_embedding", lambda value: value[0])),
        (rf"{base}embeddings\.(.+)", _head(r"text.bert.embeddings.\1")),
        (rf"{layer}\.attention\.(.+)", _head(rf"{ours}.attention.\2")),
        (rf"{layer}\.cross_attn\.cross\.(.+)", _head(rf"{ours}.crossattention.self.\2")),
        (rf"{layer}\.cross_attn\.output\.(.+)", _head(rf"{ours}.crossattention.output.\2")),
        (rf"{layer}\.(intermediate|output)\.(.+)", _head(rf"{ours}.\2.\3")),
        (r"cls\.dense\.(.+)", _head(r"text.words.dense.\1")),
        (r"cls\.layernorm\.(.+)", _head(r"text.words.norm.\1")),
        (r"cls\.decoder\.bias", _head("text.words.bias")),
        (r"contra_head_t\.linear\.weight", _head("project.text.weight")),
        (r"contra_head_v\.linear\.weight", _head("project.visual.weight")),
        (r"contra_head_a\.linear\.weight", _head("project.audio.weight")),
        (r"text_fine_weight\.(\d)\.(.+)", _head(r"weigh.text.score.\1.\2")),
        (r"video_fine_weight\.(\d)\.(.+)", _head(r"weigh.visual.score.\1.\2")),
        (r"audio_fine_weight\.(\d)\.(.+)", _head(r"weigh.audio.score.\1.\2")),
        (r"clip_model\.logit_scale", _head("log_scale")),
        (r"video_type_embeddings", _head("modality.visual")),
        (r"audio_type_embeddings", _head("modality.audio")),
        (r"video_frame_embedding", place("visual")),
        (r"audio_frame_embedding", place("audio")),
        (r"hidden_trans_video_multimodal\.(\d)\.(.+)", _head(r"enter.visual.\1.\2")),
        (r"hidden_trans_audio_multimodal\.(\d)\.(.+)", _head(r"enter.audio.\1.\2")),
        (r"audio_embeddings\.cls_token", _tower("cls_token")),
        (r"audio_embeddings\.first_conv\.(.+)", _tower(r"patch_embed.proj.\1")),
        (
            r"audio_embeddings\.position_embeddings\.weight",
            to("adapters.tower.vit.pos_embed", lambda value: value[None]),
        ),
        (r"audio_encoder\.layer\.(\d+)\.attention\.linears\.([012])\.(.+)", _qkv),
        (r"audio_encoder\.layer\.(\d+)\.attention\.linears\.3\.(.+)", _tower(r"blocks.\1.attn.proj.\2")),
        (r"audio_encoder\.layer\.(\d+)\.ff_layer\.linear([12])\.(.+)", _tower(r"blocks.\1.mlp.fc\2.\3")),
        (r"audio_encoder\.layer\.(\d+)\.layernorm([12])\.(.+)", _tower(r"blocks.\1.norm\2.\3")),
        (r"audio_encoder\.last_layernorm\.(.+)", _tower(r"norm.\1")),
    ]
