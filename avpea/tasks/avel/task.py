"""Audio-visual event localization (AVEL): which event is both seen and heard, second by second.

AV-PEA paper, Section 4.2. A segment is one second; the category after the last class is background.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.labels import EventLabels, EventSample
from avpea.metrics import accuracy
from avpea.tables import Table
from avpea.tasks import Confusion, Encoded, Figure, Mistake, Task, Viewing
from avpea.tasks.avel.answer import Prediction
from avpea.tasks.avel.heads import EventHead

__all__ = ["AVEL", "EXTENSION", "Localization", "localization_metrics"]


@dataclass(frozen=True)
class Localization:
    """The answer for one window.

    Attributes:
        probabilities: Probability of each category in each segment; the last category is background.
        decisions: Index of the predicted category of each segment.
    """

    probabilities: Float[Tensor, "segments categories"]
    decisions: Int[Tensor, " segments"]


class AVEL(Task):
    """Event localization: from the tokens of both streams to a category for each segment."""

    figure = Figure("segment_accuracy", "segment accuracy", "per_class_accuracy", "class", "Classes")
    needs = EventLabels
    heads = EventHead
    default_head = "cmbs"
    verb = "predict"
    columns = ("start_seconds", "end_seconds", "label", "confidence")
    stretches = "events"
    worst = "ten surest wrong seconds"
    use = "avpea predict {run} VIDEO"
    tag = "event-localization"
    example = 'predict("video.mp4")'
    labels: EventLabels

    def targets(self, samples: Sequence[EventSample]) -> Int[Tensor, "batch segments"]:
        """The label of each segment."""
        return torch.tensor([sample.labels for sample in samples], dtype=torch.int64)

    def forward(self, encoded: Encoded, targets: Any = None) -> Any:
        """The head's output for a batch of videos."""
        return self.head(encoded.patches, encoded.visual_cls, encoded.audio_cls)

    def answers(self, output: Any, targets: Any = None) -> list[Localization]:
        """The answer for each window of the batch."""
        probabilities, decisions = self.head.probabilities(output).cpu(), self.head.decide(output).cpu()
        return [Localization(*both) for both in zip(probabilities, decisions, strict=True)]

    def evaluate(self, samples: Sequence[EventSample], answers: Sequence[Localization]) -> dict[str, Any]:
        """The metrics of `localization_metrics`."""
        decisions = torch.stack([answer.decisions for answer in answers])
        return localization_metrics(decisions, self.targets(samples), self.labels.class_names)

    def score(self, sample: EventSample, answer: Localization) -> int:
        """Number of segments whose category is correct."""
        return sum(one == other for one, other in zip(answer.decisions.tolist(), sample.labels, strict=True))

    def weight(self, sample: EventSample) -> int:
        """Number of segments."""
        return sample.segments

    def references(self, train: Sequence[EventSample], samples: Sequence[EventSample]) -> dict[str, float]:
        """Accuracy of always predicting background."""
        return {"always background": self.labels.background_share(samples)}

    def examples(self, count: int, segments: int) -> list[EventSample]:
        """Samples with random labels."""
        labels = torch.randint(0, self.labels.background + 1, (count, segments)).tolist()
        return [
            EventSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", labels=tuple(row))
            for i, row in enumerate(labels)
        ]

    def row(self, sample: EventSample, answer: Localization) -> dict[str, Any]:
        """Target, prediction and confidence, second by second."""
        names, decisions = [*self.labels.class_names, "background"], answer.decisions.tolist()
        return {
            "key": sample.key,
            "video": sample.video_id,
            "start_seconds": sample.start_seconds,
            "target": [names[i] for i in sample.labels],
            "prediction": [names[i] for i in decisions],
            "confidence": [round(float(row[i]), 4) for row, i in zip(answer.probabilities, decisions, strict=True)],
        }

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterator[str | Table]:
        """Accuracy and number of segments of each class; with details, the confusion matrix."""
        each, matrix = metrics["per_class_accuracy"], metrics["confusion_matrix"]
        yield Table(
            ["class", "segment accuracy", "segments"],
            [
                (name, "-" if share is None else f"{100 * share:.1f} %", str(sum(row)))
                for (name, share), row in zip(each.items(), matrix, strict=True)
            ],
        )
        if details:
            rows = [
                (name, *("·" if count == 0 else str(count) for count in row))
                for name, row in zip(each, matrix, strict=True)
            ]
            yield Table(["", *each], rows, "Confusion matrix: rows are annotated, columns predicted", wide=True)

    @classmethod
    def confusion(cls, metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Confusion:
        """Of seconds, background last."""
        return Confusion("class", tuple(metrics["per_class_accuracy"]), tuple(map(tuple, metrics["confusion_matrix"])))

    @classmethod
    def mistakes(cls, rows: Sequence[Mapping[str, Any]], count: int) -> list[Mistake]:
        """Wrong seconds; at most one of each run of seconds with the same mistake."""
        found = []
        for row in rows:
            answers = list(zip(row["target"], row["prediction"], row["confidence"], strict=True))
            for (expected, answered), run in groupby(range(len(answers)), key=lambda second: answers[second][:2]):
                if expected != answered:
                    second = max(run, key=lambda one: answers[one][2])
                    found.append(Mistake(row["key"], second, expected, answered, answers[second][2]))
        return sorted(found, key=lambda one: -(one.confidence or 0.0))[:count]

    def predict(self, viewing: Viewing) -> Prediction:
        """The events in a video of any length.

        Videos longer than those of training (10 s) are processed in windows of that length. The last window ends with
        the video and may overlap the one before, whose answers are kept. A shorter video is one window.
        """
        clip = viewing.whole()
        probabilities, decisions = [], []
        for window in viewing.windows(clip):
            found = self.answers(viewing.run(window))[0]
            probabilities.append(found.probabilities[window.first_new - window.start :])
            decisions.append(found.decisions[window.first_new - window.start :])
        return Prediction.of(clip, self.labels.class_names, torch.cat(decisions), torch.cat(probabilities).float())


def localization_metrics(
    answers: Int[Tensor, "videos segments"], labels: Int[Tensor, "videos segments"], class_names: Sequence[str]
) -> dict[str, Any]:
    """Accuracies in [0, 1], as plain values; None if there is nothing to score.

    `segment_accuracy` is the paper's metric. `foreground_accuracy` scores only whether there is an event,
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


def _known(share: float) -> float | None:
    return None if math.isnan(share) else share


EXTENSION = AVEL
