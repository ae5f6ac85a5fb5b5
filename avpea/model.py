"""The whole model, from frames and log-mels to the task's output; only adapters and head train."""

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from avpea import backbones, registry
from avpea.adapters import Trained
from avpea.device import choose_precision, float32_products
from avpea.encoders import Encoder, Streams, build_encoder
from avpea.errors import TrainingError
from avpea.experiment import Experiment
from avpea.labels import Labels
from avpea.options import countable
from avpea.sections import AudioOptions, ContinuousOptions, LogMelOptions, RowsOptions, TrainOptions
from avpea.tasks import Dims, Encoded, Task

__all__ = ["AVModel", "build", "fold", "log_mel_image", "require_numbers"]


Frames = UInt8[Tensor, "batch segments height width 3"] | Float[Tensor, "batch segments patches dim"]
Sounds = Float[Tensor, "batch sounds rows mel_bins"] | Float[Tensor, "batch segments audio_dim"]


class AVModel(nn.Module):
    """An encoder of both streams, and a task.

    Args:
        encoder: Frozen networks with the adapters.
        task: Turns both token streams into an output; holds the trained head.
        audio: Options that say how a log-mel becomes an image.
        tf32: Whether products in float32 are computed with TF32 on cards that have it.

    Attributes:
        portable: Whether only what every runtime computes alike is used, for an export.
    """

    def __init__(self, encoder: Encoder, task: Task, audio: AudioOptions, tf32: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.task = task
        self.audio = audio
        self.tf32 = tf32
        self.portable = False

    @property
    def device(self) -> torch.device:
        """The device that it computes on, where its inputs must be."""
        return next(self.parameters()).device

    @property
    def image_size(self) -> int:
        """Side of the frames in pixels."""
        return self.encoder.backbone.image_size

    def forward(
        self,
        frames: Frames,
        log_mel: Sounds,
        targets: Any = None,
        negatives: Frames | None = None,
        positions: Int[Tensor, "batch segments"] | None = None,
    ) -> Any:
        """The task's output for a batch of videos, as the sample cache holds them.

        Args:
            frames: RGB frames, one per second; or their precomputed features.
            log_mel: Log-mel of each second, or of slices of the whole sound; or precomputed vectors.
            targets: Targets from `Task.targets`; needed if the output depends on them, as with questions.
            negatives: Frames of other videos for the head's training, which are encoded without adapters.
            positions: Index of each segment in its video; None if all segments are given.
        """
        others = None
        with float32_products(self.device, self.tf32):
            if negatives is not None:
                with torch.no_grad():
                    others = self.encoder.see(self.images(negatives))
                    others = others.to(torch.promote_types(others.dtype, torch.float32))
            return self.task(self.encode(frames, log_mel, others, positions), targets)

    def resume(self, entered: Sequence[Streams], segments: int, image_size: int) -> Encoded:
        """Tokens of both streams for a task, from what `encoder.enter` made.

        Args:
            entered: Outputs of the kept layers for all images of the batch, in order.
            segments: Number of segments of each video.
            image_size: Side of the frames in pixels.
        """
        sizes = (image_size, image_size), log_mel_size(self.audio, image_size)
        with float32_products(self.device, self.tf32):
            return self._encoded(self.encoder.resume(entered, sizes), segments)

    def encode(
        self,
        frames: Frames,
        log_mel: Sounds,
        negatives: Float[Tensor, "images visual_tokens dim"] | None = None,
        positions: Int[Tensor, "batch segments"] | None = None,
    ) -> Encoded:
        """Tokens of both streams for a task, in float32 or wider; None for a head that reads no video."""
        tokens: Streams | None = None
        stages: tuple[Tensor, ...] = ()
        if self.task.head.reads_video:
            with float32_products(self.device, self.tf32):
                images = self.pixels(frames, log_mel)
                if self.task.head.reads_stages:
                    tokens, stages = self.encoder.with_stages(*images)
                else:
                    tokens = self.encoder(*images)
        found = self._encoded(tokens, frames.shape[1], negatives, positions)
        return replace(found, stages=tuple(map(_wide, stages))) if stages else found

    def _encoded(
        self,
        tokens: Streams | None,
        segments: int,
        negatives: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Encoded:
        visual = audio = None
        if tokens is not None:
            visual, audio = _wide(tokens.visual), _wide(tokens.audio)
        prefix, has_cls = self.encoder.backbone.num_prefix_tokens, self.encoder.backbone.has_cls
        heard = None if isinstance(self.audio, ContinuousOptions) else positions  # whole sounds are not drawn
        return Encoded(visual, audio, segments, prefix, has_cls, negatives, positions, heard)

    def pixels(
        self,
        frames: Frames,
        log_mel: Sounds,
    ) -> tuple[Float[Tensor, "images ..."], Float[Tensor, "images_of_sound ..."]]:
        """Normalised images of both streams (batch and segments, or slices, flattened), in the backbone's dtype.

        Precomputed features are returned as they are.
        """
        images = self.images(frames)
        if self.encoder.features == "precomputed":
            return images, log_mel.flatten(0, 1)
        if isinstance(self.audio, RowsOptions) and self.audio.layout == "slices":
            log_mel = slices(log_mel, self.audio)
        sounds = log_mel_image(log_mel.flatten(0, 1), self.audio, frames.shape[2], self.portable)
        return images, sounds.to(images.dtype)

    def images(self, frames: Frames) -> Float[Tensor, "images ..."]:
        """Normalised frames (batch and segments flattened), in the backbone's dtype."""
        if self.encoder.features == "precomputed":
            return frames.flatten(0, 1)
        backbone = self.encoder.backbone
        both = (torch.tensor(v, dtype=torch.float32, device=frames.device) for v in (backbone.mean, backbone.std))
        mean, std = (each[:, None, None] for each in both)
        images = frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        return ((images - mean) / std).to(next(backbone.parameters()).dtype)

    def trained_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Adapters and task with stable names: what a checkpoint holds."""
        for name, module in self.encoder.trained_parts():
            yield f"adapters.{name.removeprefix('beside.')}", module
        yield "head", self.task

    def trained_state(self) -> dict[str, Tensor]:
        """Weights and buffers (BatchNorm statistics) of adapters and head; never the backbone's."""
        return {
            f"{prefix}.{key}": value
            for prefix, module in self.trained_modules()
            for key, value in module.state_dict().items()
        }

    def trained_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by learning rate: of adapters, of trained copies of backbone weights, and of the head."""
        groups: dict[str, list[nn.Parameter]] = {"adapters": [], "backbone": [], "head": []}
        for name, module in self.trained_modules():
            part = "backbone" if getattr(module, "copies_weights", False) else name.partition(".")[0]
            groups[part].extend(module.parameters())
        return groups

    def exchange_gates(self) -> list[nn.Parameter]:
        """The adapters' gates g of what they read from the other stream."""
        every = [(part, name, p) for _, part in self.encoder.trained_parts() for name, p in part.named_parameters()]
        return [parameter for part, name, parameter in every if name.rpartition(".")[2] in part.exchange_gates]

    def gate_rate(self) -> float:
        """The learning rate of these gates over that of the adapters' other parameters, as the adapter has it."""
        return max((part.gate_rate for _, part in self.encoder.trained_parts()), default=1.0)

    def gates(self) -> dict[str, list[float]]:
        """Values of the adapters' gates in each block, by branch, stream and name (`attn.audio.output_gate`)."""
        found: dict[str, list[float]] = {}
        for path, part in self.encoder.trained_parts():
            for name, value in part.gates().items():
                # One of the parts is the index of the block.
                place = [each for each in f"{path.removeprefix('beside.')}.{name}".split(".") if not each.isdecimal()]
                found.setdefault(".".join(place), []).append(value)
        return found

    def to_train(self, config: TrainOptions, device: torch.device) -> tuple["AVModel", str]:
        """Move it to a device, in the precision and with the ways to compute that a recipe trains with.

        Returns:
            The model, and why its blocks are not compiled although they should be; empty if they are.

        Raises:
            ExperimentError: Its encoder has no blocks that could be computed again.
        """
        self.to(device)
        if choose_precision(config.precision, device) == "bf16":
            self.half_precision()
        if config.checkpointing:
            self.encoder.checkpoint_blocks()
        return self, self.encoder.compile_blocks() if config.compile else ""

    def folded(self) -> "AVModel":
        """The same model for inference, whose adapters have their constants computed beforehand: see `Trained.folded`.

        Frozen layers, head and trained weights are shared.
        """
        made: AVModel = fold(self)
        return made

    def half_precision(self) -> "AVModel":
        """Keep the frozen weights in bfloat16; trained weights stay in float32 and compute in the tokens' dtype."""
        self.encoder.half_precision()
        self.task.head.half_precision()
        return self


def fold(module: Any) -> Any:
    """A module without adapters as it is, any other one as a copy with folded ones that shares everything else."""
    if isinstance(module, Trained):
        return module.folded()
    parts = {name: None if part is None else fold(part) for name, part in module._modules.items()}
    if all(part is module._modules[name] for name, part in parts.items()):
        return module
    made = copy.copy(module)
    made._modules = parts
    return made


def log_mel_image(
    log_mel: Float[Tensor, "images rows mel_bins"], options: AudioOptions, image_size: int, portable: bool = False
) -> Float[Tensor, "images 3 height width"]:
    """A normalised log-mel as an image with three equal channels; image rows are time, columns are mel bins.

    The layout `image` resizes it to the frames' size, so that both streams have as many tokens; `native` zero-pads or
    cuts it to `audio.rows` rows, as in LAVISH; with `slices` it has that many already. VGGish's log-mel is not changed.
    With `portable` it is resized by matrix products, as OpenVINO leaves out the antialiasing.
    """
    if not isinstance(options, LogMelOptions):
        return log_mel[:, None].expand(-1, 3, -1, -1)
    image = ((log_mel - options.mean) / (2 * options.std))[:, None]
    if isinstance(options, RowsOptions):
        if options.layout == "native":
            missing = options.rows - image.shape[2]
            image = F.pad(image, (0, 0, 0, missing)) if missing > 0 else image[:, :, : options.rows]
    elif image.shape[2:] != (image_size, image_size):
        resize = _resized_by_products if portable else _resized
        image = resize(image, image_size)
    return image.expand(-1, 3, -1, -1)


def _resized(image: Float[Tensor, "images 1 rows columns"], side: int) -> Float[Tensor, "images 1 {side} {side}"]:
    """Images resized bilinearly, with antialiasing."""
    return F.interpolate(image, (side, side), mode="bilinear", align_corners=False, antialias=True)


def _resized_by_products(image: Float[Tensor, "images 1 rows columns"], side: int) -> Float[Tensor, "images 1 _ _"]:
    """The same to rounding, as a matrix product along each axis."""
    rows, columns = (_resizing(size, side) for size in image.shape[2:])
    return rows @ image @ columns.T


@functools.cache  # so that a graph that is traced after a first pass holds it as a constant
@torch.inference_mode(False)  # what is kept must serve every later call, whatever the first one was in
def _resizing(size: int, side: int) -> Float[Tensor, "{side} {size}"]:
    """What resizing makes of each unit vector, as a column of pixels."""
    columns = torch.eye(size, dtype=torch.float32, device="cpu")[:, None, :, None].expand(-1, -1, -1, side)
    return _resized(columns, side)[:, 0, :, 0].T.contiguous()


def log_mel_size(options: AudioOptions, image_size: int) -> tuple[int, int]:
    """Height and width of the images that `log_mel_image` makes of Kaldi's log-mel."""
    if isinstance(options, RowsOptions):
        return options.rows, options.mel_bins
    return image_size, image_size


def slices(
    log_mel: Float[Tensor, "batch segments rows mel_bins"], options: RowsOptions
) -> Float[Tensor, "batch slices slice_rows mel_bins"]:
    """Join the log-mels of a video's seconds, and cut them into slices of `audio.rows` rows.

    The last slice is zero-padded before normalising, as in VALOR's public code. Unlike there, a length that is already
    a multiple of `audio.rows` gets no extra slice of zeros.
    """
    rows = log_mel.flatten(1, 2)
    missing = -rows.shape[1] % options.rows
    return F.pad(rows, (0, 0, 0, missing)).reshape(rows.shape[0], -1, options.rows, rows.shape[2])


def _wide(tokens: Tensor) -> Tensor:
    """In float32 or wider."""
    return tokens.to(torch.promote_types(tokens.dtype, torch.float32))


def build(experiment: Experiment, labels: Labels, backbone: Any = None) -> AVModel:
    """Build the model of an experiment; adapters and head are initialised from torch's global random state.

    Args:
        experiment: Names backbone, encoder, adapter, head and task.
        labels: Labels that the head predicts.
        backbone: A backbone to share, instead of building one.

    Raises:
        ExperimentError: The options do not fit together, or one asks for a tensor that cannot be.
        WeightsError: The frozen weights cannot be loaded.
    """
    task: type[Task] = registry.load("task", experiment.task.name)
    with countable(experiment):
        frozen = backbone if backbone is not None else backbones.build(experiment.backbone)
        encoder = build_encoder(frozen, experiment)
        made = task.build(experiment, Dims(encoder.visual_dim, encoder.audio_dim, encoder.stage_dims), labels)
    if made.head.frozen_negatives:
        encoder.require_see()
    made.register_forward_hook(require_numbers)
    return AVModel(encoder, made, experiment.audio, experiment.train.tf32)


def require_numbers(task: nn.Module, _: Any, output: Any) -> None:
    """Refuse an answer that is NaN: the weights may all be finite, and yet so large that nothing can be computed.

    Raises:
        TrainingError: It is NaN; in training, the loss is checked instead.
    """
    if not task.training and _has_nan(output):
        raise TrainingError(
            "The model's output is NaN, since its weights have diverged in training; train anew, in another --run, "
            "with a lower --train.learning_rate and --train.head_learning_rate."
        )


def _has_nan(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point() and not value.is_meta and bool(value.isnan().any())
    if isinstance(value, Mapping):
        return any(map(_has_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_nan, value))
    if is_dataclass(value):
        return any(_has_nan(getattr(value, item.name)) for item in fields(value))
    return False
