"""The task: tokens of both streams to a yes or no for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avpea.labels import EventLabels, EventSample
from avpea.tasks import Encoded, Figure, Task, Viewing
from avpea_examples.tagging.answer import Tags
from avpea_examples.tagging.head import TagHead


class Tagging(Task):
    """Needs events, as `avel` does, and forgets when they happen."""

    figure = Figure("tag_accuracy", "tag accuracy", "accuracy_per_class", "class", "Classes")
    needs = EventLabels  # the kind of labels that a reader must have read
    heads = TagHead
    default_head = "tags"
    whole_videos = True  # seconds can be left out in training: `train.segments`
    verb = "tag"  # avpea.load(RUN).tag(VIDEO)
    columns = ("tag", "probability")  # of `--csv`; `Answer.rows` fills them
    use = "avpea tag {run} VIDEO"
    tag = "video-tagging"
    example = 'tag("video.mp4")'

    # Training: what a batch asks for, the model's output, and the loss.

    def targets(self, samples: Sequence[EventSample]) -> Tensor:
        classes = range(len(self.labels.class_names))
        return torch.tensor([[float(one in sample.labels) for one in classes] for sample in samples])

    def forward(self, encoded: Encoded, targets: Any = None) -> Tensor:
        return self.head(encoded.visual_cls, encoded.audio_cls)

    def loss(self, output: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        terms = {"cross_entropy": F.binary_cross_entropy_with_logits(output, targets)}
        return self.total(terms), terms

    # Evaluation: an answer for each sample, its score, and metrics over all of them.

    def answers(self, output: Tensor, targets: Any) -> list[Tensor]:
        return list(output.sigmoid().cpu())

    def score(self, sample: EventSample, answer: Tensor) -> float:
        return float(((answer > 0.5) == (self.targets([sample])[0] > 0.5)).sum())

    def weight(self, sample: EventSample) -> int:
        return len(self.labels.class_names)

    def evaluate(self, samples: Sequence[EventSample], answers: Sequence[Tensor]) -> dict[str, Any]:
        correct = ((torch.stack(list(answers)) > 0.5) == (self.targets(samples) > 0.5)).float()
        each = dict(zip(self.labels.class_names, correct.mean(dim=0).tolist(), strict=True))
        return {"tag_accuracy": float(correct.mean()), "accuracy_per_class": each}

    def row(self, sample: EventSample, answer: Tensor) -> dict[str, Any]:
        probabilities = dict(zip(self.labels.class_names, answer.tolist(), strict=True))
        return {"key": sample.key, "target": sorted(self._names(sample)), "probabilities": probabilities}

    def examples(self, count: int, segments: int) -> list[EventSample]:
        silent = (self.labels.background,) * segments
        return [EventSample(str(i), str(i), Path(), 0.0, segments, "train", labels=silent) for i in range(count)]

    # The answer for a person, about one video of any length.

    def predict(self, viewing: Viewing, *asked: Any, **options: Any) -> Tags:
        windows = [viewing.run(window)[0].sigmoid() for window in viewing.windows(viewing.whole())]
        shares = torch.stack(windows).amax(dim=0).tolist()
        tags = zip(self.labels.class_names, shares, strict=True)
        return Tags(viewing.path, tuple(sorted(tags, key=lambda tag: -tag[1])))

    def _names(self, sample: EventSample) -> set[str]:
        return {self.labels.class_names[one] for one in sample.labels if one != self.labels.background}
