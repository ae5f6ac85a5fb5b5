"""Predict: run a trained model on your own videos."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch

from avpea.attention import AttentionMaps, attention_maps
from avpea.checkpoint import CheckpointInfo, load_model
from avpea.data.inputs import sample_from_clip
from avpea.data.readers.music_avqa import LAVISH_SECONDS
from avpea.device import Precision, choose_device, enough_memory, own_precision
from avpea.errors import AvpeaError
from avpea.experiment import Experiment
from avpea.exported import ExportedModel, find_export, open_export
from avpea.media import Clip, Film, moments, read, read_spread, segments_in, warm_up
from avpea.model import AVModel
from avpea.options import require_choice
from avpea.sections import ContinuousOptions
from avpea.sharing import resolve
from avpea.tasks import Answer, Encoded, Window

__all__ = ["Answer", "Predictor", "VideoView", "load", "windows"]

MissingAudio = Literal["error", "silence"]
MissingVideo = Literal["error", "black"]
Runtime = Literal["", "onnx", "openvino"]


def windows(clip: Clip, experiment: Experiment, device: torch.device | str = "cpu") -> Iterator[Window]:
    """Cut a clip into windows of as many seconds as a model was trained on, as inputs of the model on a device.

    The last window ends with the clip and may overlap the one before. A shorter clip is one window.
    """
    segments, length = len(clip.frames), experiment.data.segments
    apart = isinstance(experiment.audio, ContinuousOptions) or _as_lavish(experiment)
    whole = None if apart else sample_from_clip(clip, experiment.audio)
    covered = 0
    while covered < segments:
        stop = min(covered + length, segments)
        start = max(0, stop - length)
        if whole is not None:
            frames, log_mel = whole[0][start:stop], whole[1][start:stop]
        else:
            part = clip if (start, stop) == (0, segments) else clip.part(start, stop)
            if _as_lavish(experiment) and not part.segment_starts:
                part = moments(part, stop - start)
            frames, log_mel = sample_from_clip(part, experiment.audio)
        yield Window(start, stop, covered, frames[None].to(device), log_mel[None].to(device))
        covered = stop


def _as_lavish(experiment: Experiment) -> bool:
    return getattr(experiment.data, "seconds", "") == "lavish"


@dataclass(frozen=True)
class VideoView:
    """A video and the trained model that looks at it; implements `avpea.tasks.Viewing`.

    Attributes:
        path: The file.
        model: The model.
        experiment: How it was trained.
        reading: Options of `avpea.media.read`: what to do with missing tracks, and which tracks to read.
    """

    path: Path
    model: AVModel
    experiment: Experiment
    reading: Mapping[str, Any]

    def whole(self) -> Clip | Film:
        """The whole video, a frame and a second of sound for each second; `windows` decodes it as it goes on.

        Raises:
            MediaError: The file is missing.
        """
        return Film(self.path, **self._options())

    def decoded(self) -> Clip:
        """Decode the whole video into memory.

        Raises:
            MediaError: The file is missing or unreadable, or a track is missing and that is an error.
        """
        return read(self.path, **self._options())

    def spread(self) -> Clip:
        """Decode as many seconds as in training, spread over the video by `data.seconds` (`consecutive` as `every`).

        Of a shorter video these are its own seconds, without the padding that a batch of training needs.
        """
        seconds = getattr(self.experiment.data, "seconds", "consecutive")
        if seconds == "lavish":
            data = self.experiment.data
            length = LAVISH_SECONDS if data.name == "music_avqa" else getattr(data, "sound_seconds", 1.0)
            return moments(self.decoded(), data.segments, length)
        spread: Literal["every", "linspace"] = "linspace" if seconds == "linspace" else "every"
        clip = read_spread(self.path, self.experiment.data.segments, spread, **self._options())
        return clip.part(0, min(len(clip.frames), segments_in(clip.duration_seconds)))

    def windows(self, clip: Clip | Film) -> Generator[Window, None, None]:
        """The windows of a clip, each of as many seconds as in training, on the model's device.

        Raises:
            MediaError: A film is unreadable, or a track is missing and that is an error.
        """
        if isinstance(clip, Clip):
            yield from windows(clip, self.experiment, self.model.device)
            return
        for part in clip.parts(self.experiment.data.segments):
            first = round(part.start_seconds)
            for one in windows(part, self.experiment, self.model.device):
                yield replace(one, start=first + one.start, stop=first + one.stop, first_new=first + one.first_new)

    def run(self, window: Window, targets: Any = None) -> Any:
        """The model's output for a window; targets are moved to the model's device."""
        asked = None if targets is None else targets.to(self.model.device)
        return self.model(window.frames, window.log_mel, asked)

    def encode(self, window: Window) -> Encoded:
        """The tokens of a window."""
        return self.model.encode(window.frames, window.log_mel)

    def respond(self, window: Window) -> Any:
        """The task's answer about a window."""
        return self.model.task.respond(self.encode(window))[0]

    def _options(self) -> dict[str, Any]:
        side = self.model.image_size
        moment = 0.0 if _as_lavish(self.experiment) else self.experiment.data.frame_at_seconds
        return {"frame_size": (side, side), "frame_at_seconds": moment, **self.reading}


class ExportedView(VideoView):
    """A video and the exported model that looks at it."""

    model: Any

    def run(self, window: Window, targets: Any = None) -> Any:
        """The model's output for a window."""
        return self.model(window.frames, window.log_mel)

    def respond(self, window: Window) -> Any:
        """The task's answer about a window."""
        return self.model.respond(window.frames, window.log_mel)[0]


class _NoSuchAnswer(AvpeaError, AttributeError):
    """A run is asked for what its task does not answer; an AttributeError as well, so that `hasattr` works."""


class Predictor:
    """A trained model, ready for videos.

    `predict` also goes by the name that the task gives it: `caption` for captions, `ask` for questions.

    Weights of the model may be changed in place (`with torch.no_grad(): weight.fill_(0)`), and the next answer is that
    of the changed model. In a model from `load`, what goes by `.data` or puts another tensor in a weight's place is not
    seen, since its adapters have constants; for that, give it the model of `avpea.checkpoint.load_model`.

    Args:
        model: The model, in evaluation mode.
        info: Description of its checkpoint.
    """

    def __init__(self, model: AVModel, info: CheckpointInfo) -> None:
        self.model = model
        self.info = info

    @torch.inference_mode()
    @own_precision()
    def predict(
        self,
        video: str | Path,
        *asked: Any,
        missing_audio: MissingAudio = "error",
        missing_video: MissingVideo = "error",
        audio_track: int | None = None,
        video_track: int | None = None,
        **options: Any,
    ) -> Any:
        """Run the model's task on a video of any length.

        Args:
            video: Any file that FFmpeg reads.
            asked: Further input of the task, such as a question.
            missing_audio: What to do with a file without sound: raise an error, or use silence.
            missing_video: What to do with a file without a picture: raise an error, or use black frames.
            audio_track: Number of the audio track, from 0; None takes the one that FFmpeg would choose.
            video_track: Number of the video track, from 0; None takes the one that FFmpeg would choose.
            options: Options of the task, such as `beams`.

        Returns:
            The task's `avpea.tasks.Answer`.

        Raises:
            AvpeaError: The task has no answer to this input.
            MediaError: The file is missing or unreadable, or a track is missing and that is an error.
            DeviceMemoryError: The memory is too small for this video.
        """
        reading = {
            "missing_audio": missing_audio,
            "missing_video": missing_video,
            "audio_track": audio_track,
            "video_track": video_track,
        }
        with self.enough_memory(video):
            return self.model.task.predict(self.view(Path(video), reading), *asked, **options)

    @own_precision()
    def encode(self, window: Window) -> Encoded:
        """The tokens of a window; called in inference mode."""
        return self.model.encode(window.frames, window.log_mel)

    def read(self, video: str | Path, **reading: Any) -> Clip:
        """Decode a video at the model's frame size: a frame and a second of sound for each second.

        Args:
            video: Any file that FFmpeg reads.
            reading: `missing_audio`, `missing_video`, `audio_track` and `video_track`, as for `predict`.

        Raises:
            MediaError: As for `predict`.
        """
        return self.view(Path(video), reading).decoded()

    def view(self, video: Path, reading: Mapping[str, Any]) -> VideoView:
        """How the model looks at a video; `reading` is that of `VideoView`."""
        return VideoView(video, self.model, self.info.experiment, reading)

    @torch.inference_mode()
    @own_precision()
    def attention(self, clip: Clip | Film, second: int) -> AttentionMaps:
        """The adapters' attention maps in one second of a clip from `read`, or of an answer.

        Seconds are counted from the start of the clip. Other threads may use the model meanwhile.

        Raises:
            AvpeaError: The second is outside the clip, or no adapter has an attention map.
        """
        with self.enough_memory(clip.path):
            held = clip if isinstance(clip, Clip) else clip.clip
            return attention_maps(self.model, self.info.experiment, held, second)

    def enough_memory(self, video: str | Path = "") -> AbstractContextManager[None]:
        """A context in which memory that is too small for a video is an error with a remedy.

        Args:
            video: The file, for the error.

        Raises:
            DeviceMemoryError: It is.
        """
        elsewhere = "cut the video into shorter ones" if self.model.device.type == "cpu" else 'use device="cpu"'
        return enough_memory(self.model.device, f"close other programs that use it, or {elsewhere}", video)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Python calls this for unknown attributes only; one of them is the name that the task gives to `predict`.
        model = self.__dict__.get("model")
        if model is not None and name == model.task.verb:
            return self.predict
        if model is None or name.startswith("_"):
            raise AttributeError(name)
        task, use = self.info.experiment.task.name, model.task.use.format(run="RUN")
        raise _NoSuchAnswer(f"This run's task is '{task}', which has no '{name}'; it is for `{use}`.")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), self.model.task.verb} - {""})


class ExportedPredictor(Predictor):
    """An exported model, ready for videos.

    Args:
        model: The model.
    """

    model: Any

    def __init__(self, model: ExportedModel) -> None:
        super().__init__(cast("AVModel", model), model.about.info)

    def encode(self, window: Window) -> Encoded:
        """Refused: an exported graph gives no tokens.

        Raises:
            AvpeaError: Always.
        """
        raise AvpeaError("An exported model gives no tokens; use the run that it was made from.")

    def view(self, video: Path, reading: Mapping[str, Any]) -> VideoView:
        """How the model looks at a video."""
        return ExportedView(video, self.model, self.info.experiment, reading)

    def attention(self, clip: Clip | Film, second: int) -> AttentionMaps:
        """Refused: an exported graph gives no attention maps.

        Raises:
            AvpeaError: Always.
        """
        raise AvpeaError("An exported model has no attention maps; use the run that it was made from.")


def load(
    run: str | Path,
    *,
    weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
    precision: Precision | None = None,
    device: str | torch.device = "auto",
    trust: bool = False,
    runtime: Runtime = "",
) -> Predictor:
    """Load a run folder, a checkpoint file, a folder that `save_pretrained` wrote, or a hub repository `owner/name`.

    Or an exported model: a folder that `avpea.export` wrote.

    Args:
        run: Folder, file or repository.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        precision: `train.precision` to compute in; None means that of training, where `auto` is what suits the device.
        device: Device to compute on: `cpu`, `cuda`, `cuda:N` or `mps`; `auto` takes the first available one of CUDA,
            MPS and the CPU. Answers are on the CPU.
        trust: Whether to open and to download what the run names although somebody else made it.
        runtime: What computes an exported model; empty takes the one that it was exported to, or PyTorch for a run.

    Raises:
        AvpeaError: The runtime is not installed.
        CheckpointError: There is no checkpoint, it was trained on other frozen weights, or somebody else made it and it
            names files or downloads.
        ExperimentError: There is no such device here, or no such precision or runtime.
        DeviceMemoryError: The model does not fit into its memory.
        WeightsError: The frozen weights cannot be loaded.
    """
    choose_device(device)  # before anything is fetched
    if precision is not None:
        require_choice("precision", precision, Precision)
    require_choice("runtime", runtime, Runtime)
    warm_up()
    exported = find_export(run, runtime)
    if exported is not None:
        _require_plain(exported, str(device), weights or audio_weights)
        return ExportedPredictor(open_export(exported, runtime, precision))
    files: dict[str, Any] = {"weights": weights, "audio_weights": audio_weights, "trust": trust}
    model, info = load_model(resolve(run, network=weights is None), precision=precision, device=device, **files)
    return Predictor(model.folded(), info)


def _require_plain(exported: Path, device: str, weights: str | Path | None) -> None:
    """Refuse options that an exported model does not have.

    Raises:
        AvpeaError: One is given.
    """
    if device not in ("auto", "cpu"):
        raise AvpeaError(f"{exported} is an exported model, which is computed on the CPU; leave out --device {device}.")
    if weights:
        raise AvpeaError(f"{exported} is an exported model, which has all weights in it; leave out {weights}.")
