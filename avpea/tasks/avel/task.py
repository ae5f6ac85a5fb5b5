"""Audio-visual event localization (AVEL): which event is both seen and heard, second by second.

AV-PEA paper, Section 4.2. A segment is one second; the category after the last class is background.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avpea.labels import EventLabels, EventSample
from avpea.metrics import accuracy
from avpea.metrics.calibration import temper
from avpea.metrics.novelty import novelty
from avpea.tables import Table
from avpea.tasks import Chances, Confusion, Encoded, Figure, Mistake, Task, Viewing
from avpea.tasks.avel.answer import Prediction, Rule
from avpea.tasks.avel.heads import EventHead

__all__ = ["AVEL", "EXTENSION", "Localization", "localization_metrics"]

KNOWN_SHARE = 0.95  # of the right events of the selection split
SMALLEST_LIMIT = 1e-6


@dataclass(frozen=True)
class Localization:
    """The answer for one window.

    Attributes:
        probabilities: Probability of each category in each segment; the last category is background.
        decisions: Index of the predicted category of each segment.
        tokens: CLS tokens of the streams that the head reads in each segment, each of length 1, side by side, by which
            what is unlike training is known.
    """

    probabilities: Float[Tensor, "segments categories"]
    decisions: Int[Tensor, " segments"]
    tokens: Float[Tensor, "segments width"] | None = None


class AVEL(Task):
    """Event localization: from the tokens of both streams to a category for each segment."""

    figure = Figure("segment_accuracy", "segment accuracy", "per_class_accuracy", "class", "Classes")
    needs = EventLabels
    heads = EventHead
    default_head = "cmbs"
    augments = ("flip", "time_masks", "mel_masks", "mixup", "shift")
    verb = "predict"
    serves = "localize"
    columns = ("start_seconds", "end_seconds", "label", "confidence", "doubtful")
    stretches = "events"
    worst = "ten surest wrong seconds"
    use = "avpea predict {run} VIDEO"
    tag = "event-localization"
    example = 'predict("video.mp4")'
    unexported = ""
    labels: EventLabels

    def targets(self, samples: Sequence[EventSample]) -> Int[Tensor, "batch segments"]:
        """The label of each segment."""
        return torch.tensor([sample.labels for sample in samples], dtype=torch.int64)

    def prepare(self, train: Sequence[EventSample]) -> None:
        """Tell the head how many seconds of each category the training set has."""
        labels = self.targets(train).flatten()
        self.head.prepare(torch.bincount(labels, minlength=self.labels.background + 1))

    def forward(self, encoded: Encoded, targets: Any = None) -> Any:
        """The head's output for a batch of videos."""
        return self.head.read(encoded)

    def answers(self, output: Any, targets: Any = None) -> list[Localization]:
        """The answer for each window of the batch, at the temperature that was fitted after training."""
        probabilities, decisions = self.head.probabilities(output).cpu(), self.head.decide(output).cpu()
        if self.calibration is not None:
            probabilities = temper(probabilities, self.calibration.temperature)
        return [Localization(*both) for both in zip(probabilities, decisions, strict=True)]

    def respond(self, encoded: Encoded, targets: Any = None, output: Any = None) -> list[Localization]:
        """The answer for each window of the batch, with the CLS tokens of the streams that the head reads."""
        heard = (encoded.audio_cls,) if self.head.reads == "both" else ()
        tokens = torch.cat([F.normalize(one, dim=-1) for one in (encoded.visual_cls, *heard)], dim=-1)
        return [
            dataclasses.replace(answer, tokens=own)
            for answer, own in zip(super().respond(encoded, targets, output), tokens.float().cpu(), strict=True)
        ]

    def chances(self, samples: Sequence[EventSample], answers: Sequence[Localization]) -> Chances:
        """The probabilities of all segments that are no padding."""
        real = _real(samples).flatten()
        return Chances(
            torch.cat([answer.probabilities for answer in answers]).float()[real],
            torch.cat([answer.decisions for answer in answers])[real],
            self.targets(samples).flatten()[real],
        )

    def features(
        self, samples: Sequence[EventSample], answers: Sequence[Localization]
    ) -> Float[Tensor, "rows width"] | None:
        """The CLS tokens of all segments that are no padding."""
        tokens = _tokens(answers)
        return None if tokens is None else tokens[_real(samples).flatten()]

    def choose(self, samples: Sequence[EventSample], answers: Sequence[Localization]) -> dict[str, float]:
        """The threshold and the shortest event (1 or 2 s) with the highest F1 of events; the lowest of equal ones.

        And `novelty_limit`: how far from training an event may be, so that `KNOWN_SHARE` of the right ones are known.
        """
        labels, fitted, real = self.targets(samples), self.calibration, _real(samples)
        assert fitted is not None
        background = torch.full_like(labels, self.labels.background)
        chances = [temper(answer.probabilities, fitted.temperature).float() for answer in answers]

        def applied(rule: Rule) -> Int[Tensor, "videos segments"]:
            pairs = zip(answers, chances, strict=True)
            decisions = torch.stack([rule.apply(answer.decisions, own) for answer, own in pairs])
            return torch.where(real, decisions, background)

        rules = [Rule(threshold / 20, float(seconds)) for seconds in (1, 2) for threshold in range(20)]
        found = {rule: applied(rule) for rule in rules}
        classes = self.labels.background
        best = max(
            rules, key=lambda one: (accuracy.event_f1(found[one], labels, classes), -one.min_seconds, -one.threshold)
        )
        chosen = {"threshold": best.threshold, "min_seconds": best.min_seconds}
        tokens = _tokens(answers)
        if fitted.means is None or tokens is None:
            return chosen
        distances = novelty(tokens, found[best].flatten(), fitted.means).reshape(labels.shape)
        right = [
            distances[video, segments].mean()
            for video, decisions in enumerate(found[best])
            for category, segments in accuracy.stretches(decisions)
            if category != classes and (labels[video, segments] == category).float().mean() >= 0.5
        ]
        judged = torch.stack(right) if right else distances[real]
        return {**chosen, "novelty_limit": max(float(judged.double().quantile(KNOWN_SHARE)), SMALLEST_LIMIT)}

    def evaluate(self, samples: Sequence[EventSample], answers: Sequence[Localization]) -> dict[str, Any]:
        """The metrics of `localization_metrics`, without padding."""
        decisions = torch.stack([answer.decisions for answer in answers])
        return localization_metrics(decisions, self.targets(samples), self.labels.class_names, _real(samples))

    def score(self, sample: EventSample, answer: Localization) -> int:
        """Number of segments whose category is correct, without padding."""
        decisions = answer.decisions[: len(sample.real)].tolist()
        return sum(one == other for one, other in zip(decisions, sample.real, strict=True))

    def weight(self, sample: EventSample) -> int:
        """Number of segments, without padding."""
        return len(sample.real)

    def references(self, train: Sequence[EventSample], samples: Sequence[EventSample]) -> dict[str, float]:
        """Accuracy of always predicting background, and of always predicting the most frequent class of training."""
        found = {"always background": self.labels.background_share(samples)}
        seconds = self.labels.count(train, len(train)).event_seconds
        if any(seconds.values()):
            name = max(seconds, key=lambda one: seconds[one])
            own = self.labels.class_names.index(name)
            labels = [label for sample in samples for label in sample.real]
            found[f"always '{name}', the most frequent class in training"] = labels.count(own) / len(labels)
        return found

    def examples(self, count: int, segments: int) -> list[EventSample]:
        """Samples with random labels."""
        labels = torch.randint(0, self.labels.background + 1, (count, segments)).tolist()
        return [
            EventSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", labels=tuple(row))
            for i, row in enumerate(labels)
        ]

    def row(self, sample: EventSample, answer: Localization) -> dict[str, Any]:
        """Target, prediction and confidence, second by second, without padding."""
        names, count = [*self.labels.class_names, "background"], len(sample.real)
        decisions = answer.decisions[:count].tolist()
        return {
            "key": sample.key,
            "video": sample.video_id,
            "start_seconds": sample.start_seconds,
            "target": [names[i] for i in sample.real],
            "prediction": [names[i] for i in decisions],
            "confidence": [
                round(float(row[i]), 4) for row, i in zip(answer.probabilities[:count], decisions, strict=True)
            ],
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

    def predict(
        self, viewing: Viewing, *, threshold: float | None = None, min_seconds: float | None = None
    ) -> Prediction:
        """The events in a video of any length.

        Videos longer than those of training (10 s) are processed in windows of that length. The last window ends with
        the video and may overlap the one before, whose answers are kept. A shorter video is one window.

        Args:
            viewing: The video and the model.
            threshold: Lowest confidence of a second of an event; None means the one chosen on the selection split.
            min_seconds: Shortest event; None means the one chosen on the selection split.

        Raises:
            AvpeaError: The threshold is not in [0, 1], or the shortest event below 0 s.
        """
        rule = Rule.of(self.calibration, threshold, min_seconds)  # before the video, which takes longer
        clip, found = viewing.whole(), []
        for window in viewing.windows(clip):
            answer, new = viewing.respond(window), window.first_new - window.start
            assert answer.tokens is not None
            found.append(Localization(answer.probabilities[new:], answer.decisions[new:], answer.tokens[new:]))
        decisions = torch.cat([one.decisions for one in found])
        probabilities = torch.cat([one.probabilities for one in found]).float()
        names = self.labels.class_names
        return Prediction.of(clip, names, decisions, probabilities, rule, self.calibration, _tokens(found))


def _real(samples: Sequence[EventSample]) -> Bool[Tensor, "videos segments"]:
    """Which segments are no padding."""
    return torch.tensor([[s < len(sample.real) for s in range(sample.segments)] for sample in samples])


def _tokens(answers: Sequence[Localization]) -> Float[Tensor, "rows width"] | None:
    """The CLS tokens of all segments."""
    tokens = [answer.tokens for answer in answers if answer.tokens is not None]
    return torch.cat(tokens) if tokens else None


def localization_metrics(
    answers: Int[Tensor, "videos segments"],
    labels: Int[Tensor, "videos segments"],
    class_names: Sequence[str],
    real: Bool[Tensor, "videos segments"] | None = None,
) -> dict[str, Any]:
    """Accuracies in [0, 1], as plain values; None if there is nothing to score.

    `segment_accuracy` is the paper's metric. `foreground_accuracy` scores only whether there is an event,
    `category_accuracy` only which event a video has. Segments that are not `real` are padding, and are left out.
    """
    names, classes = [*class_names, "background"], len(class_names)
    if real is not None:
        main = accuracy.category_accuracy(torch.where(real, answers, classes), labels, classes)
        answers, labels = answers[real][None], labels[real][None]
    else:
        main = accuracy.category_accuracy(answers, labels, classes)
    confusion = accuracy.confusion_matrix(answers, labels, classes + 1)
    each = accuracy.per_class_accuracy(confusion).tolist()
    return {
        "segment_accuracy": accuracy.segment_accuracy(answers, labels),
        "foreground_accuracy": accuracy.foreground_accuracy(answers, labels, classes),
        "category_accuracy": _known(main),
        "per_class_accuracy": {name: _known(share) for name, share in zip(names, each, strict=True)},
        "confusion_matrix": confusion.tolist(),
    }


def _known(share: float) -> float | None:
    return None if math.isnan(share) else share


EXTENSION = AVEL
