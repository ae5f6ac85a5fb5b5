"""Predict: what a trained model finds in a video of one's own, of any length."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avpea.adapters.av_pea import AVPEA
from avpea.checkpoint import CheckpointInfo, load_model
from avpea.data.cache import sample_from_clip
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.errors import AvpeaError
from avpea.media import Clip, read
from avpea.model import AVModel
from avpea.sharing import resolve
from avpea.tasks.avel import AVEL, Event, timeline

__all__ = ["AttentionMaps", "Prediction", "Predictor", "load"]


@dataclass(frozen=True)
class Prediction:
    """What was found in a video.

    Attributes:
        video: The file.
        duration_seconds: Its length.
        class_names: The categories that the model knows.
        events: What happens from when to when, in order of time.
        decisions: The answered category of each second; `len(class_names)` is background.
        probabilities: Of each category in each second; the last column is background.
        clip: Frames and sound that the answer was drawn from.
    """

    video: Path
    duration_seconds: float
    class_names: tuple[str, ...]
    events: tuple[Event, ...]
    decisions: Int[Tensor, " seconds"]
    probabilities: Float[Tensor, "seconds categories"]
    clip: Clip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `avpea predict --json` prints them."""
        names = [*self.class_names, "background"]
        seconds = [
            {"start_seconds": float(i), "label": names[answer], "confidence": round(float(row[answer]), 4)}
            for i, (answer, row) in enumerate(zip(self.decisions.tolist(), self.probabilities, strict=True))
        ]
        events = [dataclasses.asdict(event) | {"confidence": round(event.confidence, 4)} for event in self.events]
        return {
            "video": str(self.video),
            "duration_seconds": round(self.duration_seconds, 3),
            "declared_seconds": round(self.clip.declared_seconds, 3),
            "events": events,
            "seconds": seconds,
        }

    def surest_second(self) -> int:
        """The second whose event has the highest probability."""
        return int(self.probabilities[:, :-1].amax(dim=1).argmax())

    def plot(self, path: str | Path) -> None:
        """Draw the timeline: frames, spectrogram, events, confidence."""
        from avpea import plot

        plot.timeline(
            Path(path),
            title=self.video.name,
            frames=self.clip.frames,
            waveform=self.clip.waveform,
            events=self.events,
            probabilities=self.probabilities,
            class_names=self.class_names,
            frame_aspect=self.clip.frame_aspect,
        )


@dataclass(frozen=True)
class AttentionMaps:
    """Where the streams looked in each other in one second: Θ of Eq. (7), (8), on the patch grids.

    Attributes:
        second: Start of the second in the video.
        frame: Its frame as the model saw it.
        frame_aspect: Width by height of the frame as a player shows it.
        log_mel: Its log-mel; rows are time.
        blocks: Indices of the blocks with adapters.
        sound_looked: Θ_a, for each block where the audio stream has an adapter: the image patches; None without.
        image_listened: Θ_v likewise: the patches of the log-mel image.
    """

    second: float
    frame: UInt8[Tensor, "height width 3"]
    frame_aspect: float
    log_mel: Float[Tensor, "rows mel_bins"]
    blocks: tuple[int, ...]
    sound_looked: Float[Tensor, "blocks grid_rows grid_columns"] | None
    image_listened: Float[Tensor, "blocks audio_rows audio_columns"] | None

    def plot(self, path: str | Path, title: str = "") -> None:
        """Draw both maps over the frame and the spectrogram."""
        from avpea import plot

        plot.attention(
            Path(path),
            title=title,
            frame=self.frame,
            log_mel=self.log_mel,
            sound_looked=self.sound_looked,
            image_listened=self.image_listened,
            second=self.second,
            frame_aspect=self.frame_aspect,
            blocks=self.blocks,
        )


class Predictor:
    """A trained model, ready for videos.

    Args:
        model: In evaluation mode.
        info: What its checkpoint says.
    """

    def __init__(self, model: AVModel, info: CheckpointInfo) -> None:
        self.model = model
        self.info = info

    def read(
        self,
        video: str | Path,
        *,
        missing_audio: Literal["error", "silence"] = "error",
        missing_video: Literal["error", "black"] = "error",
    ) -> Clip:
        """Decode a video as the model wants it: a frame and a second of sound for each second.

        Raises:
            MediaError: The file is missing, unreadable, or lacks a track and no choice was made for that.
        """
        size = self.model.encoder.backbone.image_size
        return read(video, frame_size=(size, size), missing_audio=missing_audio, missing_video=missing_video)

    @torch.inference_mode()
    def predict(
        self,
        video: str | Path,
        *,
        missing_audio: Literal["error", "silence"] = "error",
        missing_video: Literal["error", "black"] = "error",
    ) -> Prediction:
        """Find the events in a video of any length.

        Longer videos are read in windows of as many seconds as the model was trained on (10); the last window
        ends with the video and may overlap the one before, whose answers stand. A shorter video is one window.

        Args:
            video: Any file that FFmpeg reads.
            missing_audio: What a video without sound means: an error, or silence.
            missing_video: What a file without a picture means: an error, or black frames.

        Raises:
            MediaError: The file is missing, unreadable, or lacks a track and no choice was made for that.
        """
        clip = self.read(video, missing_audio=missing_audio, missing_video=missing_video)
        frames, log_mel = sample_from_clip(clip, self.info.experiment.audio)
        task = self.model.task
        if not isinstance(task, AVEL):
            raise AvpeaError(
                f"This run's task is '{self.info.experiment.task}', which finds no events; `avpea ask` asks it a "
                "question."
            )
        probabilities, decisions = [], []
        for start, stop, first_new in windows(len(frames), self.info.experiment.data.segments):
            found = task.answers(self.model(frames[None, start:stop], log_mel[None, start:stop]))[0]
            probabilities.append(found.probabilities[first_new - start :])
            decisions.append(found.decisions[first_new - start :])
        chances, answers = torch.cat(probabilities).float(), torch.cat(decisions)
        names = self.info.class_names
        events = tuple(timeline(chances, answers, names))
        return Prediction(clip.path, clip.duration_seconds, names, events, answers, chances, clip)

    @torch.inference_mode()
    def attention(self, clip: Clip, second: int) -> AttentionMaps:
        """The adapters' attention maps in one second of a clip that `read` answered.

        Raises:
            AvpeaError: The second is outside the clip, or no block has an AV-PEA adapter.
        """
        if not 0 <= second < len(clip.frames):
            raise AvpeaError(f"Second {second} is outside {clip.path}, which has seconds 0 to {len(clip.frames) - 1}.")
        encoder = self.model.encoder
        if not isinstance(encoder, DualStreamEncoder):
            raise AvpeaError(
                f"This run's encoder is '{self.info.experiment.encoder.name}', which has no AV-PEA adapters, so there "
                "are no attention maps; the encoder 'dual_stream' has."
            )
        frames, log_mel = sample_from_clip(clip, self.info.experiment.audio)
        maps: dict[str, list[Tensor]] = {"visual": [], "audio": []}
        images = self.model.pixels(frames[None, second : second + 1], log_mel[None, second : second + 1])
        # The visual stream's adapters look into the sound, and the audio stream's into the picture.
        others = {"visual": images[1], "audio": images[0]}
        grids = {stream: encoder.backbone.grids(*other.shape[-2:]) for stream, other in others.items()}

        def keep(index: int, stream: str) -> Any:
            def hook(adapter: AVPEA, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
                theta = adapter.attention_map(*inputs)[0, 0, encoder.backbone.num_prefix_tokens :]
                maps[stream].append(theta.float().reshape(grids[stream][index]))

            return hook

        adapters = [
            (index, stream, adapter)
            for index, block in enumerate(encoder.adapters())
            for stream, adapter in (("visual", block.attn.visual), ("audio", block.attn.audio))
            if isinstance(adapter, AVPEA) and adapter.cross_modal
        ]
        hooks = [adapter.register_forward_hook(keep(index, stream)) for index, stream, adapter in adapters]
        try:
            encoder(*images)
        finally:
            for hook in hooks:
                hook.remove()
        if not hooks:
            raise AvpeaError(
                "This run has no AV-PEA adapter, so there are no attention maps: adapter.streams is "
                f"'{self.info.experiment.adapter.streams}'."
            )
        looked, listened = (on_one_grid(maps[s]) if maps[s] else None for s in ("audio", "visual"))
        blocks = tuple(sorted({index for index, _, _ in adapters}))
        frame = clip.frames[second]
        return AttentionMaps(float(second), frame, clip.frame_aspect, log_mel[second], blocks, looked, listened)


def on_one_grid(maps: Sequence[Tensor]) -> Float[Tensor, "blocks rows columns"]:
    """Attention maps of blocks on the finest of their grids; a coarser token's share goes to all it stands for."""
    finest = max((tuple(one.shape) for one in maps), key=math.prod)
    if all(one.shape == finest for one in maps):
        return torch.stack(list(maps))
    finer = [F.interpolate(one[None, None], finest, mode="nearest")[0, 0] for one in maps]
    return torch.stack([one / one.sum() for one in finer])


def windows(segments: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Windows `[start, stop)` that cover all segments, and where each one's new answers begin."""
    covered = 0
    while covered < segments:
        stop = min(covered + length, segments)
        yield max(0, stop - length), stop, covered
        covered = stop


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
