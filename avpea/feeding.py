"""What a training step needs of its samples, read ahead by threads while the model computes."""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from avpea import distributed
from avpea.activations import Activations
from avpea.augment import Mixed, augmented
from avpea.data.cache import Batch, SampleCache
from avpea.data.features import FeatureStore
from avpea.draws import drawing, draws
from avpea.encoders import Streams
from avpea.experiment import Experiment
from avpea.labels import Sample, weight_of
from avpea.tasks import Task

__all__ = ["Feed", "Inputs", "Place"]


@dataclass(frozen=True)
class Place:
    """A batch of training: where it stands, and its samples.

    Attributes:
        epoch: Number of finished epochs before it.
        number: Number of batches before it in its epoch.
        samples: Its samples, of all processes together.
    """

    epoch: int
    number: int
    samples: tuple[Sample, ...]

    @property
    def weight(self) -> int:
        """Number of answers in the batch."""
        return weight_of(self.samples)


@dataclass(frozen=True)
class Inputs:
    """The share of a process in a batch, on the CPU.

    Attributes:
        place: The whole batch.
        targets: Targets of the task, after augmentation.
        batch: Frames and log-mels; None if outputs of frozen layers are kept.
        entered: Outputs of the frozen layers that are kept, if any are.
        segments: Number of segments of each video.
        negatives: Frames of other videos, if the head is trained with them.
        other_targets: For mixup, the targets of what the samples were mixed with.
        share: For mixup, the share of `targets`.
        weight: Number of answers in this share of the batch.
    """

    place: Place
    targets: Any
    batch: Batch | None
    entered: tuple[Streams, ...] | None
    segments: int
    negatives: Tensor | None
    other_targets: Any
    share: float
    weight: int


class Feed:
    """Reads, augments and stacks batches, in threads of its own if there are any.

    What it makes depends on seed, epoch and batch alone, whatever the number of threads.

    Args:
        experiment: The experiment; `train.readers` is the number of threads, 0 reads when a batch is needed.
        cache: The samples.
        frozen: What the frozen layers compute of them, if that is kept.
        task: The task.
        pool: All training samples, from which frames of other videos are drawn.
        pinned: Whether batches are put where a GPU copies them from without waiting.

    Attributes:
        waited_seconds: How long `ahead` has kept training waiting.
    """

    def __init__(
        self,
        experiment: Experiment,
        cache: SampleCache | FeatureStore,
        frozen: Activations | None,
        task: Task,
        pool: Sequence[Sample],
        pinned: bool = False,
    ) -> None:
        self.experiment, self.cache, self.frozen, self.task, self.pool = experiment, cache, frozen, task, pool
        self.pinned = pinned
        self.waited_seconds = 0.0

    @contextmanager
    def ahead(self, places: Iterable[Place]) -> Iterator[Iterator[Inputs]]:
        """The inputs of batches, in order; those of the next ones are read while one is used."""
        threads = self.experiment.train.readers
        if not threads:
            yield self._timed(map(self.inputs, places))
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="avpea-reader") as pool:
            try:
                yield self._timed(self._from_threads(pool, iter(places), threads + 1))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _from_threads(self, pool: ThreadPoolExecutor, places: Iterator[Place], ahead: int) -> Iterator[Inputs]:
        waiting: deque[Future[Inputs]] = deque()
        while True:
            for place in itertools.islice(places, ahead - len(waiting)):
                waiting.append(pool.submit(copy_context().run, self.inputs, place))
            if not waiting:
                return
            yield waiting.popleft().result()

    def _timed(self, inputs: Iterator[Inputs]) -> Iterator[Inputs]:
        while True:
            began = time.perf_counter()
            found = next(inputs, None)
            self.waited_seconds += time.perf_counter() - began
            if found is None:
                return
            yield found

    def inputs(self, place: Place) -> Inputs:
        """The inputs of a batch.

        Raises:
            MediaError: A video has gone since training began.
        """
        with drawing(self.experiment.train.seed, place.epoch, place.number):
            made = self._kept(place) if self.frozen is not None else self._read(place)
        return _pinned(made) if self.pinned else made

    def _kept(self, place: Place) -> Inputs:
        assert self.frozen is not None
        own = distributed.own_share(place.samples)
        entered = self.frozen.entered(own)
        targets = self.task.targets(self.cache.loaded(own))
        return Inputs(place, targets, None, entered, own[0].segments, None, None, 1.0, weight_of(own))

    def _read(self, place: Place) -> Inputs:
        config = self.experiment.train
        # What is augmented is the whole batch, as its samples may be mixed with each other.
        read = place.samples if config.augment.used else distributed.own_share(place.samples)
        batch = self.cache.batch(read)
        batch = batch.drawn(config.segments) if config.segments else batch
        mixed = Mixed(batch)
        if config.augment.used:
            mean = getattr(self.experiment.audio, "mean", 0.0)
            mixed = augmented(batch, config.augment, mean, draws(config.seed, place.epoch, place.number))
            mixed = mixed.part(distributed.own_share(range(len(batch))))
        own, others = mixed.batch.samples, mixed.others
        negatives = self.cache.frames_of_others(own, self.pool) if self.task.head.frozen_negatives else None
        return Inputs(
            place=place,
            targets=self.task.targets(own),
            batch=mixed.batch,
            entered=None,
            segments=own[0].segments,
            negatives=negatives,
            other_targets=None if others is None else self.task.targets(others),
            share=mixed.share,
            weight=weight_of(own),
        )


def _pinned(inputs: Inputs) -> Inputs:
    """The same in memory from which a GPU copies without waiting."""
    batch, negatives, entered = inputs.batch, inputs.negatives, inputs.entered
    return replace(
        inputs,
        batch=None if batch is None else batch.pinned(),
        negatives=None if negatives is None else negatives.pin_memory(),
        entered=None
        if entered is None
        else tuple(Streams(*(tokens.pin_memory() for tokens in one)) for one in entered),
    )
