"""Audio-visual event localization (AVEL): which event is both seen and heard, second by second.

AV-PEA paper, Section 4.2. A segment is one second; category `len(class_names)` is background.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.dataset import EventSample
from avpea.experiment import Experiment
from avpea.heads._base import Head
from avpea.metrics import accuracy
from avpea.questions import QuestionVocabulary
from avpea.tasks._base import Task, by_video, cls_tokens, head_class

__all__ = ["AVEL", "Event", "Localization", "localization_metrics", "timeline"]


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


@dataclass(frozen=True)
class Localization:
    """What is answered for one window.

    Attributes:
        probabilities: Of each category in each segment; the last one is background.
        decisions: The answered category of each segment.
    """

    probabilities: Float[Tensor, "segments categories"]
    decisions: Int[Tensor, " segments"]


class AVEL(Task):
    """Event localization: tokens of both streams to a category for each segment.

    Args:
        head: What answers for each segment, from `avpea/heads/`.
    """

    metric = "segment_accuracy"
    breakdown = "per_class_accuracy"
    use = "avpea predict {run} VIDEO"

    def __init__(self, head: Head) -> None:
        super().__init__(head)

    @classmethod
    def build(
        cls,
        experiment: Experiment,
        visual_dim: int,
        audio_dim: int,
        num_classes: int,
        questions: QuestionVocabulary | None = None,
    ) -> "AVEL":
        """The task with a new head."""
        return cls(head_class(experiment.head, Head, "avel")(visual_dim, num_classes, audio_dim))

    def targets(self, samples: Sequence[EventSample]) -> Int[Tensor, "batch segments"]:
        """The label of each segment."""
        return torch.tensor([sample.labels for sample in samples], dtype=torch.int64)

    def forward(
        self,
        visual: Float[Tensor, "images visual_tokens dim"] | None,
        audio: Float[Tensor, "images audio_tokens audio_dim"] | None,
        targets: Any = None,
        negatives: Tensor | None = None,
        *,
        segments: int,
        num_prefix_tokens: int,
        has_cls: bool,
        places: Tensor | None = None,
    ) -> Any:
        """The head's output for a batch of videos; the arguments are the base class's."""
        assert visual is not None
        assert audio is not None

        seen, heard = (by_video(cls_tokens(tokens, has_cls), segments) for tokens in (visual, audio))
        return self.head(by_video(visual[:, num_prefix_tokens:], segments), seen, heard)

    def loss(
        self, output: Any, targets: Int[Tensor, "batch segments"]
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The loss, and the named terms that it is the sum of."""
        terms = self.head.loss(output, targets)
        return self.total(terms), terms

    def probabilities(self, output: Any) -> Float[Tensor, "batch segments categories"]:
        """Of each category in each segment; the last one is background."""
        chances: Tensor = self.head.probabilities(output)
        return chances

    def decide(self, output: Any) -> Int[Tensor, "batch segments"]:
        """The answered category of each segment."""
        decided: Tensor = self.head.decide(output)
        return decided

    def answers(self, output: Any, targets: Any = None) -> list[Localization]:
        """What is answered for each window of the batch."""
        probabilities, decisions = self.probabilities(output).cpu(), self.decide(output).cpu()
        return [Localization(*both) for both in zip(probabilities, decisions, strict=True)]

    def evaluate(
        self, samples: Sequence[EventSample], answers: Sequence[Localization], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """As `localization_metrics`."""
        return localization_metrics(
            torch.stack([answer.decisions for answer in answers]), self.targets(samples), class_names
        )

    def right(self, sample: EventSample, answer: Localization) -> int:
        """Segments that are answered rightly."""
        return sum(one == other for one, other in zip(answer.decisions.tolist(), sample.labels, strict=True))

    def asked(self, sample: EventSample) -> int:
        """Its segments."""
        return sample.segments

    def references(self, train: Sequence[EventSample], samples: Sequence[EventSample]) -> dict[str, float]:
        """The score of answering background for every second."""
        background = self.head.num_classes
        labels = [label for sample in samples for label in sample.labels]
        return {"always background": labels.count(background) / len(labels)}

    def examples(self, count: int, segments: int) -> list[EventSample]:
        """Samples with random labels."""
        labels = torch.randint(0, self.head.num_classes + 1, (count, segments)).tolist()
        return [
            EventSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", labels=tuple(row))
            for i, row in enumerate(labels)
        ]

    def row(self, sample: EventSample, answer: Localization, class_names: Sequence[str]) -> dict[str, Any]:
        """Target, prediction and confidence, second by second."""
        names, decisions = [*class_names, "background"], answer.decisions.tolist()
        return {
            "key": sample.key,
            "video": sample.video_id,
            "start_seconds": sample.start_seconds,
            "target": [names[i] for i in sample.labels],
            "prediction": [names[i] for i in decisions],
            "confidence": [round(float(row[i]), 4) for row, i in zip(answer.probabilities, decisions, strict=True)],
        }


def localization_metrics(
    answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"], class_names: Sequence[str]
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


# Of the public classes here, this one is the task.
EXTENSION = AVEL
