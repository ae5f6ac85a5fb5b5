"""Early stopping, the validation loss, and what is printed at each epoch."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea import data
from avpea import train as training
from avpea.checkpoint import load_model
from avpea.data.cache import SampleCache
from avpea.errors import DataError, ExperimentError
from avpea.experiment import Experiment
from avpea.metrics.figures import epoch_kept
from avpea.train import train
from tests.tiny import assert_same_run, exit_code, metric_lines, start_training, tensors

Make = Callable[..., Experiment]
METRIC = "val/segment_accuracy"


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Let the evaluations of the next training give these accuracies."""

    def give(values: list[float]) -> None:
        left: Iterator[float] = iter(values)
        real: Any = vars(training)["infer"]

        def infer(*arguments: Any, **options: Any) -> Any:
            found = real(*arguments, **options)
            found.metrics["segment_accuracy"] = next(left)
            return found

        monkeypatch.setattr(training, "infer", infer)

    return give


def test_training_stops_after_so_many_epochs_without_a_better_one(
    tiny_experiment: Make, tmp_path: Path, reached: Any, capsys: Any
) -> None:
    reached([0.3, 0.5, 0.5, 0.4])  # as good is not better
    experiment = tiny_experiment(**{"train.epochs": 10, "train.patience": 2})
    result = train(experiment, tmp_path)
    assert [line["epoch"] for line in result.epochs] == [1, 2, 3, 4]
    assert result.best == {"epoch": 2, "selected_on": "val", "segment_accuracy": 0.5}
    assert load_model(tmp_path)[1].results["epoch"] == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Epoch") and "loss" in line]
    lines = [line for line in lines if "accuracy" in line]
    assert "segment accuracy 50.00 % on val (the best so far)." in lines[1]
    assert lines[-1].endswith("on val (best is epoch 2; 2 epochs without a better one, so training stops).")
    reached([])
    assert train(experiment, tmp_path, progress=False).epochs == result.epochs  # finished: nothing is trained


def test_no_patience_trains_all_epochs(tiny_experiment: Make, tmp_path: Path, reached: Any) -> None:
    reached([0.5, 0.4, 0.3, 0.2])
    assert len(train(tiny_experiment(**{"train.epochs": 4}), tmp_path, progress=False).epochs) == 4


@pytest.mark.parametrize("moment", [("avpea.model:AVModel.forward", 8), ("avpea.checkpoint:save_state", 2)])
@pytest.mark.slow
def test_an_interrupted_training_stops_where_it_would_have(
    moment: tuple[str, int], tiny_experiment: Make, tmp_path: Path
) -> None:
    # At this learning rate nothing changes, so the first epoch stays the best.
    experiment = tiny_experiment(**{"train.epochs": 9, "train.patience": 2, "train.learning_rate": 1e-12})
    whole = train(experiment, tmp_path / "whole", progress=False)
    assert len(whole.epochs) == 3
    process, _ = start_training(experiment.to_dict(), tmp_path / "run", *moment)
    assert exit_code(process) != 0
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", whole.run)


def test_the_validation_loss_is_that_of_the_model(tiny_experiment: Make, tiny_run: Path) -> None:
    model, info = load_model(tiny_run)
    experiment = tiny_experiment()
    samples: Any = data.read(experiment.data).splits["val"]
    cache = SampleCache(experiment.data, experiment.audio, experiment.backbone.image_size)
    with torch.no_grad():
        batch = cache.batch(samples)
        chances = model.task.head.probabilities(model(batch.frames, batch.log_mel))
    truth = torch.nn.functional.one_hot(torch.tensor([sample.labels for sample in samples]), chances.shape[-1])
    expected = torch.nn.BCELoss()(chances, truth.float())  # the loss of the linear head
    line = metric_lines(tiny_run)[info.results["epoch"] - 1]
    assert line["val/loss"] == pytest.approx(float(expected), rel=1e-4)


def test_a_random_loss_is_the_same_each_time_and_leaves_the_generator_alone(
    tiny_captioned: Callable[..., Experiment],
) -> None:
    from avpea.evaluate import infer
    from avpea.model import build

    experiment = tiny_captioned("avc")  # masked words are drawn
    annotations = data.read(experiment.data)
    torch.manual_seed(0)
    model = build(experiment, annotations.labels)
    cache = SampleCache(experiment.data, experiment.audio, experiment.backbone.image_size)
    samples = annotations.splits["val"]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    losses = [infer(model, cache, samples, 2, loss=True).loss for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert infer(model, cache, samples, 2).loss is None


def test_the_head_runs_once_for_answers_and_loss(tiny_experiment: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from avpea.evaluate import infer, prepare
    from avpea.model import build
    from avpea.tasks.avel.task import AVEL

    experiment = tiny_experiment()
    annotations = data.read(experiment.data)
    torch.manual_seed(0)
    model = build(experiment, annotations.labels)
    cache, usable, _ = prepare(experiment, annotations, ["val"], progress=False)
    samples = annotations.labels.translated(usable["val"], annotations.labels)
    outputs: list[torch.Tensor] = []
    forward = AVEL.forward

    def kept(*given: Any) -> Any:
        outputs.append(forward(*given))
        return outputs[-1]

    monkeypatch.setattr(AVEL, "forward", kept)
    found = {loss: infer(model, cache, samples, 2, loss=loss) for loss in (False, True)}
    assert len(outputs) == 4  # two batches of three videos
    for one, other in zip(found[False].answers, found[True].answers, strict=True):
        assert torch.equal(one.probabilities, other.probabilities)
        assert torch.equal(one.tokens, other.tokens)
    targets = [model.task.targets(some) for some in (samples[:2], samples[2:])]
    losses = [float(model.task.validation_loss(*one)) for one in zip(outputs[2:], targets, strict=True)]
    weights = [sum(sample.weight for sample in some) for some in (samples[:2], samples[2:])]
    wanted = sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)
    assert found[True].loss == pytest.approx(wanted, rel=1e-6)


def test_a_retrieval_loss_takes_one_caption_of_each_video(tiny_captioned: Callable[..., Experiment]) -> None:
    from dataclasses import replace

    from avpea.evaluate import infer
    from avpea.model import build

    experiment = tiny_captioned("avr")
    annotations = data.read(experiment.data)
    torch.manual_seed(0)
    model = build(experiment, annotations.labels)
    cache = SampleCache(experiment.data, experiment.audio, experiment.backbone.image_size)
    samples: list[Any] = list(annotations.splits["val"])
    one = [replace(sample, captions=sample.captions[:1]) for sample in samples]
    several = [replace(sample, captions=(*sample.captions[:1], "another caption")) for sample in samples]
    expected = infer(model, cache, one, 8, loss=True).loss
    # Another caption of each video makes the batch of texts longer, which changes nothing but the padding.
    assert infer(model, cache, several, 8, loss=True).loss == pytest.approx(expected, rel=1e-4)


def test_quiet_training_prints_nothing(tiny_experiment: Make, tmp_path: Path, capsys: Any) -> None:
    train(tiny_experiment(**{"train.epochs": 1}), tmp_path / "quiet", progress=False)
    assert capsys.readouterr() == ("", "")
    train(tiny_experiment(**{"train.epochs": 1}), tmp_path / "loud")
    assert "Videos of each class (train/val/test): green 3/1/1, red 2/2/2." in capsys.readouterr().err


def test_a_loss_that_json_cannot_hold_is_null(tiny_experiment: Make, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("avpea.evaluate._loss", lambda *_: float("nan"))
    train(tiny_experiment(**{"train.epochs": 1}), tmp_path, progress=False)
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert line["val/loss"] is None


def test_without_a_validation_video_it_is_said_what_to_do(
    tiny_experiment: Make, tiny_data: Path, tmp_path: Path
) -> None:
    def table(name: str, splits: str) -> dict[str, str]:
        rows = [f"{tiny_data}/AVE/g{i}.mp4,0,2,green,{split}" for i, split in enumerate(splits.split())]
        path = tmp_path / name
        path.write_text("\n".join(["video,start_seconds,end_seconds,label,split", *rows]))
        return {"data.name": "own", "data.root": str(path)}

    experiment = tiny_experiment(**table("a.csv", "train train train test"))
    with pytest.raises(DataError, match=r"no video in the split 'val'.* about one in six of the 3 training videos"):
        train(experiment, tmp_path / "run", progress=False)
    experiment = experiment.override({"train.select_on": "test", "train.epochs": 1})
    assert train(experiment, tmp_path / "run", progress=False).best["selected_on"] == "test"
    with pytest.raises(DataError, match="no video in the split 'train', so there is nothing to train on"):
        train(tiny_experiment(**table("b.csv", "val test")), tmp_path / "another", progress=False)


def test_a_negative_patience_is_refused(tiny_experiment: Make) -> None:
    with pytest.raises(ExperimentError, match=r"train.patience is -1; expected 0 or more"):
        tiny_experiment(**{"train.patience": -1})


def test_the_last_epoch_can_be_kept(tiny_experiment: Make, tmp_path: Path, reached: Any, capsys: Any) -> None:
    reached([0.9, 0.2, 0.4])
    result = train(tiny_experiment(**{"train.keep": "last"}), tmp_path)
    assert result.best == {"epoch": 3, "selected_on": "val", "segment_accuracy": 0.4, "kept": "last"}
    model, info = load_model(tmp_path)
    assert epoch_kept(info.results) == "Epoch 3, the last one"
    states = tensors(tmp_path / "state.safetensors")
    for name, value in model.trained_state().items():
        assert torch.equal(value, states[f"model.{name}"])
    assert "segment accuracy 20.00 % on val." in capsys.readouterr().err
    with pytest.raises(ExperimentError, match=r"train.patience is 2, but train.keep is 'last'"):
        tiny_experiment(**{"train.keep": "last", "train.patience": 2})
