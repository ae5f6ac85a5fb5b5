"""Predict: what a trained model answers about a video of one's own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from avpea.attention import AttentionMaps, attention_maps
from avpea.checkpoint import CheckpointInfo, load_model
from avpea.data.cache import sample_from_clip
from avpea.experiment import Experiment
from avpea.media import Clip, read, read_spread
from avpea.model import AVModel
from avpea.sharing import resolve
from avpea.tasks import Answer, Window

__all__ = ["Answer", "Predictor", "load", "windows"]

MissingAudio = Literal["error", "silence"]
MissingVideo = Literal["error", "black"]


def windows(clip: Clip, experiment: Experiment) -> Iterator[Window]:
    """Windows of as many seconds as a model was trained on, as it takes them.

    The last one ends with the clip and may overlap the one before. A clip that is shorter is one window.
    """
    segments, length = len(clip.frames), experiment.data.segments
    frames, log_mel = sample_from_clip(clip, experiment.audio)
    covered = 0
    while covered < segments:
        stop = min(covered + length, segments)
        start = max(0, stop - length)
        yield Window(start, stop, covered, frames[None, start:stop], log_mel[None, start:stop])
        covered = stop


@dataclass(frozen=True)
class VideoView:
    """A video in front of a trained model, as `avpea.tasks.Viewing` describes it."""

    path: Path
    model: AVModel
    experiment: Experiment
    missing_audio: MissingAudio
    missing_video: MissingVideo

    def whole(self) -> Clip:
        """A frame and a second of sound for each second.

        Raises:
            MediaError: The file is missing, unreadable, or lacks a track and no choice was made for that.
        """
        return read(self.path, **self._options())

    def spread(self) -> Clip:
        """As many seconds as in training, spread over the whole video: as `data.seconds` says, or `every` so many."""
        seconds = getattr(self.experiment.data, "seconds", "consecutive")
        spread: Literal["every", "linspace"] = "linspace" if seconds == "linspace" else "every"
        return read_spread(self.path, self.experiment.data.segments, spread, **self._options())

    def windows(self, clip: Clip) -> Iterator[Window]:
        """Windows of as many seconds as in training."""
        return windows(clip, self.experiment)

    def run(self, window: Window, targets: Any = None) -> Any:
        """The model's output for a window."""
        return self.model(window.frames, window.log_mel, targets)

    def _options(self) -> dict[str, Any]:
        side = self.model.encoder.backbone.image_size
        return {
            "frame_size": (side, side),
            "missing_audio": self.missing_audio,
            "missing_video": self.missing_video,
        }


class Predictor:
    """A trained model, ready for videos.

    Its answer comes from `predict`, and also from the method that the task names it by: `caption` for captions, `ask`
    for questions.

    Args:
        model: In evaluation mode.
        info: What its checkpoint says.
    """

    def __init__(self, model: AVModel, info: CheckpointInfo) -> None:
        self.model = model
        self.info = info

    @torch.inference_mode()
    def predict(
        self,
        video: str | Path,
        *asked: Any,
        missing_audio: MissingAudio = "error",
        missing_video: MissingVideo = "error",
        **options: Any,
    ) -> Any:
        """Answer about a video of any length, as the model's task does.

        Args:
            video: Any file that FFmpeg reads.
            asked: What the task needs besides, such as a question.
            missing_audio: What a video without sound means: an error, or silence.
            missing_video: What a file without a picture means: an error, or black frames.
            options: What the task takes besides, such as `beams`.

        Returns:
            The task's `avpea.tasks.Answer`.

        Raises:
            AvpeaError: What is asked cannot be answered.
            MediaError: The file is missing, unreadable, or lacks a track and no choice was made for that.
        """
        view = VideoView(Path(video), self.model, self.info.experiment, missing_audio, missing_video)
        return self.model.task.predict(view, *asked, **options)

    def read(
        self, video: str | Path, *, missing_audio: MissingAudio = "error", missing_video: MissingVideo = "error"
    ) -> Clip:
        """Decode a video as the model wants it: a frame and a second of sound for each second.

        Raises:
            MediaError: As for `predict`.
        """
        return VideoView(Path(video), self.model, self.info.experiment, missing_audio, missing_video).whole()

    @torch.inference_mode()
    def attention(self, clip: Clip, second: int) -> AttentionMaps:
        """The adapters' attention maps in one second of a clip that `read` answered.

        Raises:
            AvpeaError: The second is outside the clip, or no adapter has an attention map.
        """
        return attention_maps(self.model, self.info.experiment, clip, second)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Only for names that are not found otherwise: the method that the task calls its answer by.
        model = self.__dict__.get("model")
        if model is not None and name == model.task.verb:
            return self.predict
        if model is None or name.startswith("_"):
            raise AttributeError(name)
        task, use = self.info.experiment.task.name, model.task.use.format(run="RUN")
        raise AttributeError(f"This run's task is '{task}', which has no '{name}'; it is for `{use}`.")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), self.model.task.verb} - {""})


def load(
    run: str | Path,
    *,
    weights: str | None = None,
    audio_weights: str | None = None,
    precision: Literal["auto", "fp32", "bf16"] | None = None,
) -> Predictor:
    """Load a run folder, a checkpoint file, a folder that `save_pretrained` wrote, or a hub repository `owner/name`.

    Args:
        run: Where it is.
        weights: The backbone's weights, if not where they were in training.
        audio_weights: VGGish's weights, likewise.
        precision: As `train.precision`, whose value in training is the default.

    Raises:
        CheckpointError, WeightsError: As the parts say.
    """
    model, info = load_model(resolve(run), weights=weights, audio_weights=audio_weights, precision=precision)
    return Predictor(model, info)
