"""The whole model: frames and log-mels of a batch to the task's output; only adapters and head train."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from avpea import backbones, registry
from avpea.adapters._base import Tuning
from avpea.backbones import CNN, Transformer
from avpea.configs import AudioConfig
from avpea.encoders._base import Encoder, Streams, build_encoder, changed_option
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.heads._caption import CaptionHead
from avpea.questions import QuestionVocabulary
from avpea.tasks._base import Task

__all__ = ["AVModel", "build", "task_class", "without_starting_weights"]


class AVModel(nn.Module):
    """Encoder of both streams, and task.

    Args:
        encoder: Frozen networks, with what trains in or beside them.
        task: Turns both token streams into an output; holds the trained head.
        audio: How a log-mel becomes an image.
    """

    def __init__(self, encoder: Encoder, task: Task, audio: AudioConfig) -> None:
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
        places: Int[Tensor, "batch segments"] | None = None,
    ) -> Any:
        """The task's output for a batch of videos, as the sample cache holds them.

        Args:
            frames: Of each second, RGB.
            log_mel: Of each second.
            targets: As `Task.targets` makes them, for tasks whose answer depends on what is asked.
            negatives: Frames of other videos, where the task's training wants them; seen without adapters.
            places: Which of its video's segments each one is, where they are not all there.
        """
        backbone, tokens, others = self.encoder.backbone, None, None
        if self.task.reads_video:
            tokens = self.encode(frames, log_mel)
        if negatives is not None:
            with torch.no_grad():
                others = self.encoder.see(self.images(negatives)).to(frames.device, torch.float32)
        return self.task(
            None if tokens is None else tokens.visual,
            None if tokens is None else tokens.audio,
            targets,
            others,
            segments=frames.shape[1],
            num_prefix_tokens=backbone.num_prefix_tokens,
            has_cls=backbone.has_cls,
            places=places,
        )

    def encode(
        self,
        frames: UInt8[Tensor, "batch segments height width 3"],
        log_mel: Float[Tensor, "batch segments rows mel_bins"],
    ) -> Streams:
        """Tokens of both streams, one image for each second, in float32 at least."""
        tokens = self.encoder(*self.pixels(frames, log_mel))
        wide = torch.promote_types(tokens.visual.dtype, torch.float32)
        return Streams(tokens.visual.to(wide), tokens.audio.to(wide))

    def pixels(
        self,
        frames: UInt8[Tensor, "batch segments height width 3"],
        log_mel: Float[Tensor, "batch segments rows mel_bins"],
    ) -> tuple[Float[Tensor, "images 3 height width"], Float[Tensor, "images_of_sound 3 mel_rows mel_columns"]]:
        """Normalised images of both streams (batch and segments, or slices, flattened), in the backbone's type."""
        images = self.images(frames)
        if self.audio.layout == "slices":
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
            part = "backbone" if isinstance(module, Tuning) else name.partition(".")[0]
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
        if isinstance(self.task.head, CaptionHead):
            self.task.head.text.bf16 = True
        return self


def log_mel_image(
    log_mel: Float[Tensor, "images rows mel_bins"], config: AudioConfig, image_size: int
) -> Float[Tensor, "images 3 height width"]:
    """A normalised log-mel as an image with three equal channels, rows are time and columns are mel bins.

    `image` resizes it to the frame's size (as many tokens in both streams); `native` pads with zeros or cuts
    it to `native_frames` rows, as LAVISH does; `slices` has as many already. VGGish's own log-mel stays as it is.
    """
    if config.features == "vggish":
        return log_mel[:, None].expand(-1, 3, -1, -1)
    image = ((log_mel - config.mean) / (2 * config.std))[:, None]
    if config.layout == "slices":
        return image.expand(-1, 3, -1, -1)
    if config.layout == "native":
        missing = config.native_frames - image.shape[2]
        image = F.pad(image, (0, 0, 0, missing)) if missing > 0 else image[:, :, : config.native_frames]
    elif image.shape[2:] != (image_size, image_size):
        image = F.interpolate(image, (image_size, image_size), mode="bilinear", align_corners=False, antialias=True)
    return image.expand(-1, 3, -1, -1)


def slices(
    log_mel: Float[Tensor, "batch segments rows mel_bins"], config: AudioConfig
) -> Float[Tensor, "batch slices native_frames mel_bins"]:
    """The seconds of each video joined, and cut into slices of `native_frames` rows.

    The last slice is filled with zeros before normalising, as in VALOR's public code; unlike there, a length that is a
    multiple already gets no slice of zeros alone.
    """
    rows = log_mel.flatten(1, 2)
    missing = -rows.shape[1] % config.native_frames
    return F.pad(rows, (0, 0, 0, missing)).reshape(len(rows), -1, config.native_frames, rows.shape[2])


def build(
    experiment: Experiment,
    num_classes: int,
    backbone: Transformer | CNN | None = None,
    questions: QuestionVocabulary | None = None,
) -> AVModel:
    """The model of an experiment, with new adapters and a new head, initialised from the global generator.

    Args:
        experiment: Names backbone, encoder, adapter, head and task.
        num_classes: Event categories, background not counted.
        backbone: One that is already built, to share it; otherwise built from the experiment.
        questions: What the model is to read and answer, for tasks with questions.

    Raises:
        ExperimentError, WeightsError: A name is unknown, options do not fit, or the weights cannot be had.
    """
    task: type[Task] = registry.load("task", experiment.task)
    frozen = backbone if backbone is not None else backbones.build(experiment.backbone)
    encoder = build_encoder(frozen, experiment)
    made = task.build(experiment, encoder.visual_dim, encoder.audio_dim, num_classes, questions)
    if made.frozen_negatives:
        encoder.require_see()
    if not isinstance(made.head, CaptionHead) and (changed := changed_option(experiment.text, {"weights"})):
        raise ExperimentError(f"text.{changed}, but the task '{experiment.task}' has no text model; leave it out.")
    return AVModel(encoder, made, experiment.audio)


def without_starting_weights(experiment: Experiment) -> Experiment:
    """The experiment as a checkpoint is rebuilt by it: without weights that only training starts from."""
    kind: type[Encoder] = registry.load("encoder", experiment.encoder.name)
    options = [f"encoder.{option}" for option in kind.starts_from]
    # A folder stays: it says the shape of the text model, and what its words are.
    options += ["text.weights"] * (experiment.text.weights == "pretrained")
    return experiment.override(dict.fromkeys(options, "random"))


def task_class(experiment: Experiment, kind: str) -> type[Task]:
    """The task of an experiment, if it is one for the data set and for the other options.

    Args:
        experiment: Names the task.
        kind: What the data set is annotated with: `events`, `questions` or `captions`.

    Raises:
        ExperimentError: No such task, or it needs another kind of data set, or all segments where some are asked for.
    """
    task: type[Task] = registry.load("task", experiment.task)
    if task.needs != kind:
        reader = {"events": "ave", "questions": "music_avqa", "captions": "valor32k"}[task.needs]
        raise ExperimentError(
            f"The task '{experiment.task}' needs {task.needs}, but the data set has {kind}; name one with "
            f"{task.needs}, such as --data.name {reader}."
        )
    if experiment.audio.layout == "slices" and not task.whole_videos:
        raise ExperimentError(
            f"audio.layout is 'slices', but the task '{experiment.task}' asks about each second's own sound; set it to "
            "image or native."
        )
    if experiment.train.segments and not task.whole_videos:
        raise ExperimentError(
            f"train.segments is {experiment.train.segments}, but the task '{experiment.task}' asks about each segment; "
            "leave it at 0."
        )
    if experiment.train.segments > experiment.data.segments:
        raise ExperimentError(
            f"train.segments is {experiment.train.segments}, but there are only {experiment.data.segments} "
            "(data.segments)."
        )
    return task
