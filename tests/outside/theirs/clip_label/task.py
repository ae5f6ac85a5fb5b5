"""Clip classification: which event a whole video has."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea.labels import EventLabels, EventSample
from avpea.tasks import Encoded, Figure, Task, TaskOptions, Viewing
from theirs.clip_label.answer import ClipAnswer
from theirs.clip_label.head import ClipLinear

__all__ = ["EXTENSION", "ClipLabel"]


@dataclass(frozen=True)
class ClipLabelOptions(TaskOptions):
    """Options of the task.

    Attributes:
        smoothing: Added to each class before the label is drawn from the counts.
    """

    smoothing: float = 0.0


class ClipLabel(Task):
    """Which event a video has."""

    Options = ClipLabelOptions
    figure = Figure("clip_accuracy", "clip accuracy", "per_class_accuracy", "class", "Classes")
    needs = EventLabels
    heads = ClipLinear
    default_head = "clip_linear"
    whole_videos = True
    verb = "label"
    use = "avpea label {run} VIDEO"
    tag = "video-classification"
    example = 'label("video.mp4")'
    labels: EventLabels

    def targets(self, samples: Sequence[EventSample]) -> Tensor:
        """Labels."""
        return torch.tensor([self.label(sample) for sample in samples], dtype=torch.int64)

    def label(self, sample: EventSample) -> int:
        """The most frequent event."""
        found = Counter(label for label in sample.labels if label < self.labels.background)
        return found.most_common(1)[0][0] if found else 0

    def forward(self, encoded: Encoded, targets: Any = None) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(encoded.visual_cls, encoded.audio_cls)
        return logits

    def loss(self, output: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy."""
        terms = self.head.loss(output, targets)
        return self.total(terms), terms

    def answers(self, output: Tensor, targets: Any = None) -> list[Tensor]:
        """Probabilities of each video."""
        return list(output.float().softmax(dim=-1).cpu())

    def evaluate(self, samples: Sequence[EventSample], answers: Sequence[Tensor]) -> dict[str, Any]:
        """Accuracy."""
        hits = [self.score(sample, answer) for sample, answer in zip(samples, answers, strict=True)]
        each: dict[str, list[float]] = {name: [] for name in self.labels.class_names}
        for hit, sample in zip(hits, samples, strict=True):
            each[self.labels.class_names[self.label(sample)]].append(hit)
        return {
            "clip_accuracy": sum(hits) / len(hits),
            "per_class_accuracy": {name: sum(some) / len(some) if some else None for name, some in each.items()},
        }

    def score(self, sample: EventSample, answer: Tensor) -> float:
        """Whether it is correct."""
        return float(int(answer.argmax()) == self.label(sample))

    def row(self, sample: EventSample, answer: Tensor) -> dict[str, Any]:
        """Target and prediction."""
        names = self.labels.class_names
        return {"key": sample.key, "target": names[self.label(sample)], "prediction": names[int(answer.argmax())]}

    def examples(self, count: int, segments: int) -> list[EventSample]:
        """Samples with the first label."""
        labels = (0,) * segments
        return [EventSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", labels=labels) for i in range(count)]

    def predict(self, viewing: Viewing, *asked: Any, **options: Any) -> ClipAnswer:
        """The label of a video of any length: the mean over its windows."""
        clip = viewing.whole()
        chances = torch.stack([self.answers(viewing.run(window))[0] for window in viewing.windows(clip)]).mean(dim=0)
        best = int(chances.argmax())
        return ClipAnswer(clip.path, self.labels.class_names[best], float(chances[best]))


EXTENSION = ClipLabel
