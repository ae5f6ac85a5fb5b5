"""The grounding stage before AVST's training: whether a frame belongs to a second's sound (Li et al., CVPR 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avpea.dataset import QuestionSample
from avpea.heads._question import QuestionOutput
from avpea.tasks.avqa import AVQA, Asked

__all__ = ["AVQAGrounding", "Matches"]


@dataclass(frozen=True)
class Matches:
    """For each segment of a video whether its own frame, and one of another video, were told rightly."""

    right: Bool[Tensor, "segments 2"]


class AVQAGrounding(AVQA):
    """Telling the frame of a second's sound from another video's, as a task of its own; questions are not read.

    Its head's weights are where AVST starts from (`train.start_from`). In evaluation the other frame is the same
    segment's of the video before it in the batch, so that the figure is the same each time for one batch size; a video
    alone in its batch has no other frame and is left out.
    """

    metric = "match_accuracy"
    breakdown = "per_class_accuracy"
    use = "avpea train mini/avqa --train.start_from {run}"

    def others(
        self, seen: Float[Tensor, "videos segments patches dim"]
    ) -> Float[Tensor, "videos segments patches dim"] | None:
        """In evaluation the frames of the video before it in the batch; None for one alone."""
        if self.training:
            return super().others(seen)
        return seen.roll(1, dims=0) if len(seen) > 1 else None

    def answers(self, output: QuestionOutput, targets: Asked) -> list[Any]:
        """Which pairs were told rightly; none for a video alone in its batch."""
        assert output.spatial is not None
        if output.match is None or output.matching is None:
            return [Matches(torch.zeros(0, 2, dtype=torch.bool))] * len(output.spatial)
        right = (output.match.argmax(dim=-1) == output.matching).cpu()
        return [Matches(one) for one in right.reshape(*output.spatial.shape[:2], 2)]

    def evaluate(
        self, samples: Sequence[QuestionSample], answers: Sequence[Any], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Share of pairs that are told rightly, in [0, 1]: all of them, own frames, and others'."""
        right = torch.cat([answer.right for answer in answers]).double()
        if not len(right):
            return {"match_accuracy": 0.0, "per_class_accuracy": {}, "pairs": 0}
        own, other = right.mean(dim=0).tolist()
        return {
            "match_accuracy": (own + other) / 2,
            "per_class_accuracy": {"own frame": own, "another video's frame": other},
            "pairs": right.numel(),
        }

    def right(self, sample: QuestionSample, answer: Any) -> int:
        """Pairs that are told rightly."""
        return int(answer.right.sum())

    def asked(self, sample: QuestionSample) -> int:
        """Pairs of a video."""
        return 2 * sample.segments

    def references(self, train: Sequence[QuestionSample], samples: Sequence[QuestionSample]) -> dict[str, float]:
        """Chance."""
        return {"chance": 0.5}

    def row(self, sample: QuestionSample, answer: Any, class_names: Sequence[str]) -> dict[str, Any]:
        """How many of a video's pairs are told rightly."""
        right, pairs = self.right(sample, answer), answer.right.numel()
        return {"key": sample.key, "video": sample.video_id, "right": right, "pairs": pairs}


# Of the public classes here, this one is the task.
EXTENSION = AVQAGrounding
