"""Audio-visual video parsing (AVVP): which events are seen, which are heard, and which are both, second by second.

Tian et al., "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video Parsing", ECCV 2020. Any number of
events may go on at once. A segment is one second.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from avpea import registry
from avpea.errors import AvpeaError, ExperimentError
from avpea.experiment import Experiment
from avpea.labels import Labels, LaneLabels, LaneSample
from avpea.metrics.video_parsing import FIGURES, LEVELS, Masks, parsing_figures, parsing_scores, segment_counts
from avpea.options import require_choice
from avpea.tables import Table, how_many
from avpea.tasks import Dims, Encoded, Figure, Mistake, Task, TaskOptions, Viewing
from avpea.tasks.avvp.answer import THRESHOLD, LaneRule, Prediction, sure
from avpea.tasks.avvp.heads import LaneTargets, Parsed, ParsingHead

__all__ = ["AVVP", "EXTENSION", "AVVPOptions", "Parsing"]

Supervision = Literal["dense", "weak"]
STREAMS: tuple[Literal["seen", "heard"], ...] = ("seen", "heard")


@dataclass(frozen=True)
class AVVPOptions(TaskOptions):
    """Options of video parsing.

    Attributes:
        supervision: What training uses of the labels. `dense`: the labels of each second where a video has them, and
            the classes of the whole video elsewhere; `weak`: the classes of the whole video only, as in LLP's protocol.
    """

    supervision: Supervision = "dense"


@dataclass(frozen=True)
class Parsing:
    """The answer for one window.

    Attributes:
        seen: Probability that a class is seen in a segment.
        heard: Probability that a class is heard in a segment.
        video: Probability that a class occurs in the window, seen or heard.
    """

    seen: Float[Tensor, "segments classes"]
    heard: Float[Tensor, "segments classes"]
    video: Float[Tensor, " classes"]

    def masks(self, threshold: float = THRESHOLD) -> tuple[Bool[Tensor, "segments classes"], ...]:
        """The published rule: what is seen and what is heard, of the classes that occur in the window."""
        return sure(self.seen, self.heard, self.video[None], threshold)


class AVVP(Task):
    """Video parsing: from the tokens of both streams to the classes seen and those heard in each segment."""

    Options = AVVPOptions
    figure = Figure(
        "segment_type",
        "segment-level Type@AV",
        "by_lane",
        "lane",
        "Lanes",
        beside={
            "segment_v": "seen (V)",
            "segment_a": "heard (A)",
            "segment_event": "Event@AV",
            "event_type": "Type@AV of events",
            "event_event": "Event@AV of events",
        },
    )
    needs = LaneLabels
    heads = ParsingHead
    default_head = "han"
    augments = ("flip", "time_masks", "mel_masks", "mixup", "shift")
    verb = "predict"
    serves = "parse"
    columns = ("start_seconds", "end_seconds", "label", "lane", "confidence")
    stretches = "events"
    worst = "ten surest wrong seconds"
    use = "avpea predict {run} VIDEO"
    tag = "video-parsing"
    example = 'predict("video.mp4")'
    unexported = ""
    labels: LaneLabels

    def __init__(self, head: Any, labels: Any, supervision: Supervision = "dense") -> None:
        require_choice("supervision", supervision, Supervision)
        super().__init__(head, labels)
        self.supervision = supervision

    @classmethod
    def build(cls, experiment: Experiment, dims: Dims, labels: Labels) -> "AVVP":
        """Build the task of an experiment, with a new head."""
        task = super().build(experiment, dims, labels)
        assert isinstance(experiment.task, AVVPOptions)
        task.supervision = experiment.task.supervision
        return task

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Refuse labels of seconds with a head that has nothing for them to train.

        Raises:
            ExperimentError: It labels whole videos.
        """
        options, name = experiment.task, experiment.head.name
        assert isinstance(options, AVVPOptions)
        if options.supervision == "dense" and not registry.load("head", name).tells_seconds:
            raise ExperimentError(
                f"task.supervision is 'dense', which trains on the labels of seconds, but the head '{name}' labels "
                "whole videos; set task.supervision to weak, or head.name to han."
            )

    def targets(self, samples: Sequence[LaneSample]) -> LaneTargets:
        """The labels of a batch, without those of seconds if the supervision is `weak`."""
        count = len(self.labels.class_names)
        classes = torch.zeros(len(samples), count)
        for row, sample in zip(classes, samples, strict=True):
            row[list(sample.classes)] = 1
        masks = _truth(samples, count)
        timed = [self.supervision == "dense" and sample.seen is not None for sample in samples]
        return LaneTargets(classes, masks.seen.float(), masks.heard.float(), torch.tensor(timed), _real(samples))

    def forward(self, encoded: Encoded, targets: Any = None) -> Any:
        """The head's output for a batch of videos."""
        return self.head.read(encoded)

    def answers(self, output: Any, targets: Any = None) -> list[Parsing]:
        """The answer for each window of the batch."""
        parsed: Parsed = self.head.parsed(output)
        every = (parsed.seen.float().cpu(), parsed.heard.float().cpu(), parsed.video.float().cpu())
        return [Parsing(*one) for one in zip(*every, strict=True)]

    def evaluate(self, samples: Sequence[LaneSample], answers: Sequence[Parsing]) -> dict[str, Any]:
        """The ten figures, Type@AV's parts, and the F-score of each class over all seconds of a stream."""
        found, truth = self._masks(samples, answers)
        figures = parsing_figures(found, truth)
        lanes = {"seen (V)": "segment_v", "heard (A)": "segment_a", "both (AV)": "segment_av"}
        return {
            **figures,
            "by_lane": {name: figures[key] for name, key in lanes.items()},
            "per_class": self._per_class(found, truth),
            "whole_videos": {name: _whole(masks, samples) for name, masks in (("found", found), ("true", truth))},
            "threshold": THRESHOLD,
        }

    def _masks(self, samples: Sequence[LaneSample], answers: Sequence[Parsing]) -> tuple[Masks, Masks]:
        """What was found, and what is true, without padding."""
        unknown = [sample for sample in samples if sample.seen is None]
        if unknown:
            raise AvpeaError(
                f"Labelled as a whole (weak labels): {len(unknown)} of {how_many(len(samples), 'sample')}, such as "
                f"{unknown[0].key}; the figures of video parsing need labels of seconds: evaluate on another split."
            )
        seen, heard = (torch.stack(some) for some in zip(*(answer.masks() for answer in answers), strict=True))
        return Masks(seen, heard).within(_real(samples)), _truth(samples, len(self.labels.class_names))

    def _per_class(self, found: Masks, truth: Masks) -> dict[str, dict[str, float | None]]:
        lanes = {name: segment_counts(getattr(found, name), getattr(truth, name)) for name in (*STREAMS, "both")}
        scores: dict[str, dict[str, float | None]] = {}
        for index, name in enumerate(self.labels.class_names):
            scores[name] = {}
            for lane, counts in lanes.items():
                right, wrong, missed = (
                    int(each[:, index].sum()) for each in (counts.right, counts.wrong, counts.missed)
                )
                total = 2 * right + wrong + missed
                scores[name][lane] = 2 * right / total if total else None
        return scores

    def score(self, sample: LaneSample, answer: Parsing) -> float:
        """Mean of A, V and AV of this video by segments, of which Type@AV is the mean."""
        scores = parsing_scores(*self._masks([sample], [answer]))["segment"]
        return sum(float(scores[name]) for name in ("a", "v", "av")) / 3

    def references(self, train: Sequence[LaneSample], samples: Sequence[LaneSample]) -> dict[str, float]:
        """Type@AV of finding nothing, and of finding the most frequent class of training all the time."""
        count = len(self.labels.class_names)
        segments = samples[0].segments
        found = {"always nothing": self._type(samples, _constant(segments, torch.zeros(count)))}
        rows = [label for sample in train for label in sample.classes]
        if rows:
            best = max(range(count), key=rows.count)
            name = f"always '{self.labels.class_names[best]}' seen and heard, the most frequent class in training"
            found[name] = self._type(samples, _constant(segments, F.one_hot(torch.tensor(best), count).float()))
        return found

    def _type(self, samples: Sequence[LaneSample], answer: Parsing) -> float:
        return parsing_figures(*self._masks(samples, [answer] * len(samples)))["segment_type"]

    def examples(self, count: int, segments: int) -> list[LaneSample]:
        """Samples with random labels."""
        classes = len(self.labels.class_names)
        drawn = torch.randint(0, classes, (count, segments)).tolist()
        return [
            LaneSample(
                f"{i}", f"{i}", Path(), 0.0, segments, "train",
                classes=tuple(sorted(set(row))),
                seen=tuple((label,) for label in row),
                heard=tuple((label,) if label % 2 else () for label in row),
            )
            for i, row in enumerate(drawn)
        ]  # fmt: skip

    def row(self, sample: LaneSample, answer: Parsing) -> dict[str, Any]:
        """Classes annotated and found in each second of both streams, and their probabilities, without padding."""
        names, count = self.labels.class_names, sample.real
        truth = {"seen": sample.seen, "heard": sample.heard}
        found = dict(zip(STREAMS, answer.masks(), strict=True))
        target, prediction, chances = {}, {}, {}
        for stream in STREAMS:
            true = truth[stream]
            target[stream] = None if true is None else [[names[i] for i in second] for second in true[:count]]
            prediction[stream] = [[names[i] for i in row.nonzero().flatten().tolist()] for row in found[stream][:count]]
            every = {name for lists in (target[stream] or [], prediction[stream]) for some in lists for name in some}
            own = getattr(answer, stream)[:count]
            chances[stream] = {
                name: [round(value, 4) for value in own[:, index].tolist()]
                for index, name in enumerate(names)
                if name in every
            }
        return {
            "key": sample.key,
            "video": sample.video_id,
            "start_seconds": sample.start_seconds,
            "target": target,
            "prediction": prediction,
            "probability": chances,
        }

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterator[str | Table]:
        """The ten figures; with details, those of each class."""
        rows = [(f"by {level}s", *(f"{100 * metrics[f'{level}_{name}']:.2f}" for name in FIGURES)) for level in LEVELS]
        yield Table(["percent", *FIGURES.values()], rows)
        if None not in (whole := metrics.get("whole_videos", {"found": None})).values():
            yield (
                f"Of what is found in a stream of a video, {100 * whole['found']:.1f} % goes on from its first second "
                f"to its last; of what is there, {100 * whole['true']:.1f} %."
            )
        if details:
            yield Table(
                ["class", "seen", "heard", "both"],
                [
                    (name, *("-" if value is None else f"{100 * value:.1f}" for value in scores.values()))
                    for name, scores in metrics["per_class"].items()
                ],
                "F-score of each class over all seconds, in percent",
            )

    @classmethod
    def mistakes(cls, rows: Sequence[Mapping[str, Any]], count: int) -> list[Mistake]:
        """Classes missing or too many in a second; at most one of each run of seconds with the same mistake."""
        found = []
        for row in rows:
            for stream, chances in row["probability"].items():
                target, prediction = row["target"][stream], row["prediction"][stream]
                for name, values in chances.items() if target is not None else ():
                    pairs = [(name in a, name in b) for a, b in zip(target, prediction, strict=True)]
                    for (true, told), run in groupby(range(len(pairs)), key=pairs.__getitem__):
                        if true == told:
                            continue
                        sure = {second: values[second] if told else 1 - values[second] for second in run}
                        second = max(sure, key=lambda one: sure[one])
                        said = (f"{name} {stream}", f"no {name} {stream}")
                        expected, answered = said if true else said[::-1]
                        found.append(Mistake(row["key"], second, expected, answered, sure[second]))
        return sorted(found, key=lambda one: -(one.confidence or 0.0))[:count]

    def predict(
        self, viewing: Viewing, *, threshold: float | None = None, min_seconds: float | None = None
    ) -> Prediction:
        """The events in a video of any length, in the lanes seen, heard and both.

        Videos longer than those of training are processed in windows of that length. The last window ends with the
        video and may overlap the one before, whose answers are kept. A class counts in a second of a stream if its
        probability there and that in the whole window reach the threshold.

        Args:
            viewing: The video and the model.
            threshold: Lowest probability that counts; None means 0.5, as published.
            min_seconds: Shortest event of a lane; None means 1.

        Raises:
            AvpeaError: The threshold is not in [0, 1], or the shortest event below 0 s.
        """
        rule = LaneRule.of(self.calibration, threshold, min_seconds)  # before the video, which takes longer
        clip, found = viewing.whole(), []
        for window in viewing.windows(clip):
            answer, new = viewing.respond(window), window.first_new - window.start
            found.append((answer.seen[new:], answer.heard[new:], answer.video.expand_as(answer.seen)[new:]))
        seen, heard, video = (torch.cat(some) for some in zip(*found, strict=True))
        return Prediction.of(clip, self.labels.class_names, seen, heard, video, rule)


def _constant(segments: int, classes: Float[Tensor, " classes"]) -> Parsing:
    """The same answer in every second of both streams."""
    every = classes.expand(segments, -1)
    return Parsing(every, every, classes)


def _truth(samples: Sequence[LaneSample], count: int) -> Masks:
    """What is seen and heard; nothing where it is not known."""
    masks = Masks(*(torch.zeros(len(samples), samples[0].segments, count, dtype=torch.bool) for _ in STREAMS))
    for index, sample in enumerate(samples):
        for mask, lane in ((masks.seen, sample.seen), (masks.heard, sample.heard)):
            for second, labels in enumerate(lane or ()):
                mask[index, second, list(labels)] = True
    return masks


def _whole(masks: Masks, samples: Sequence[LaneSample]) -> float | None:
    """Of the classes in a stream of a video, the share of those in all of its seconds; None if there are none."""
    there = whole = 0
    for mask in (masks.seen, masks.heard):
        for rows, sample in zip(mask, samples, strict=True):
            there += int(rows.any(dim=0).sum())
            whole += int(rows[: sample.real].all(dim=0).sum()) if sample.real else 0
    return whole / there if there else None


def _real(samples: Sequence[LaneSample]) -> Bool[Tensor, "videos segments"]:
    """Which segments are no padding."""
    return torch.tensor([[s < sample.real for s in range(sample.segments)] for sample in samples])


EXTENSION = AVVP
