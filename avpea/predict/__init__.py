"""Predict: what a trained model finds in a video of one's own, and what it answers to a question about it."""

from pathlib import Path
from typing import Literal

import torch

from avpea.checkpoint import CheckpointInfo, load_model
from avpea.data.cache import sample_from_clip
from avpea.errors import AvpeaError
from avpea.media import Clip, read, read_spread
from avpea.model import AVModel
from avpea.predict._attention import AttentionMaps, attention_maps, on_one_grid
from avpea.predict._captions import Caption, Captions
from avpea.predict._events import Prediction, windows
from avpea.predict._reply import Reply, read_question, reply, typed, written_reply
from avpea.sharing import resolve
from avpea.tasks.avc import AVC
from avpea.tasks.avel import AVEL, timeline
from avpea.tasks.avqa import AVQA
from avpea.tasks.avqa_generative import GenerativeAVQA
from avpea.tasks.avqa_grounding import AVQAGrounding

__all__ = ["AttentionMaps", "Caption", "Captions", "Prediction", "Predictor", "Reply", "load", "on_one_grid", "windows"]


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
            AvpeaError: The run finds no events.
            MediaError: The file is missing, unreadable, or lacks a track and no choice was made for that.
        """
        task = self.model.task
        if not isinstance(task, AVEL):
            raise self._cannot("finds no events")
        clip = self.read(video, missing_audio=missing_audio, missing_video=missing_video)
        frames, log_mel = sample_from_clip(clip, self.info.experiment.audio)
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
        return attention_maps(self.model, self.info.experiment, clip, second)

    @torch.inference_mode()
    def caption(
        self,
        video: str | Path,
        *,
        beams: int = 0,
        missing_audio: Literal["error", "silence"] = "error",
        missing_video: Literal["error", "black"] = "error",
    ) -> Captions:
        """Describe a video of any length, in windows of as many seconds as the model was trained on.

        The last window ends with the video and may overlap the one before.

        Args:
            video: Any file that FFmpeg reads.
            beams: How many sentences are kept in sight; 0 means as many as the run's recipe says.
            missing_audio: What a video without sound means: an error, or silence.
            missing_video: What a file without a picture means: an error, or black frames.

        Raises:
            AvpeaError: The run writes no captions, or `beams` is no number of sentences.
            MediaError: As for `predict`.
        """
        task = self.model.task
        if not 0 <= beams <= 100:
            raise AvpeaError(f"beams is {beams}; expected 1 to 100, or 0 for the recipe's.")
        if not isinstance(task, AVC):
            raise self._cannot("writes no captions")
        clip = self.read(video, missing_audio=missing_audio, missing_video=missing_video)
        frames, log_mel = sample_from_clip(clip, self.info.experiment.audio)
        found = []
        for start, stop, _ in windows(len(frames), self.info.experiment.data.segments):
            memories = self.model(frames[None, start:stop], log_mel[None, start:stop])
            ((best, *others),) = task.head.write(memories, torch.zeros(1, dtype=torch.int64), beams=beams)
            end = min(float(stop), max(clip.duration_seconds, start))
            rest = tuple((one.text, one.log_probability) for one in others)
            found.append(Caption(float(start), end, best.text, best.log_probability, rest))
        return Captions(clip.path, clip.duration_seconds, tuple(found), clip)

    @torch.inference_mode()
    def ask(
        self,
        video: str | Path,
        question: str,
        *,
        missing_audio: Literal["error", "silence"] = "error",
        missing_video: Literal["error", "black"] = "error",
    ) -> Reply:
        """Answer a question about a video of any length.

        As many seconds as in training are looked at, spread over the whole video (`data.seconds`; `every` where the
        model was trained on short clips, second by second).

        Args:
            video: Any file that FFmpeg reads.
            question: In any wording; what the vocabulary does not know is left out, and `Reply.unknown` tells it.
            missing_audio: What a video without sound means: an error, or silence.
            missing_video: What a file without a picture means: an error, or black frames.

        Raises:
            AvpeaError: The run answers no questions, or knows no word of this one.
            MediaError: As for `predict`.
        """
        task, data = self.model.task, self.info.experiment.data
        # The question before the video, which takes longer.
        if isinstance(task, GenerativeAVQA):
            asked, answer = typed(question), written_reply
        elif isinstance(task, AVQA) and not isinstance(task, AVQAGrounding):
            asked, answer = read_question(task.questions, question), reply
        else:
            raise self._cannot("answers no questions")
        size = self.model.encoder.backbone.image_size
        clip = read_spread(
            video, data.segments, "every" if data.seconds == "consecutive" else data.seconds,
            frame_size=(size, size), missing_audio=missing_audio, missing_video=missing_video,
        )  # fmt: skip
        return answer(self.model, self.info.experiment, clip, asked)

    def _cannot(self, lacks: str) -> AvpeaError:
        use = self.model.task.use.format(run="RUN")
        return AvpeaError(f"This run's task is '{self.info.experiment.task}', which {lacks}; it is for `{use}`.")


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
