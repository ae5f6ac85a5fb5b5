"""How many samples a training has, and how many of them are decoded already."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpea import data
from avpea.data.cache import SampleCache
from avpea.data.identity import identify
from avpea.errors import DataError, MediaError
from avpea.evaluate import source_of
from avpea.experiment import Experiment
from avpea.labels import Labels, Sample
from avpea.preconditions import require_videos
from avpea.tables import how_many

__all__ = ["Sizes", "sizes_of"]


@dataclass(frozen=True)
class Sizes:
    """Number of samples.

    Attributes:
        train: Samples to train on.
        chosen: Samples to select the best epoch on.
        test: Samples to test on.
        entries: Cache entries of training and selection, of which several samples may use one.
        to_decode: Those that are not there yet.
        test_entries: Further cache entries of the test.
        test_to_decode: Those that are not there yet.
        to_read: Whether there are videos that can be decoded now, to see how long that takes.
        labels: Labels of the data set, if it is there.
        folder: Folder of the sample cache, if there is one.
        notes: What is unusual, in sentences.
    """

    train: int
    chosen: int
    test: int
    entries: int
    to_decode: int
    test_entries: int
    test_to_decode: int
    to_read: bool = False
    labels: Labels | None = field(default=None, repr=False)
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if type(value) is int}


def sizes_of(experiment: Experiment, samples: Sequence[int], videos: int = 0) -> Sizes:
    """Count the samples of an experiment's data set, or take the numbers that are given.

    Args:
        experiment: The experiment.
        samples: Number of samples to train, to select and to test on; empty counts.
        videos: Number of videos that those samples are of; 0 for one each.

    Raises:
        DataError: The data set cannot be read, or has no sample to train or to select on.
    """
    if samples:
        train, chosen, test = (*samples, 0, 0)[:3]
        each = (videos / sum(samples) if videos else 1) * (experiment.audio.features != "precomputed")
        first, last = round(each * (train + chosen)), round(each * test)
        return Sizes(train, chosen, test, first, first, last, last)
    if not experiment.data.root:
        raise DataError(
            "data.root is empty; say where the data set is with --data.root FOLDER, or how many samples it has with "
            "--samples TRAIN,VAL,TEST."
        )
    annotations, select_on = data.read(experiment.data), experiment.train.select_on
    require_videos(annotations, select_on)
    identify(experiment.data, annotations)  # as training does, so that it is in the time
    source, splits = source_of(experiment), annotations.splits
    counts = len(splits["train"]), len(splits[select_on]), len(splits["test"])
    if not isinstance(source, SampleCache):
        return Sizes(*counts, 0, 0, 0, 0, labels=annotations.labels)
    before = _entries(source, (*splits["train"], *splits[select_on]))
    after = {name: there for name, there in _entries(source, splits["test"]).items() if name not in before}
    every = before | after
    absent = sum(there is None for there in every.values())
    note = f"Not there yet: {absent} of {how_many(len(every), 'video')}; counted as to decode." if absent else ""
    return Sizes(
        *counts,
        entries=len(before),
        to_decode=sum(not there for there in before.values()),
        test_entries=len(after),
        test_to_decode=sum(not there for there in after.values()),
        to_read=any(_can_be_read(sample) for sample in splits["train"]),
        labels=annotations.labels,
        folder=source.folder,
        notes=(note,) if note else (),
    )


def _entries(cache: SampleCache, samples: Iterable[Sample]) -> dict[Any, bool | None]:
    """Whether each cache entry is there; None where its video is not. Decoded shards need none."""
    found: dict[Any, bool | None] = {}
    for sample in samples:
        if sample.packed is not None and sample.packed.decoded:
            continue
        try:
            path = cache.path(sample)
        except MediaError:
            found[(sample.video, sample.start_seconds, sample.segments)] = None
        else:
            if path not in found:
                found[path] = path.is_file()
    return found


def _can_be_read(sample: Sample) -> bool:
    return sample.packed is None and sample.features is None and sample.video.is_file()
