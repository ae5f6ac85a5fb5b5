"""Importing official VALOR checkpoints as runs.

`ckpt/model_step_N.pt` of VALOR's public code (TXH-mercury/VALOR) is one state_dict of CLIP, audio tower, BERT and
heads. Here the frozen image transformer becomes a separate file of weights, and the trained parts a checkpoint.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea import backbones
from avpea.backbones import read_table
from avpea.checkpoint import MODEL_FILE, save_model, write_tensors
from avpea.errors import CheckpointError
from avpea.experiment import Experiment
from avpea.files import write_text
from avpea.labels import Labels
from avpea.model import AVModel, build

__all__ = ["ImportReport", "import_valor"]

BACKBONE_FILE = "backbone.safetensors"


@dataclass(frozen=True)
class ImportReport:
    """What was imported from a checkpoint.

    Attributes:
        run: The run folder.
        taken: Names of this code's tensors that were loaded.
        missing: Names of this code's tensors that are not in the file; they keep their random initialisation.
        unknown: Names of the file's tensors that this code has no use for.
    """

    run: Path
    taken: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"run": str(self.run)}


def import_valor(file: str | Path, experiment: Experiment, run: str | Path, labels: Labels) -> ImportReport:
    """Make a run from an official checkpoint.

    Args:
        file: `model_step_N.pt`.
        experiment: A recipe of the checkpoint's size and task, such as `paper/avr-valor-l`.
        run: The run folder to make.
        labels: Labels of the data set that the run is for.

    Raises:
        CheckpointError: The folder is not empty, the file is no checkpoint of VALOR, or a shape does not fit.
        WeightsError: The file cannot be read.
        ExperimentError: The recipe's backbone is no transformer of the checkpoint's size.
    """
    folder = Path(run)
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty; choose another folder with --run.")
    table = {key.removeprefix("module."): value for key, value in read_table(Path(file), "VALOR").items()}
    if not any(key.startswith(("multimodal_encoder.", "contra_head_", "clip_model.")) for key in table):
        raise CheckpointError(f"{file} has no key of VALOR ('multimodal_encoder.', 'contra_head_', 'clip_model.').")
    folder.mkdir(parents=True, exist_ok=True)
    experiment = _with_backbone(table, experiment, folder)
    torch.manual_seed(experiment.train.seed)
    model = build(experiment.rebuilt(), labels)
    taken, missing, unknown = fill(model, table, str(file))
    save_model(folder / MODEL_FILE, model, experiment, labels, {"epoch": 0, "selected_on": None})
    write_text(folder / "experiment.yaml", experiment.to_yaml())
    return ImportReport(folder, tuple(taken), tuple(missing), tuple(unknown))


def fill(model: AVModel, table: Mapping[str, Tensor], source: str) -> tuple[list[str], list[str], list[str]]:
    """Load an official state_dict into a model, without CLIP's image tower, which the backbone has loaded.

    Returns:
        The names of the model's tensors that were loaded, those that were not, and the unused names of the state_dict.

    Raises:
        CheckpointError: A shape differs.
    """
    own = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found, used = translated(table, {name: value.shape for name, value in own.items()})
    with torch.no_grad():
        for name, value in found.items():
            if own[name].shape != value.shape:
                raise CheckpointError(
                    f"{source} does not fit: {name} has shape {tuple(value.shape)} there, expected "
                    f"{tuple(own[name].shape)}; name a recipe of its size."
                )
            own[name].copy_(value)
    image = {key for key in table if key.startswith("clip_model.visual.")}
    # Trained copies of the image transformer start from the backbone's own file.
    anew = {name for name in own.keys() - found.keys() if not name.startswith("encoder.tuning.")}
    return sorted(found), sorted(anew), sorted(table.keys() - used - image)


def translated(table: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> tuple[dict[str, Tensor], set[str]]:
    """The wanted tensors by this code's names, and the official names that they come from."""
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    for key, value in table.items():
        for pattern, rewrite in _RULES:
            match = re.fullmatch(pattern, key)
            if match is None:
                continue
            name, tensor = rewrite(match, value)
            if name in wanted:
                if name.endswith(("place.visual", "place.audio")):
                    tensor = _rows(tensor, wanted[name][1])
                found[name] = tensor
                used.add(key)
            break
    for name, parts in _joined(table, wanted).items():
        found[name] = torch.cat([table[part] for part in parts])
        used.update(parts)
    # The weight of the decoder is tied to the token embeddings, so it is stored once here.
    if "task.head.text.words.bias" in found:
        used |= {"cls.decoder.weight"} & table.keys()
    return found, used


Rule = tuple[str, Callable[[re.Match[str], Tensor], tuple[str, Tensor]]]


def _to(name: str) -> Callable[[re.Match[str], Tensor], tuple[str, Tensor]]:
    return lambda match, value: (match.expand(f"task.head.{name}"), value)


def _tower(name: str) -> Callable[[re.Match[str], Tensor], tuple[str, Tensor]]:
    return lambda match, value: (match.expand(f"encoder.tower.vit.{name}"), value)


def _rows(table: Tensor, count: int) -> Tensor:
    """Frame embeddings (1, frames, dim) cut to `count` frames, or extended by repeating the last, as in VALOR."""
    missing = count - table.shape[1]
    return torch.cat((table, table[:, -1:].expand(-1, missing, -1)), dim=1) if missing > 0 else table[:, :count]


_BERT = r"multimodal_encoder\.encoder\.layer\.(\d+)"
_OURS = r"text.bert.encoder.layer.\1"
_RULES: list[Rule] = [
    (
        r"multimodal_encoder\.embeddings\.prompt_embedding\.weight",
        lambda m, v: ("task.head.text.prompt_embedding", v[0]),
    ),
    (r"multimodal_encoder\.embeddings\.(.+)", _to(r"text.bert.embeddings.\1")),
    (rf"{_BERT}\.attention\.(.+)", _to(rf"{_OURS}.attention.\2")),
    (rf"{_BERT}\.cross_attn\.cross\.(.+)", _to(rf"{_OURS}.crossattention.self.\2")),
    (rf"{_BERT}\.cross_attn\.output\.(.+)", _to(rf"{_OURS}.crossattention.output.\2")),
    (rf"{_BERT}\.(intermediate|output)\.(.+)", _to(rf"{_OURS}.\2.\3")),
    (r"cls\.dense\.(.+)", _to(r"text.words.dense.\1")),
    (r"cls\.layernorm\.(.+)", _to(r"text.words.norm.\1")),
    (r"cls\.decoder\.bias", _to(r"text.words.bias")),
    (r"contra_head_t\.linear\.weight", _to("project.text.weight")),
    (r"contra_head_v\.linear\.weight", _to("project.visual.weight")),
    (r"contra_head_a\.linear\.weight", _to("project.audio.weight")),
    (r"text_fine_weight\.(\d)\.(.+)", _to(r"weigh.text.score.\1.\2")),
    (r"video_fine_weight\.(\d)\.(.+)", _to(r"weigh.visual.score.\1.\2")),
    (r"audio_fine_weight\.(\d)\.(.+)", _to(r"weigh.audio.score.\1.\2")),
    (r"clip_model\.logit_scale", _to("log_scale")),
    # VALOR-B projects frames by CLIP's own matrix, which is kept transposed.
    (r"clip_model\.visual\.proj", lambda m, v: ("task.head.project.visual.weight", v.T)),
    (r"video_type_embeddings", _to("modality.visual")),
    (r"audio_type_embeddings", _to("modality.audio")),
    (r"video_frame_embedding", _to("place.visual")),
    (r"audio_frame_embedding", _to("place.audio")),
    (r"hidden_trans_video_multimodal\.(\d)\.(.+)", _to(r"enter.visual.\1.\2")),
    (r"hidden_trans_audio_multimodal\.(\d)\.(.+)", _to(r"enter.audio.\1.\2")),
    (r"audio_embeddings\.cls_token", _tower("cls_token")),
    (r"audio_embeddings\.first_conv\.(.+)", _tower(r"patch_embed.proj.\1")),
    (r"audio_embeddings\.position_embeddings\.weight", lambda m, v: ("encoder.tower.vit.pos_embed", v[None])),
    (r"audio_encoder\.layer\.(\d+)\.attention\.linears\.3\.(.+)", _tower(r"blocks.\1.attn.proj.\2")),
    (r"audio_encoder\.layer\.(\d+)\.ff_layer\.linear([12])\.(.+)", _tower(r"blocks.\1.mlp.fc\2.\3")),
    (r"audio_encoder\.layer\.(\d+)\.layernorm([12])\.(.+)", _tower(r"blocks.\1.norm\2.\3")),
    (r"audio_encoder\.last_layernorm\.(.+)", _tower(r"norm.\1")),
]


def _joined(table: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> dict[str, list[str]]:
    """Official names of the audio tower's query, key and value, which are concatenated in this code, by its name."""
    found = {}
    for name in wanted:
        match = re.fullmatch(r"encoder\.tower\.vit\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name)
        if match is None:
            continue
        layer, kind = match.groups()
        parts = [f"audio_encoder.layer.{layer}.attention.linears.{index}.{kind}" for index in range(3)]
        if all(part in table for part in parts):
            found[name] = parts
    return found


def _with_backbone(table: Mapping[str, Tensor], experiment: Experiment, folder: Path) -> Experiment:
    """Write CLIP's image tower, if there is one, to a file with timm's keys, and point the experiment to it."""
    prefix = "clip_model.visual."
    image = {key.removeprefix("clip_model."): value for key, value in table.items() if key.startswith(prefix)}
    if not image:
        return experiment
    original, path = folder / f".original-{BACKBONE_FILE}", folder / BACKBONE_FILE
    write_tensors(original, image, {})
    try:
        # This renames the keys of OpenAI's CLIP, and refuses tensors that do not fit.
        backbone = backbones.build(dataclasses.replace(experiment.backbone, weights=str(original)))
    finally:
        original.unlink()
    state: dict[str, Tensor] = {
        re.sub(r"^layers\.", "blocks.", re.sub(r"^final_norm\.", "norm.", key)): value
        for key, value in backbone.state_dict().items()
    }
    write_tensors(path, state, {})
    return experiment.override({"backbone.weights": str(path.absolute())})
