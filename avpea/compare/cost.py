"""The cost of a training step in each row: seconds, measured in turns with the reference row, and memory.

python -m avpea.compare.cost EXPERIMENT_JSON    (prints the peak memory of one step, in MB)
"""

import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from avpea import measure, registry
from avpea.activations import computed
from avpea.compare.results import described
from avpea.compare.sweep import Sweep
from avpea.data.cache import Batch
from avpea.data.inputs import features
from avpea.device import choose_device, cpu_threads, float32_products, named
from avpea.encoders import Streams
from avpea.experiment import Experiment
from avpea.labels import Labels
from avpea.media import SAMPLE_RATE_HZ
from avpea.model import AVModel, build
from avpea.optimizer import make_optimizer
from avpea.sections import ContinuousOptions
from avpea.tasks import Task

__all__ = ["TrainingStep", "entered", "measure_costs", "random_batch"]

MAP_LOCATIONS = 49  # of precomputed feature maps: 7 x 7, as VGG-19's


def measure_costs(
    sweep: Sweep, rounds: int = 7, say: Callable[[str], None] = lambda _: None, device: str | None = None
) -> dict[str, Any]:
    """Measure for each row the seconds of a step, their ratio to the reference row's, and the peak memory.

    A step is forward, loss, backward and optimiser on one batch of random frames and sounds, with the recipe's batch
    size, backbone, precision and threads; weights are random, which changes neither figure. Steps of the row and of the
    reference row alternate, so that both run under the same load. Memory is the peak in a separate process, less its
    memory after building the model; on a GPU it is the peak of the GPU's.

    Args:
        sweep: The rows.
        rounds: Number of timed steps of each of the two rows.
        say: Called with the row that is being measured.
        device: Device to measure on, instead of each row's `train.device`.
    """
    place = {} if device is None else {"train.device": device}
    reference = next(row for row in sweep.rows if row.label == sweep.reference).experiment.override(place)
    rows: dict[str, Any] = {}
    for row in sweep.rows:
        say(f"Measuring {row.label}")
        experiment = row.experiment.override({**place, "data.root": "", "data.cache": ""})
        with cpu_threads(experiment.train.threads):
            actions = {"reference": TrainingStep(reference), "row": TrainingStep(experiment)}
            times = measure.interleaved(actions, rounds)
        rows[row.label] = {
            "step_seconds": round(statistics.median(times["row"]), 4),
            "over_reference": measure.ratio(times["row"], times["reference"]),
            "peak_mb": round(measure.peak_mb("avpea.compare.cost", json.dumps(experiment.to_dict()))),
            "batch_size": experiment.train.batch_size,
            "device": named(choose_device(experiment.train.device)),
            "experiment": described(experiment),
        }
    with cpu_threads(reference.train.threads):
        machine = measure.machine()
    return {"reference": sweep.reference, "rounds": rounds, "machine": machine, "rows": rows}


class TrainingStep:
    """A new model, which each call trains by one step on a batch of noise.

    Args:
        experiment: The experiment; weights are random.
        labels: Labels that the head predicts; by default as many as the best-known data set of the task has.
        say: Called with the reason, if the frozen blocks should be compiled and cannot.

    Attributes:
        model: The model.
        optimizer: Its optimiser.
        batch: The batch, on the model's device.
        targets: Its targets.
    """

    def __init__(
        self, experiment: Experiment, labels: Labels | None = None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        files = {"backbone.weights", "encoder.audio_weights"} & experiment.locations()
        experiment = experiment.override(dict.fromkeys(files, "random"))
        self.config = config = experiment.train
        device = choose_device(config.device)
        torch.manual_seed(0)
        kind: type[Task] = registry.load("task", experiment.task.name)
        self.model, obstacle = build(experiment, labels or kind.needs.typical()).to_train(config, device)
        if obstacle:
            say(obstacle)
        self.model.train()
        self.optimizer = make_optimizer(self.model, config)
        self._experiment = experiment
        self.draw(config.batch_size)

    def draw(self, videos: int) -> None:
        """Draw another batch, of so many videos."""
        device = self.model.device
        self.batch = random_batch(self._experiment.override({"train.batch_size": videos}), self.model).to(device)
        self.targets = self.model.task.targets(self.batch.samples).to(device)
        self._negatives = self.batch.frames.flip(0) if self.model.task.head.frozen_negatives else None
        # What the frozen layers make of the batch, if that is kept; else None.
        self._entered = entered(self.model, self.batch) if self.model.encoder.kept is not None else None

    def __call__(self) -> None:
        """Take a step."""
        with float32_products(self.model.device, self.config.tf32):
            for _ in range(self.config.accumulate):
                loss, _terms = self.model.task.loss(self._output(), self.targets)
                torch.autograd.backward(loss / self.config.accumulate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _output(self) -> Any:
        model, batch = self.model, self.batch
        if self._entered is None:
            return model(batch.frames, batch.log_mel, self.targets, self._negatives)
        return model.task(model.resume(self._entered, batch.frames.shape[1], batch.frames.shape[2]), self.targets)


def entered(model: AVModel, batch: Batch) -> tuple[Streams, ...]:
    """What the frozen layers make of a batch, for a model that keeps that."""
    return computed(model, batch.frames, batch.log_mel)


def random_batch(experiment: Experiment, model: AVModel) -> Batch:
    """A batch of noise with the shapes of the experiment."""
    videos, audio = experiment.train.batch_size, experiment.audio
    segments = experiment.train.segments or experiment.data.segments
    backbone: Any = model.encoder.backbone
    examples = tuple(model.task.examples(videos, segments))
    if audio.features == "precomputed":
        maps = torch.randn(videos, segments, MAP_LOCATIONS, backbone.dim)
        return Batch(maps, torch.randn(videos, segments, backbone.audio_dim), examples)
    side = backbone.image_size
    waveform = 0.1 * torch.randn(videos * segments, SAMPLE_RATE_HZ)
    if isinstance(audio, ContinuousOptions):
        sounds = torch.randn(videos, audio.slices, audio.rows, audio.mel_bins)
        return Batch(_frames(videos, segments, side), sounds, examples, whole_sound=True)
    sounds = features(waveform, audio)
    return Batch(
        frames=_frames(videos, segments, side),
        log_mel=sounds.reshape(videos, segments, *sounds.shape[1:]),
        samples=examples,
    )


def _frames(videos: int, segments: int, side: int) -> Tensor:
    return torch.randint(0, 256, (videos, segments, side, side, 3), dtype=torch.uint8)


if __name__ == "__main__":
    given = Experiment.from_dict(json.loads(sys.argv[1]))
    if given.train.threads:
        torch.set_num_threads(given.train.threads)
    once = TrainingStep(given)
    on_card = choose_device(given.train.device).type == "cuda"
    measure.forget_peak(on_card)
    before = 0.0 if on_card else measure.resident_peak_mb(on_card)
    once()
    once()  # in the second step the optimiser's moments exist too
    print(measure.resident_peak_mb(on_card) - before)
