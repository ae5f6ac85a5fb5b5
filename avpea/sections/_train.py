"""Section `train`: optimisation, selection, reproducibility, and random changes of the clips."""

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from avpea.options import Options, require

__all__ = ["AugmentOptions", "StepTrainOptions", "TrainOptions", "require_device_name", "train_options"]


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
            then a parameter group of their own; 0 means what the adapter has: 30 times `learning_rate` for
            `av_pea_tokens`, otherwise `learning_rate`, in the adapters' group.
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
        silence_seconds: How long another process may give no sign of life, which it does every few seconds whatever it
            computes, before training ends (its machine or the network has failed, or it was stopped); 0 waits for it,
            for up to 30 minutes.
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
    harmless: ClassVar[tuple[str, ...]] = (
        "checkpoint_minutes", "checkpointing", "device", "readers", "silence_seconds", "trackers"
    )  # fmt: skip

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
    silence_seconds: float = 300.0
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
        silence = self.silence_seconds
        require(
            silence == 0 or silence >= 5,
            f"train.silence_seconds is {silence:g}; expected 5 or more, or 0 to wait for a silent process.",
        )
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


def require_device_name(name: object, option: str) -> None:
    """Refuse what is no name of a device, whether or not there is one here.

    Raises:
        ExperimentError: It is none.
    """
    name = str(name)  # of a torch.device, too
    known = re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?|mps", name)
    require(bool(known), f"{option} is '{name:.80}'; expected auto, cpu, cuda, cuda:N (such as cuda:1) or mps.")


def train_options(values: dict[str, Any]) -> type[TrainOptions]:
    """The options class of a section `train`."""
    return StepTrainOptions if values.get("schedule") == "step" else TrainOptions
