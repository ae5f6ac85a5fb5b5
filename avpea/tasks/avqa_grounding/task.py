"""The grounding stage before AVST's training, which matches frames with sounds (Li et al., CVPR 2022)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avpea.errors import AvpeaError
from avpea.labels import QuestionSample
from avpea.tables import Table
from avpea.tasks import Figure, Task, Viewing
from avpea.tasks.avqa.heads import MatchingHead, QuestionOutput
from avpea.tasks.avqa.task import AVQA, AskedQuestions

__all__ = ["EXTENSION", "AVQAGrounding", "Matches"]


@dataclass(frozen=True)
class Matches:
    """For each segment whether its own frame, and one of another video, were classified correctly."""

    correct: Bool[Tensor, "segments 2"]


class AVQAGrounding(AVQA):
    """Classify whether a frame belongs to a second of sound or to another video; questions are not read.

    AVST starts training from the weights of its head (`train.start_from`). In evaluation the other frame is that of the
    same segment of the previous video in the batch, so the result is reproducible for a given batch size; a video alone
    in its batch is left out.
    """

    figure = Figure("match_accuracy", "match accuracy", "per_class_accuracy", "frame", "Frames")
    heads = MatchingHead
    default_head = "grounding"
    verb = ""
    use = "avpea train mini/avqa --train.start_from {run}"
    tag = "audio-visual-matching"
    example = "model  # question answering starts training from it (train.start_from)"

    def others(
        self, seen: Float[Tensor, "videos segments patches dim"]
    ) -> Float[Tensor, "videos segments patches dim"] | None:
        """In evaluation the frames of the previous video in the batch; None for a single video."""
        if self.training:
            return super().others(seen)
        return seen.roll(1, dims=0) if len(seen) > 1 else None

    def answers(self, output: QuestionOutput, targets: AskedQuestions) -> list[Any]:
        """Which pairs of sound and frame were classified correctly; no pairs for a video alone in its batch."""
        assert output.spatial is not None
        if output.match is None or output.matching is None:
            return [Matches(torch.zeros(0, 2, dtype=torch.bool))] * len(output.spatial)
        correct = (output.match.argmax(dim=-1) == output.matching).cpu()
        return [Matches(one) for one in correct.reshape(*output.spatial.shape[:2], 2)]

    chances = Task.chances  # there are no answers whose confidence could be calibrated

    def evaluate(self, samples: Sequence[QuestionSample], answers: Sequence[Any]) -> dict[str, Any]:
        """Share of pairs that are classified correctly, in [0, 1]: in all, with own frames, and with other videos'."""
        correct = torch.cat([answer.correct for answer in answers]).double()
        if not len(correct):
            return {"match_accuracy": 0.0, "per_class_accuracy": {}, "pairs": 0}
        own, other = correct.mean(dim=0).tolist()
        return {
            "match_accuracy": (own + other) / 2,
            "per_class_accuracy": {"own frame": own, "another video's frame": other},
            "pairs": correct.numel(),
        }

    def score(self, sample: QuestionSample, answer: Any) -> int:
        """Number of pairs that are classified correctly."""
        return int(answer.correct.sum())

    def weight(self, sample: QuestionSample) -> int:
        """Number of pairs of a video."""
        return 2 * sample.segments

    def weight_of_answer(self, sample: QuestionSample, answer: Any) -> int:
        """Number of pairs of a video; none for one that was alone in its batch, as in the metric."""
        return int(answer.correct.numel())

    def references(self, train: Sequence[QuestionSample], samples: Sequence[QuestionSample]) -> dict[str, float]:
        """Accuracy of guessing."""
        return {"chance": 0.5}

    def row(self, sample: QuestionSample, answer: Any) -> dict[str, Any]:
        """Number of a video's pairs, and how many are classified correctly."""
        correct, pairs = self.score(sample, answer), answer.correct.numel()
        return {"key": sample.key, "video": sample.video_id, "right": correct, "pairs": pairs}

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterator[str | Table]:
        """Accuracy on own frames and on others'."""
        rows = [(name, f"{100 * share:.2f} %") for name, share in metrics["per_class_accuracy"].items()]
        yield Table(["frame", "match accuracy"], rows)

    def predict(self, viewing: Viewing, *asked: Any, **options: Any) -> Any:
        """Refuse: there is no answer for a user."""
        raise AvpeaError("The grounding stage answers no questions; train avqa from it (train.start_from).")


EXTENSION = AVQAGrounding
