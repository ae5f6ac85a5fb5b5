"""The whole model: frames and log-mels of a batch to the task's output; only adapters and head train."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from avpea import backbones, registry
from avpea.encoders import Encoder, Streams, build_encoder
from avpea.experiment import Experiment
from avpea.labels import Labels
from avpea.sections import AudioOptions, LogMelOptions, RowsOptions
from avpea.tasks import Dims, Encoded, Task

__all__ = ["AVModel", "build", "log_mel_image"]


class AVModel(nn.Module):
    """Encoder of both streams, and task.

    Args:
        encoder: Frozen networks, with what trains in or beside them.
        task: Turns both token streams into an output; holds the trained head.
        audio: How a log-mel becomes an image.
    """

    def __init__(self, encoder: Encoder, task: Task, audio: AudioOptions) -> None:
        super().__init__()
        self.encoder = encoder
        self.task = task
        self.audio = audio

    def forward(
        self,
        frames: UInt8[Tensor, "batch segments height width 3"],
        log_mel: Float[Tensor, "batch segments rows mel_bins"],
        targets: Any = None,
        negatives: UInt8[Tensor, "batch segments height width 3"] | None = None,
        positions: Int[Tensor, "batch segments"] | None = None,
    ) -> Any:
        """The task's output for a batch of videos, as the sample cache holds them.

        Args:
            frames: RGB frames, one for each second.
            log_mel: Log-mel of each second.
            targets: As `Task.targets` makes them, for tasks whose answer depends on what is asked.
            negatives: Frames of other videos, where the task's training wants them; seen without adapters.
            positions: Which of its video's segments each one is, where they are not all there.
        """
        others = None
        if negatives is not None:
            with torch.no_grad():
                others = self.encoder.see(self.images(negatives)).to(frames.device, torch.float32)
        if self.task.head.reads_video:
            encoded = self.encode(frames, log_mel, others, positions)
        else:
            encoded = self._given(None, None, frames.shape[1], others, positions)
        return self.task(encoded, targets)

    def encode(
        self,
        frames: UInt8[Tensor, "batch segments height width 3"],
        log_mel: Float[Tensor, "batch segments rows mel_bins"],
        negatives: Float[Tensor, "images visual_tokens dim"] | None = None,
        positions: Int[Tensor, "batch segments"] | None = None,
    ) -> Encoded:
        """Tokens of both streams, one image for each second, in float32 at least, as a task takes them."""
        tokens: Streams = self.encoder(*self.pixels(frames, log_mel))
        wide = torch.promote_types(tokens.visual.dtype, torch.float32)
        return self._given(tokens.visual.to(wide), tokens.audio.to(wide), frames.shape[1], negatives, positions)

    def _given(
        self,
        visual: Tensor | None,
        audio: Tensor | None,
        segments: int,
        others: Tensor | None,
        positions: Tensor | None,
    ) -> Encoded:
        backbone = self.encoder.backbone
        return Encoded(visual, audio, segments, backbone.num_prefix_tokens, backbone.has_cls, others, positions)

    def pixels(
        self,
        frames: UInt8[Tensor, "batch segments height width 3"],
        log_mel: Float[Tensor, "batch segments rows mel_bins"],
    ) -> tuple[Float[Tensor, "images 3 height width"], Float[Tensor, "images_of_sound 3 mel_rows mel_columns"]]:
        """Normalised images of both streams (batch and segments, or slices, flattened), in the backbone's type."""
        images = self.images(frames)
        if isinstance(self.audio, RowsOptions) and self.audio.layout == "slices":
            log_mel = slices(log_mel, self.audio)
        sounds = log_mel_image(log_mel.flatten(0, 1), self.audio, frames.shape[2])
        return images, sounds.to(images.dtype)

    def images(self, frames: UInt8[Tensor, "batch segments height width 3"]) -> Float[Tensor, "images 3 height width"]:
        """Normalised frames (batch and segments flattened), in the backbone's type."""
        backbone = self.encoder.backbone
        mean, std = (torch.tensor(v, device=frames.device)[:, None, None] for v in (backbone.mean, backbone.std))
        images = frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        return ((images - mean) / std).to(next(backbone.parameters()).dtype)

    def trained_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Adapters (found by their type) and the task's head, with stable names: what a checkpoint holds."""
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
        """Parameters of the adapters, of trained copies of the backbone's weights, and of the head."""
        groups: dict[str, list[nn.Parameter]] = {"adapters": [], "backbone": [], "head": []}
        for name, module in self.trained_modules():
            part = "backbone" if getattr(module, "copies_weights", False) else name.partition(".")[0]
            groups[part].extend(module.parameters())
        return groups

    def gates(self) -> dict[str, list[float]]:
        """The adapters' gates, by branch, stream and name (`attn.audio.output_gate`), one value for each block."""
        found: dict[str, list[float]] = {}
        for path, part in self.encoder.trained_parts():
            place = path.removeprefix("beside.").partition(".")[2]
            for name, value in part.gates().items():
                found.setdefault(f"{place}.{name}", []).append(value)
        return found

    def half_precision(self) -> "AVModel":
        """Keep the frozen weights in bfloat16; trained weights stay in float32 and compute in the tokens' type."""
        self.encoder.half_precision()
        self.task.head.half_precision()
        return self


def log_mel_image(
    log_mel: Float[Tensor, "images rows mel_bins"], options: AudioOptions, image_size: int
) -> Float[Tensor, "images 3 height width"]:
    """A normalised log-mel as an image with three equal channels; image rows are time, columns are mel bins.

    The layout `image` resizes it to the frame's size, so that both streams have as many tokens; `native` pads it with
    zeros or cuts it to `audio.rows` rows, as LAVISH does; `slices` has as many already. VGGish's own stays as it is.
    """
    if not isinstance(options, LogMelOptions):
        return log_mel[:, None].expand(-1, 3, -1, -1)
    image = ((log_mel - options.mean) / (2 * options.std))[:, None]
    if isinstance(options, RowsOptions):
        if options.layout == "native":
            missing = options.rows - image.shape[2]
            image = F.pad(image, (0, 0, 0, missing)) if missing > 0 else image[:, :, : options.rows]
    elif image.shape[2:] != (image_size, image_size):
        image = F.interpolate(image, (image_size, image_size), mode="bilinear", align_corners=False, antialias=True)
    return image.expand(-1, 3, -1, -1)


def slices(
    log_mel: Float[Tensor, "batch segments rows mel_bins"], options: RowsOptions
) -> Float[Tensor, "batch slices slice_rows mel_bins"]:
    """The seconds of each video joined, and cut into slices of `audio.rows` rows.

    The last slice is filled with zeros before normalising, as in VALOR's public code; unlike there, a length that is a
    multiple already gets no slice of zeros alone.
    """
    rows = log_mel.flatten(1, 2)
    missing = -rows.shape[1] % options.rows
    return F.pad(rows, (0, 0, 0, missing)).reshape(len(rows), -1, options.rows, rows.shape[2])


def build(experiment: Experiment, labels: Labels, backbone: Any = None) -> AVModel:
    """The model of an experiment, with new adapters and a new head, initialised from the global generator.

    Args:
        experiment: Names backbone, encoder, adapter, head and task.
        labels: What the head answers with.
        backbone: One that is already built, to share it; otherwise built from the experiment.

    Raises:
        ExperimentError, WeightsError: Options do not fit, or the weights cannot be had.
    """
    task: type[Task] = registry.load("task", experiment.task.name)
    frozen = backbone if backbone is not None else backbones.build(experiment.backbone)
    encoder = build_encoder(frozen, experiment)
    made = task.build(experiment, Dims(encoder.visual_dim, encoder.audio_dim), labels)
    if made.head.frozen_negatives:
        encoder.require_see()
    return AVModel(encoder, made, experiment.audio)
