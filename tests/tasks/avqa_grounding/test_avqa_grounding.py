"""The grounding stage: it trains, is judged, and is where AVST starts from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea import registry
from avpea.checkpoint import load_model, take_over
from avpea.data import read
from avpea.errors import AvpeaError, CheckpointError, ExperimentError
from avpea.evaluate import evaluate
from avpea.model import build
from avpea.predict import load
from avpea.tasks.avqa.heads import MatchingHead
from avpea.train import train

Make = Callable[..., Any]
HEADS = [name for name in registry.names("head") if issubclass(registry.load("head", name), MatchingHead)]
STAGE = {"task": "avqa_grounding", "head.name": "grounding", "train.epochs": 1}


@pytest.fixture(scope="module")
def stage(tiny_asking: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_asking(**STAGE), tmp_path_factory.mktemp("stage") / "run", progress=False).run


@pytest.mark.parametrize("name", HEADS)
def test_every_head_for_matching_trains(name: str, tiny_asking: Make, tmp_path: Path) -> None:
    experiment = tiny_asking(**{**STAGE, "head.name": name})
    trained = train(experiment, tmp_path / "run", progress=False)
    loaded, info = load_model(trained.run)
    torch.manual_seed(experiment.train.seed)
    fresh = build(experiment, info.labels)
    pairs = zip(loaded.trained_state().items(), fresh.trained_state().values(), strict=True)
    changed = {key: not torch.equal(a, b) for (key, a), b in pairs}
    grounding = [value for key, value in changed.items() if key.startswith("head.head.grounding.")]
    assert sum(grounding) > 0.9 * len(grounding)


def test_report_and_predictions_agree(stage: Path, tmp_path: Path) -> None:
    run = shutil.copytree(stage, tmp_path / "run")
    found = evaluate(run, "test", progress=False).metrics
    rows = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
    assert [row["pairs"] for row in rows] == [6, 6, 6]  # own and other frame of three seconds
    assert found["pairs"] == 18
    assert found["match_accuracy"] == pytest.approx(sum(row["right"] for row in rows) / 18)
    assert found["match_accuracy"] == pytest.approx(sum(found["per_class_accuracy"].values()) / 2)
    assert found["references"] == {"chance": 0.5}


def test_a_video_alone_in_its_batch_is_left_out(stage: Path, tmp_path: Path) -> None:
    run = shutil.copytree(stage, tmp_path / "run")
    found = evaluate(run, "test", batch_size=1, progress=False).metrics
    assert (found["match_accuracy"], found["pairs"]) == (0.0, 0)
    last = evaluate(run, "test", batch_size=2, progress=False)
    assert [of for _, of in last.scores] == [6, 6, 0]
    right, asked = (sum(column) for column in zip(*last.scores, strict=True))
    assert right / asked == last.metrics["match_accuracy"]


@pytest.mark.slow
def test_avst_starts_from_the_grounding_stage(stage: Path, tiny_asking: Make, tmp_path: Path) -> None:
    given = load_model(stage)[0].trained_state()
    experiment = tiny_asking(**{"train.start_from": str(stage)})
    model = build(experiment, read(experiment.data).labels)
    taken, _ = take_over(stage, model)
    assert {key for key in given if key.startswith("head.head.grounding.")} <= set(taken)
    assert all(torch.equal(model.trained_state()[key], given[key]) for key in taken)
    assert train(experiment, tmp_path / "run", progress=False).best["overall_accuracy"] >= 0
    with pytest.raises(CheckpointError, match="There is no run folder or checkpoint"):
        train(tiny_asking(**{"train.start_from": str(tmp_path / "none")}), tmp_path / "other", progress=False)


def test_it_answers_nobody(stage: Path, tiny_data: Path) -> None:
    video = tiny_data / "AVE" / "g0.mp4"
    with pytest.raises(AvpeaError, match="The grounding stage answers no questions; train avqa from it"):
        load(stage).predict(video, "Which colour sounds first?")
    message = r"task is 'avqa_grounding', which has no 'ask'; it is for `avpea train mini/avqa --train.start_from RUN`"
    with pytest.raises(AttributeError, match=message):
        load(stage).ask(video, "Which colour sounds first?")


def test_a_head_that_matches_nothing_is_refused(tiny_asking: Make) -> None:
    message = "head.name is 'question_only', which is no head of the task 'avqa_grounding'; expected avst or grounding"
    with pytest.raises(ExperimentError, match=message):
        tiny_asking(**{**STAGE, "head.name": "question_only"})
