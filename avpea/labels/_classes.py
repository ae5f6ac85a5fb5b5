"""Labels that are classes, whichever way they are attached to a video."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from avpea.labels._base import SPLITS, Labels, shortened

__all__ = ["ClassLabels"]

FEW_VIDEOS = 5  # of a class in training: with fewer, test accuracy is low in our measurements (docs/own-videos.md)
SHOWN_CLASSES = 40


@dataclass(frozen=True)
class ClassLabels(Labels):
    """Classes of events.

    Attributes:
        class_names: Names of the event classes in index order.
    """

    outputs: ClassVar[str] = "classes"

    class_names: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the event classes."""
        return self.class_names

    @staticmethod
    @abstractmethod
    def used(sample: Any) -> set[int]:
        """Indices that a sample is labelled with; those after the last class are no class."""

    def unknown(self, samples: Sequence[Any], trained: Self) -> tuple[str, ...]:
        """Classes of the samples that are none of the trained ones."""
        used = {label for sample in samples for label in self.used(sample)}
        names = enumerate(self.class_names)
        return tuple(name for label, name in names if label in used and name not in trained.class_names)

    def places_in(self, trained: Self) -> list[int]:
        """The index that each class has in training; -1 for one that is not there."""
        places = {name: place for place, name in enumerate(trained.class_names)}
        return [places.get(name, -1) for name in self.class_names]

    def overview(self, splits: Mapping[str, Sequence[Any]]) -> list[str]:
        """Videos of each split and class, and the classes that have few."""
        lines = super().overview(splits)
        counts = {split: self._videos(samples) for split, samples in splits.items()}
        each = [f"{name} {'/'.join(str(counts[s][i]) for s in SPLITS)}" for i, name in enumerate(self.class_names)]
        lines.append(f"Videos of each class (train/val/test): {shortened(each, SHOWN_CLASSES)}.")
        few = [n for i, n in enumerate(self.class_names) if counts["train"][i] < FEW_VIDEOS]
        if few:
            lines.append(
                f"Few clips: fewer than {FEW_VIDEOS} training videos of {shortened(few, 10)}; expect mistakes about "
                "them, and add more if you can."
            )
        for split in ("val", "test"):
            without = [name for i, name in enumerate(self.class_names) if not counts[split][i]]
            if without and splits[split]:
                lines.append(f"No {split} video of {shortened(without, 10)}, so the {split} figure does not show them.")
        return lines

    def _videos(self, samples: Sequence[Any]) -> Counter[int]:
        """Number of videos with each label."""
        return Counter(label for _, label in {(s.video_id, label) for s in samples for label in self.used(s)})
