"""Audio-visual event localization (AVEL): which event is both seen and heard, second by second.

AV-PEA paper, Section 4.2. A segment is one second; category `len(class_names)` is background.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.heads._base import Head
from avpea.metrics import accuracy
from avpea.tasks._base import Task

__all__ = ["AVEL", "Event", "timeline"]


@dataclass(frozen=True)
class Event:
    """Something that is both seen and heard.

    Attributes:
        label: Its category.
        start_seconds: Where it begins.
        end_seconds: Where it ends; the range is half open.
        confidence: Mean probability of the category over its segments.
    """

    label: str
    start_seconds: float
    end_seconds: float
    confidence: float


class AVEL(Task):
    """Event localization: tokens of both streams to a category for each segment.

    Args:
        head: What answers for each segment, from `avpea/heads/`.
    """

    def __init__(self, head: Head) -> None:
        super().__init__(head)

    def forward(
        self,
        visual: Float[Tensor, "images visual_tokens dim"],
        audio: Float[Tensor, "images audio_tokens audio_dim"],
        *,
        segments: int,
        num_prefix_tokens: int,
        has_cls: bool,
    ) -> Any:
        """The head's output for a batch of videos.

        Args:
            visual: Tokens of the frames, all segments of one video after all of another.
            audio: Tokens of the log-mel images, in the same order.
            segments: Segments of a video.
            num_prefix_tokens: Tokens before the patches, in the visual stream.
            has_cls: Whether token 0 is a CLS token; without one, the mean of all tokens stands in for it.
                Of a stream of one token, either is that token.
        """

        def by_video(rows: Tensor) -> Tensor:
            return rows.reshape(-1, segments, *rows.shape[1:])

        def cls(tokens: Tensor) -> Tensor:
            return by_video(tokens[:, 0] if has_cls else tokens.mean(dim=1))

        return self.head(by_video(visual[:, num_prefix_tokens:]), cls(visual), cls(audio))

    def loss(
        self, output: Any, labels: Int[Tensor, "batch segments"]
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The loss, and the named terms that it is the sum of."""
        terms = self.head.loss(output, labels)
        return torch.stack(list(terms.values())).sum(), terms

    def probabilities(self, output: Any) -> Float[Tensor, "batch segments categories"]:
        """Of each category in each segment; the last one is background."""
        return self.head.probabilities(output)

    def decide(self, output: Any) -> Int[Tensor, "batch segments"]:
        """The answered category of each segment."""
        return self.head.decide(output)

    @staticmethod
    def evaluate(
        answers: Int[Tensor, "videos segments"],
        labels: Int[Tensor, "videos segments"],
        class_names: Sequence[str],
    ) -> dict[str, Any]:
        """How right the answers are, in plain values: shares in [0, 1], None where there is nothing to share.

        `segment_accuracy` is the paper's figure. `foreground_accuracy` asks only whether there is an event,
        `category_accuracy` only which event a video has.
        """
        names, classes = [*class_names, "background"], len(class_names)
        confusion = accuracy.confusion_matrix(answers, labels, classes + 1)
        each = accuracy.per_class_accuracy(confusion).tolist()
        return {
            "segment_accuracy": accuracy.segment_accuracy(answers, labels),
            "foreground_accuracy": accuracy.foreground_accuracy(answers, labels, classes),
            "category_accuracy": _known(accuracy.category_accuracy(answers, labels, classes)),
            "per_class_accuracy": {name: _known(share) for name, share in zip(names, each, strict=True)},
            "confusion_matrix": confusion.tolist(),
        }


def timeline(
    probabilities: Float[Tensor, "segments categories"],
    decisions: Int[Tensor, " segments"],
    class_names: Sequence[str],
    start_seconds: float = 0.0,
    segment_seconds: float = 1.0,
) -> list[Event]:
    """Merge neighbouring segments of one category into events, in order of time; background is left out.

    Args:
        probabilities: Of each category in each segment of one video.
        decisions: The answered category of each segment.
        class_names: Names of the event categories.
        start_seconds: Where the first segment begins.
        segment_seconds: Length of a segment.
    """
    events = []
    for category, run in groupby(range(len(decisions)), key=decisions.tolist().__getitem__):
        segments = list(run)
        if category < len(class_names):
            events.append(
                Event(
                    label=class_names[category],
                    start_seconds=start_seconds + segments[0] * segment_seconds,
                    end_seconds=start_seconds + (segments[-1] + 1) * segment_seconds,
                    confidence=float(probabilities[segments, category].mean()),
                )
            )
    return events


def _known(share: float) -> float | None:
    return None if math.isnan(share) else share


# Of the two public classes here, this one is the task.
EXTENSION = AVEL
