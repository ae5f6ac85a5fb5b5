"""Masks: which pixels of each second's frame belong to what sounds."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from avpea.files import digest_of_file
from avpea.labels._base import Counts, Labels, Sample
from avpea.tables import how_many

__all__ = ["AVSS_CLASSES", "SILENT", "SOUNDING", "MaskCounts", "MaskLabels", "MaskSample"]

SOUNDING = "sounding"  # the only class where masks have none
SILENT = 128  # added to the pixels of what is seen and does not sound
OFFICIAL_SIDE = 224

# AVSBench-semantic's classes after background, in the order of their colours.
_AVSS = """
    accordion airplane axe baby bassoon bell bird boat boy bus car cat cello clarinet clipper clock dog donkey drum
    duck elephant emergency-car erhu flute frying-food girl goose guitar gun guzheng hair-dryer handpan harmonica harp
    helicopter hen horse keyboard leopard lion man marimba missile-rocket motorcycle mower parrot piano pig pipa saw
    saxophone sheep sitar sorna squirrel tabla tank tiger tractor train trombone truck trumpet tuba ukulele utv
    vacuum-cleaner violin wolf woman
"""
AVSS_CLASSES = tuple(_AVSS.split())


@dataclass(frozen=True)
class MaskSample(Sample):
    """A window with a mask for some of its seconds.

    Attributes:
        masks: File of each segment's mask; empty for one in which nothing sounds, None for one without annotation.
        others: File of what is seen in each segment and does not sound, for the metric `right_object`; may be empty.
        pictures: Files of the frames, one per segment, if they are no part of a video; `video` is then the sound's.
        side: Height and width to which masks are resized, by their nearest pixels.
        colours: Whether colours tell classes; else every pixel that is not black sounds.
        category: What sounds, where the data set says it.
        pixels: The masks themselves, once they are read: class of each pixel, plus `SILENT`. They are no part of what
            two samples are compared by.
    """

    masks: tuple[str | None, ...] = field(kw_only=True)
    others: tuple[str | None, ...] = field(default=(), kw_only=True)
    pictures: tuple[str, ...] = field(default=(), kw_only=True)
    side: int = field(default=OFFICIAL_SIDE, kw_only=True)
    colours: bool = field(default=False, kw_only=True)
    category: str = field(default="", kw_only=True)
    pixels: Any = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.masks) != self.segments:
            raise ValueError(f"{self.key} has {len(self.masks)} masks for {self.segments} segments")

    @property
    def labelled(self) -> tuple[bool, ...]:
        """Which segments are annotated."""
        return tuple(mask is not None for mask in self.masks)

    @property
    def weight(self) -> int:
        """Number of annotated segments."""
        return sum(self.labelled)

    def picture_files(self) -> tuple[Path, ...]:
        """Files of the frames, if they are no part of a video."""
        return tuple(map(Path, self.pictures))

    def annotation_files(self) -> tuple[Path, ...]:
        """Files of the masks."""
        return tuple(Path(path) for path in (*self.masks, *self.others) if path)

    def loaded(self, tensors: Mapping[str, Any]) -> "MaskSample":
        """The sample with its masks."""
        return replace(self, pixels=tensors["masks"])


@dataclass(frozen=True)
class MaskCounts(Counts):
    """Contents of a split with masks.

    Attributes:
        masks: Number of annotated seconds.
        silent: Number of those of which it is known without their pictures that nothing sounds.
    """

    masks: int
    silent: int

    def line(self) -> str:
        """The counts in a sentence."""
        silent = f", in {self.silent} of which nothing sounds" if self.silent else ""
        samples, masks = how_many(self.samples, "sample"), how_many(self.masks, "annotated second")
        return f"{samples} ({how_many(self.available, 'that opens', 'that open')}), {masks}{silent}."


@dataclass(frozen=True)
class MaskLabels(Labels):
    """Masks of one class (whatever sounds), or of several, each of which sounds where it is.

    Attributes:
        class_names: Names of the classes, without background; one if masks tell no classes.
        side: Height and width of the masks in pixels.
        frames: Number of frames to which the public code pads a video in its figures; 0 if it does not.
    """

    kind: ClassVar[str] = "masks"
    samples: ClassVar[type[Sample]] = MaskSample
    outputs: ClassVar[str] = "classes"

    class_names: tuple[str, ...] = (SOUNDING,)
    side: int = OFFICIAL_SIDE
    frames: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.class_names

    @property
    def channels(self) -> int:
        """Number of outputs for each pixel: one without classes, else background and each class."""
        return 1 if len(self.class_names) == 1 else 1 + len(self.class_names)

    @classmethod
    def typical(cls) -> "MaskLabels":
        """Those of AVSBench-object."""
        return cls()

    @classmethod
    def checked(cls, labels: "MaskLabels") -> "MaskLabels":
        """The labels, if their sizes can be.

        Raises:
            ValueError: They cannot.
        """
        if not (1 <= labels.side <= 4096 and 0 <= labels.frames <= 86_400 and len(labels.class_names) < SILENT):
            raise ValueError(f"masks of side {labels.side} and {len(labels.class_names)} classes cannot be")
        return super().checked(labels)

    def told(self, sample: MaskSample) -> str:
        """What is annotated in each second, with a hash of each mask."""
        seconds = []
        for second, mask in enumerate(sample.masks):
            other = sample.others[second] if sample.others else None
            if mask is not None:
                seconds.append(f"{second} {_hash(mask)}" + (f" and {_hash(other)}" if other else ""))
        return ", ".join(seconds)

    def unknown(self, samples: Sequence[MaskSample], trained: "MaskLabels") -> tuple[str, ...]:
        """All classes that the trained ones lack; or all of them, if they are in another order."""
        if not samples or self.class_names == trained.class_names:
            return ()
        return tuple(name for name in self.class_names if name not in trained.class_names) or self.class_names

    def translated(self, samples: Sequence[MaskSample], trained: "MaskLabels") -> tuple[MaskSample, ...]:
        """The samples with masks of the size that the model gives."""
        return tuple(replace(sample, side=trained.side) for sample in samples)

    def count(self, samples: Sequence[MaskSample], available: int) -> MaskCounts:
        """Count the annotated seconds."""
        masks = [mask for sample in samples for mask in sample.masks if mask is not None]
        return MaskCounts(len(samples), available, len(masks), masks.count(""))

    def end_seconds(self, sample: MaskSample) -> float:
        """End of the last annotated second of a video; 0 for pictures, which need none."""
        last = max((second for second, known in enumerate(sample.labelled) if known), default=-1)
        return 0.0 if sample.pictures or last < 0 else sample.start_seconds + last + 1


def _hash(path: str | None) -> str:
    if not path:
        return "silent"
    try:
        return digest_of_file(Path(path))[:16] if os.path.isfile(path) else "missing"
    except (OSError, ValueError):
        return "missing"
