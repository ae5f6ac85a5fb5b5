"""Small experiments of every task, head, adapter and encoder, that need no data and no weights."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from avpea import registry
from avpea.encoders import audio_tower
from avpea.errors import ExperimentError
from avpea.experiment import Experiment, class_of, load_recipe
from avpea.files import write_json
from avpea.options import option_names

READERS = {
    "events": "ave",
    "questions": "music_avqa",
    "captions": "valor32k",
    "masks": "masks",
    "lanes of events": "llp",
}
PLAIN: dict[str, Any] = {
    "title": "small",
    "task": "avel",
    "data": {"name": "ave", "root": "nowhere", "segments": 3, "workers": 0},
    "audio": {"mel_bins": 32, "mean": -6.0, "std": 4.0},
    "backbone": {"name": "vit_tiny_patch16_224", "weights": "random", "depth": 2, "image_size": 64},
    "head": {"name": "linear"},
    "train": {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "precision": "fp32"},
}
SWIN = {"name": "swinv2_tiny_window8_256.ms_in1k", "depth": 0}
SOUNDS: dict[str, list[dict[str, Any]]] = {
    "kaldi": [
        {},
        {"audio.layout": "native", "audio.rows": 96},
        {"audio.layout": "slices", "audio.rows": 96},
        {"audio.layout": "continuous", "audio.rows": 96, "audio.slices": 2},
    ],
    "vggish": [{"audio.features": "vggish"}],
}


@cache
def words() -> str:
    """A folder with a tiny BERT's configuration and a made-up vocabulary, as no other can be had without a network."""
    folder = Path(mkdtemp(prefix="avpea-words-"))
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters)]
    known += [f"word{number}" for number in range(200)]  # the first hundred or so are never drawn for masked ones
    (folder / "vocab.txt").write_text("\n".join(known) + "\n", encoding="utf-8")
    config = {"vocab_size": len(known), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    write_json(folder / "config.json", {**config, "intermediate_size": 32})
    return str(folder)


def of_head(task: str, head: str) -> Experiment:
    """A small experiment of a task with a head."""
    head_class = registry.load("head", head)
    known = set(option_names(class_of("head", {"name": head})))
    options: dict[str, Any] = {"name": head}
    if "text.name" in known:
        options["text"] = {"name": "tiny", "weights": words(), "length": 24}
    if "longest" in known:
        options |= {"longest": 4, "beams": 2}
    if "stages" in known:
        options |= {"width": 8, "stages": [4, 4, 6, 8]}
    kind = registry.load("task", task).needs.kind
    values = {**PLAIN, "task": task, "data": {**PLAIN["data"], "name": READERS[kind]}, "head": options}
    if kind == "masks":
        values["data"] |= {"mask_size": 24}
    if head_class.reads_stages:
        values["backbone"] = {**PLAIN["backbone"], **SWIN}
    if head == "mgn":  # it labels whole videos, and learns from labels of these alone
        values["task"] = {"name": task, "supervision": "weak"}
    return Experiment.from_dict(values)


def every() -> Iterator[tuple[str, Experiment]]:
    """All of them, with what is special about each."""
    audio_tower.DIM, audio_tower.BLOCKS = 24, 1  # otherwise the CPU needs longer for it than for all others together
    for task in registry.names("task"):
        for head in registry.names("head"):
            if issubclass(registry.load("head", head), registry.load("task", task).heads):
                yield f"task {task} with head {head}", of_head(task, head)
    for adapter in registry.names("adapter"):
        yield f"adapter {adapter}", Experiment.from_dict(PLAIN).override({"adapter.name": adapter})
    for encoder in registry.names("encoder"):
        yield from _of_encoder(encoder)


def _of_encoder(encoder: str) -> Iterator[tuple[str, Experiment]]:
    kind = registry.load("encoder", encoder)
    if kind.features == "precomputed":
        recipe = load_recipe("paper/avel-cmbs-features").override({"encoder.name": encoder, "train.batch_size": 2})
        yield f"encoder {encoder}", recipe.override({"train.precision": "fp32"})
        return
    known = option_names(class_of("encoder", {"name": encoder}))
    small = {"fusion_from": 0, "audio_weights": "random"}
    options = {"encoder.name": encoder} | {f"encoder.{key}": value for key, value in small.items() if key in known}
    for sound in SOUNDS[kind.features]:
        whole = sound.get("audio.layout") in ("slices", "continuous")
        plain = of_head("avr", "matcher") if whole else Experiment.from_dict(PLAIN)
        try:
            made = plain.override({**options, **sound})
            kind.check(made)
        except ExperimentError:
            continue  # not with this sound
        yield f"encoder {encoder} {sound.get('audio.layout', '')}".strip(), made
