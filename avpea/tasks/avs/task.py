"""Audio-visual segmentation (AVS): which pixels belong to what sounds, second by second (Zhou et al., ECCV 2022)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avpea import registry
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.labels import SILENT, Labels, MaskLabels, MaskSample
from avpea.metrics.segmentation import ClassOverlap, Overlap, class_figures, class_overlap, frame_iou, overlap
from avpea.options import require
from avpea.tables import Table
from avpea.tasks import Dims, Encoded, Figure, Mistake, Task, TaskOptions, Viewing
from avpea.tasks.avs._figures import class_summary, object_summary
from avpea.tasks.avs._losses import cross_entropy, matching_cosine, matching_kl
from avpea.tasks.avs.answer import Segmentation
from avpea.tasks.avs.heads import MaskHead, MaskOutput

__all__ = ["AVS", "EXTENSION", "AVSOptions", "MaskTargets", "Segmented"]


@dataclass(frozen=True)
class AVSOptions(TaskOptions):
    """Options of segmentation.

    Attributes:
        matching: Weight of the term that draws the sound and what is under the mask together (S4: 0; MS3, AVSS: 0.5).
        matching_form: `kl`: the divergence of their distributions, as in MS3; `cosine`: their angle, as in S4.
        test_batch: Number of videos in a batch of the published F, which depends on it (AVSBench: 4; AVMoE, CoLA: 1).
            It is not the number of videos that are computed at once.
    """

    matching: float = 0.0
    matching_form: Literal["kl", "cosine"] = "kl"
    test_batch: int = 4

    def __post_init__(self) -> None:
        require(self.matching >= 0, f"task.matching is {self.matching}; expected 0 or more.")
        require(1 <= self.test_batch <= 100_000, f"task.test_batch is {self.test_batch}; expected 1 to 100000.")


@dataclass(frozen=True)
class MaskTargets:
    """The masks of a batch, with images in the order of videos, then segments.

    Attributes:
        classes: Class of each pixel; 0 is background.
        silent: Pixels of what is seen and does not sound, where that is annotated.
        labelled: Which images are annotated.
        segments: Number of segments of each video.
    """

    classes: Int[Tensor, "images side side"]
    silent: Bool[Tensor, "images side side"]
    labelled: Bool[Tensor, " images"]
    segments: int

    def to(self, device: torch.device | str) -> "MaskTargets":
        """A copy on a device."""
        return MaskTargets(self.classes.to(device), self.silent.to(device), self.labelled.to(device), self.segments)


@dataclass(frozen=True)
class Segmented:
    """How the masks of a window overlap with the annotated ones, for its annotated seconds.

    Attributes:
        overlap: In pixels of what sounds.
        classes: In pixels of each class; None without classes.
        right: For each second whether what sounds has a greater mean probability than what is seen and silent; 0.5 if
            neither; -1 where one of them is not there.
        left: For each of these seconds whether what sounds is left of what is silent; 0.5 if neither; else -1.
    """

    overlap: Overlap
    classes: ClassOverlap | None
    right: Float[Tensor, " frames"]
    left: Float[Tensor, " frames"]


class AVS(Task):
    """Segmentation: from the tokens of both streams to a mask for each second."""

    Options = AVSOptions
    figure = Figure("miou", "mIoU", "miou_by", "part", "Parts", beside={"f_score": "F", "right_object": "right object"})
    needs = MaskLabels
    heads = MaskHead
    default_head = "mask_readout"
    verb = "segment"
    columns = ("start_seconds", "end_seconds", "label", "share", "left", "top", "right", "bottom", "confidence")
    worst = "ten worst masks"
    use = "avpea segment {run} VIDEO --out masks"
    tag = "audio-visual-segmentation"
    example = 'segment("video.mp4")'
    unexported = ""
    labels: MaskLabels

    def __init__(self, head: Any, labels: Any, options: AVSOptions | None = None) -> None:
        super().__init__(head, labels)
        self.options = options or AVSOptions()

    @classmethod
    def build(cls, experiment: Experiment, dims: Dims, labels: Labels) -> Self:
        """Build the task of an experiment, with a new head."""
        head: type[MaskHead] = registry.load("head", experiment.head.name)
        assert isinstance(labels, MaskLabels)
        return cls(head.build(experiment.head, dims, labels), labels, experiment.task)  # type: ignore[arg-type]

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Refuse the matching term with a head that gives nothing to match.

        Raises:
            ExperimentError: The head has no maps.
        """
        options: Any = experiment.task
        if options.matching and not registry.load("head", experiment.head.name).gives_maps:
            raise ExperimentError(
                f"task.matching is {options.matching}, but the head '{experiment.head.name}' has no maps in which "
                "picture and sound have met; set it to 0, or head.name to tpavi or tpavi_pyramid."
            )

    def targets(self, samples: Sequence[MaskSample]) -> MaskTargets:
        """The masks of each second."""
        pixels = torch.cat([sample.pixels for sample in samples])
        labelled = torch.tensor([known for sample in samples for known in sample.labelled])
        return MaskTargets((pixels % SILENT).long(), pixels >= SILENT, labelled, samples[0].segments)

    def forward(self, encoded: Encoded, targets: Any = None) -> MaskOutput:
        """The head's masks for a batch of videos."""
        made: MaskOutput = self.head(encoded)
        return made

    def loss(self, output: MaskOutput, targets: MaskTargets) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy over annotated seconds and, if it has a weight, the matching term."""
        terms = {"cross_entropy": cross_entropy(output.logits, targets.classes, targets.labelled)}
        if self.options.matching:
            match = matching_kl if self.options.matching_form == "kl" else matching_cosine
            terms["matching"] = self.options.matching * match(output.logits, output.maps, output.sounds)
        return self.total(terms), terms

    def answers(self, output: MaskOutput, targets: MaskTargets) -> list[Segmented]:
        """How the masks of each window overlap with the annotated ones."""
        some = range(0, len(output.logits), targets.segments)
        return [self._compared(output.logits[i : i + targets.segments], targets, i) for i in some]

    def _compared(self, logits: Float[Tensor, "images channels side side"], targets: MaskTargets, at: int) -> Segmented:
        known = targets.labelled[at : at + targets.segments]
        logits, own = logits[known].cpu(), slice(at, at + targets.segments)
        classes, silent = targets.classes[own][known].cpu(), targets.silent[own][known].cpu()
        chances = self.chance_of_object(logits)
        each = None
        if self.labels.channels > 1:
            each = class_overlap(logits.argmax(dim=1), classes, self.labels.channels)
        right, left = _right(chances, classes > 0, silent), _left(classes > 0, silent)
        return Segmented(overlap(chances, classes > 0), each, right, left)

    @staticmethod
    def chance_of_object(logits: Float[Tensor, "images channels side side"]) -> Float[Tensor, "images side side"]:
        """Probability of there being what sounds in each pixel."""
        return logits[:, 0].sigmoid() if logits.shape[1] == 1 else 1 - logits.softmax(dim=1)[:, 0]

    def evaluate(self, samples: Sequence[MaskSample], answers: Sequence[Segmented]) -> dict[str, Any]:
        """J and F as the public code has them, in batches of `task.test_batch` videos; and what does not depend on it.

        For masks of classes, J and F are means over all classes, background included, as in the public code.
        """
        found = object_summary(samples, answers, self.options.test_batch)
        if self.labels.channels == 1:
            return found
        every = [answer.classes for answer in answers if answer.classes is not None]
        names = ("background", *self.labels.class_names)
        objects = {
            f"object_{name}": value for name, value in found.items() if name not in ("miou_by", "annotated_seconds")
        }
        return {**objects, **class_summary(every, names, self.labels.frames)}

    def score(self, sample: MaskSample, answer: Segmented) -> float:
        """Sum of the intersections over union of its annotated seconds; of classes, the mean over those that occur."""
        return float(_ious(answer).sum())

    def row(self, sample: MaskSample, answer: Segmented) -> dict[str, Any]:
        """Intersection over union of each annotated second, and the shares of the frame that are masked."""
        seconds = [second for second, known in enumerate(sample.labelled) if known]
        found = answer.overlap
        return {
            "key": sample.key,
            "video": sample.video_id,
            "start_seconds": sample.start_seconds,
            "seconds": seconds,
            "iou": [round(value, 4) for value in _ious(answer).tolist()],
            "annotated": [round(value / found.pixels, 4) for value in found.object.tolist()],
            "predicted": [round(value / found.pixels, 4) for value in found.called_at_half.tolist()],
        }

    def examples(self, count: int, segments: int) -> list[MaskSample]:
        """Samples with random masks."""
        side = self.labels.side
        every = torch.randint(0, max(2, self.labels.channels), (count, segments, side, side), dtype=torch.uint8)
        return [
            MaskSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", masks=("",) * segments, side=side, pixels=pixels)
            for i, pixels in enumerate(every)
        ]

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterator[str | Table]:
        """J and F, with what they depend on, and their parts."""
        conventions = metrics["conventions"]
        rows = [(name, f"{100 * metrics[key]:.2f}", about) for key, (name, about) in conventions.items()]
        yield Table(["figure", "%", "how it is computed"], rows, f"Of {metrics['annotated_seconds']} annotated seconds")
        yield from super().report(metrics, details)

    @classmethod
    def mistakes(cls, rows: Sequence[Mapping[str, Any]], count: int) -> list[Mistake]:
        """The seconds of lowest intersection over union, at most one of each sample."""
        found = []
        for row in rows:
            if row["iou"]:
                place = min(range(len(row["iou"])), key=row["iou"].__getitem__)
                expected, answered = (f"{100 * row[name][place]:.1f} %" for name in ("annotated", "predicted"))
                said = f"{answered} of the frame, IoU {row['iou'][place]:.2f}"
                found.append((row["iou"][place], Mistake(row["key"], row["seconds"][place], expected, said)))
        return [one for _, one in sorted(found, key=lambda pair: pair[0])[:count]]

    def predict(self, viewing: Viewing) -> Segmentation:
        """A mask of what sounds for each second of a video of any length, in windows of as many seconds as in training.

        The last window ends with the video and may overlap the one before, whose masks are kept.
        """
        clip, masks, chances = viewing.whole(), [], []
        for window in viewing.windows(clip):
            logits = viewing.run(window).logits[window.first_new - window.start :].cpu()
            sounding = self.chance_of_object(logits)
            decided = (sounding > 0.5).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
            masks.append(decided.to(torch.uint8))
            chances.append(sounding.half())
        return Segmentation(
            clip.path, clip.duration_seconds, self.labels.class_names, torch.cat(masks), torch.cat(chances), clip
        )


def _ious(answer: Segmented) -> Float[Tensor, " frames"]:
    if answer.classes is None:
        return frame_iou(answer.overlap)
    rows = [
        ClassOverlap(*(getattr(answer.classes, name)[i : i + 1] for name in ("hits", "called", "annotated")))
        for i in range(len(answer.classes))
    ]
    seen = [(one.called + one.annotated > 0)[0] for one in rows]
    return torch.tensor([float(class_figures(one)[0][some].mean()) for one, some in zip(rows, seen, strict=True)])


def _right(
    chances: Float[Tensor, "frames side side"],
    sounding: Bool[Tensor, "frames side side"],
    silent: Bool[Tensor, "frames side side"],
) -> Float[Tensor, " frames"]:
    """1 where what sounds has the greater mean probability, 0.5 if it is that of what is silent; -1 without both.

    Probabilities and not masks are compared: where both are below 0.5, a model may still know which one it hears.
    """
    exact = chances.double()
    sound, silence = ((exact * one).flatten(1).sum(dim=1) / one.flatten(1).sum(dim=1) for one in (sounding, silent))
    more = sound - silence
    return _sign(torch.where(more.abs() < 1e-6, 0.0, more))  # means of equal numbers differ by rounding


def _left(
    sounding: Bool[Tensor, "frames side side"], silent: Bool[Tensor, "frames side side"]
) -> Float[Tensor, " frames"]:
    """1 where the middle of what sounds is left of the middle of what is silent, 0.5 if alike; -1 without both."""
    columns = torch.arange(silent.shape[-1], dtype=torch.float32)
    middles = [(one.sum(dim=1) * columns).sum(dim=1) / one.flatten(1).sum(dim=1) for one in (sounding, silent)]
    return _sign(middles[1] - middles[0])


def _sign(more: Float[Tensor, " frames"]) -> Float[Tensor, " frames"]:
    return torch.where(more.isnan(), -1.0, (more.sign() + 1) / 2)


EXTENSION = AVS
