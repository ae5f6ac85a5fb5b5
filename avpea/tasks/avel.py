"""Audio-visual event localization (AVEL): which event is seen and heard together, second by second."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea.metrics.accuracy import confusion_matrix, per_class_accuracy, segment_accuracy

__all__ = ["AVEL", "Event", "timeline"]




@dataclass(frozen=True)
class Event:
    """Something seen and heard together.

    Attributes:
        label: Its category.
        start_seconds: Where it begins.
        end_seconds: Where it ends; the range is half open.
        confidence: Mean probability of the category over its seconds.
    """

    label: str
    start_seconds: float
    end_seconds: float
    confidence: float


class AVEL(nn.Module):
    """Event localization with a head that answers for each second.

    Args:
        head: A module of `avpea/heads`.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(
        self,
        visual: Float[Tensor, "images visual_tokens dim"],
        audio: Float[Tensor, "images audio_tokens dim"],
        *,
        segments: int,
        num_prefix_tokens: int,
        has_cls: bool,
    ) -> Any:
        """Tokens of both streams to the head's output; images are the seconds of one video after another's.

        Without a CLS token the mean of the tokens stands in for it.
        """

        def summary(tokens: Tensor) -> Tensor:
            return (tokens[:, 0] if has_cls else tokens.mean(dim=1)).unflatten(0, (-1, segments))

        patches = visual[:, num_prefix_tokens:].unflatten(0, (-1, segments))
        return self.head(patches, summary(visual), summary(audio))

    def loss(self, output: Any, labels: Int[Tensor, "batch segments"]) -> tuple[Tensor, dict[str, Tensor]]:
        """The head's loss and its named terms."""
        terms: dict[str, Tensor] = self.head.loss(output, labels)  # type: ignore[operator]
        return torch.stack(list(terms.values())).sum(), terms

    def probabilities(self, output: Any) -> Float[Tensor, "batch segments categories"]:
        """Of each category in each second; the last one is background."""
        answer: Tensor = self.head.probabilities(output)  # type: ignore[operator]
        return answer

    def decide(self, output: Any) -> Int[Tensor, "batch segments"]:
        """The answered category of each second; the last one is background."""
        answer: Tensor = self.head.decide(output)  # type: ignore[operator]
        return answer

    @staticmethod
    def evaluate(
        answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Segment accuracy (the AVE protocol), accuracy of each class and the confusion matrix, as plain values."""
        names = [*class_names, "background"]
        confusion = confusion_matrix(answers, labels, len(names))
        each = per_class_accuracy(confusion).tolist()
        return {
            "segment_accuracy": segment_accuracy(answers, labels),
            "per_class_accuracy": {n: None if math.isnan(a) else a for n, a in zip(names, each, strict=True)},
            "confusion_matrix": confusion.tolist(),
        }


def timeline(
    probabilities: Float[Tensor, "seconds categories"],
    decisions: Int[Tensor, " seconds"],
    class_names: Sequence[str],
    start_seconds: float = 0.0,
) -> list[Event]:
    """Merge neighbouring seconds of one category into events, in order of time; background is left out."""
    events = []
    for answer, run in groupby(range(len(decisions)), key=decisions.tolist().__getitem__):
        seconds = list(run)
        if answer < len(class_names):
            confidence = float(probabilities[seconds, answer].mean())
            start, end = start_seconds + seconds[0], start_seconds + seconds[-1] + 1
            events.append(Event(class_names[answer], float(start), float(end), confidence))
    return events

EXTENSION = AVEL
