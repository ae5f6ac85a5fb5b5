"""Questions from end to end, on videos made on the spot: train, resume, evaluate, ask, compare, count."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea import registry
from avpea.checkpoint import load_model, read_info, take_over
from avpea.data import read
from avpea.data.cache import SampleCache
from avpea.errors import AvpeaError, CheckpointError, DataError, ExperimentError
from avpea.evaluate import evaluate, infer, prepare
from avpea.labels import QuestionLabels, QuestionSample, QuestionVocabulary
from avpea.model import build
from avpea.predict import load
from avpea.tasks.avqa.heads import AnsweringHead
from avpea.tasks.avqa.task import AVQA
from avpea.train import train
from tests.tiny import assert_same_run, coloured_video, write_questions

Make = Callable[..., Any]
HEADS = [name for name in registry.names("head") if issubclass(registry.load("head", name), AnsweringHead)]


@pytest.fixture(scope="module")
def evaluated(tiny_asked_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    run = shutil.copytree(tiny_asked_run, tmp_path_factory.mktemp("evaluated") / "run")
    return run, evaluate(run, "test", batch_size=2, progress=False)


def test_report_and_predictions_agree(evaluated: tuple[Path, Any]) -> None:
    run, result = evaluated
    report = json.loads((run / "evaluation-test.json").read_text())
    assert report == result.metrics
    rows = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
    asked = [question for row in rows for question in row["questions"]]
    assert (len(rows), len(asked), report["questions"], report["unanswerable"]) == (3, 9, 9, 0)
    right = [question["target"] == question["prediction"] for question in asked]
    assert report["overall_accuracy"] == sum(right) / 9
    assert [pair[1] for pair in result.scores] == [3, 3, 3]
    assert sum(pair[0] for pair in result.scores) == sum(right)
    visual = [hit for hit, question in zip(right, asked, strict=True) if question["type"].startswith("Visual")]
    assert report["per_modality_accuracy"]["Visual"] == sum(visual) / 3
    assert report["mean_of_three"] == pytest.approx(sum(report["per_modality_accuracy"].values()) / 3)
    assert report["source"].startswith("avqa/avqa-test.json, 9 questions about 3 videos, sha256 ")


def test_references_know_only_the_training_questions(evaluated: tuple[Path, Any]) -> None:
    # train: 3 green, 2 red; test: 1 green, 2 red. Per wording: green (1 of 3), no (1 of 3), yes (1 of 3).
    references = evaluated[1].metrics["references"]
    assert references["most frequent answer of the wording"] == 3 / 9
    assert set(references) == {
        "most frequent answer", "most frequent answer of the type", "most frequent answer of the wording",
    }  # fmt: skip


def test_batches_do_not_matter(tiny_asked_run: Path, tiny_asking: Make) -> None:
    model, _ = load_model(tiny_asked_run)
    experiment = tiny_asking()
    cache, usable, _ = prepare(experiment, read(experiment.data), ["test"], progress=False)
    one, three = (infer(model, cache, usable["test"], size) for size in (1, 3))
    for a, b in zip(one.answers, three.answers, strict=True):
        torch.testing.assert_close(a.probabilities, b.probabilities, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.spatial, b.spatial, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("negatives", ["batch", "frozen"])
@pytest.mark.slow
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    tiny_asking: Make, tmp_path: Path, negatives: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_asking(**{"head.negatives": negatives, "train.epochs": 2})
    whole = train(experiment, tmp_path / "whole", progress=False).run
    from avpea.run import RunFolder

    original, calls = RunFolder.log, iter(range(10))

    def stop(self: Any, record: Any, before: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return original(self, record, before)

    monkeypatch.setattr(RunFolder, "log", stop)
    with pytest.raises(KeyboardInterrupt):
        train(experiment, tmp_path / "halves", progress=False)
    assert_same_run(whole, train(experiment, tmp_path / "halves", progress=False).run)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_for_questions_trains(name: str, tiny_asking: Make, tmp_path: Path) -> None:
    experiment = tiny_asking(**{"head.name": name, "train.epochs": 1})
    trained = train(experiment, tmp_path / "run", progress=False)
    loaded, info = load_model(trained.run)
    fresh = build(experiment, info.labels)
    changed = [not torch.equal(a, b) for a, b in zip(loaded.task.parameters(), fresh.task.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    result = evaluate(trained.run, "val", progress=False)
    assert 0 <= result.metrics[loaded.task.figure.metric] <= 1


def test_the_blind_head_sees_nothing(tiny_asking: Make, tmp_path: Path) -> None:
    experiment = tiny_asking(**{"head.name": "question_only", "train.epochs": 1})
    run = train(experiment, tmp_path / "run", progress=False).run
    model, _ = load_model(run)

    def refuse(*_: object) -> None:
        raise AssertionError("the encoder was asked")

    model.encoder.forward = refuse  # type: ignore[method-assign,assignment]
    cache, usable, _ = prepare(experiment, read(experiment.data), ["test"], progress=False)
    answers = infer(model, cache, usable["test"]).answers
    assert torch.equal(answers[1].probabilities, answers[2].probabilities)  # the same questions
    assert (answers[0].spatial, answers[0].seen) == (None, None)


def test_nothing_to_take_over_is_refused(tiny_run: Path, tiny_asking: Make) -> None:
    experiment = tiny_asking(**{"head.name": "question_only", "adapter.streams": "none"})
    model = build(experiment, read(experiment.data).labels)
    with pytest.raises(CheckpointError, match=r"\(train.start_from\) has no weights whose name and shape"):
        take_over(tiny_run, model)


def test_frozen_negatives_are_frames_of_other_videos(tiny_asking: Make) -> None:
    experiment = tiny_asking()
    cache, usable, _ = prepare(experiment, read(experiment.data), ["train"], progress=False)
    samples = usable["train"]
    torch.manual_seed(0)
    drawn = cache.frames_of_others(samples[:2], samples)
    assert drawn.shape == (2, 3, 32, 32, 3)
    everything = {sample.key: cache.read(sample)["frames"] for sample in samples}
    for sample, frames in zip(samples[:2], drawn, strict=True):
        others = torch.cat([frame for key, frame in everything.items() if key != sample.key])
        assert all(any(torch.equal(frame, other) for other in others) for frame in frames)
    with pytest.raises(DataError, match="there is only one video"):
        cache.frames_of_others(samples[:1], samples[:1])


def test_sound_of_another_video(tiny_asking: Make, tmp_path: Path) -> None:
    experiment = tiny_asking()
    samples = read(experiment.data).splits["train"]
    own, other = samples[0], samples[1]
    assert isinstance(own, QuestionSample)
    mixed = QuestionSample(
        "mixed", own.video_id, own.video, 0.0, 3, "train", sound=other.video, questions=own.questions
    )
    cache = SampleCache(experiment.data, experiment.audio, 32)
    found = cache.read(mixed)
    assert torch.equal(found["frames"], cache.read(own)["frames"])
    assert torch.equal(found["log_mel"], cache.read(other)["log_mel"])
    assert len({cache.path(sample) for sample in (mixed, own, other)}) == 3


@pytest.mark.parametrize("name", ["cmbs", "grounding"])
def test_heads_of_other_tasks_are_refused(name: str, tiny_asking: Make) -> None:
    message = f"head.name is '{name}', which is no head of the task 'avqa'; expected avst or question_only"
    with pytest.raises(ExperimentError, match=message):
        tiny_asking(**{"head.name": name})


def test_an_encoder_that_trains_everything_has_no_frozen_negatives(tiny_asking: Make, tmp_path: Path) -> None:
    changes = {"encoder.name": "mbt", "encoder.fusion_from": 1, "head.negatives": "frozen"}
    with pytest.raises(ExperimentError, match=r"set head.negatives to batch"):
        train(tiny_asking(**changes), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_questions_and_events_are_told_apart(tiny_asked_run: Path, tiny_run: Path, tiny_asking: Make, tiny_data: Path,
                                             tiny_questions: Path, tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(ExperimentError, match=r"'avqa' needs questions, but data.name is 'ave', which reads events"):
        tiny_asking(**{"data.name": "ave", "data.root": str(tiny_data)})
    with pytest.raises(
        ExperimentError, match=r"'avel' needs events, but data.name is 'music_avqa', which reads questions"
    ):
        tiny_asking(**{"task": "avel", "head.name": "linear"})
    events = {"task": "avel", "data.name": "ave", "data.root": str(tiny_data)}
    with pytest.raises(ExperimentError, match="'avst', which is no head of the task 'avel'; expected cmbs or linear"):
        tiny_asking(**events)
    run, video = shutil.copytree(tiny_asked_run, tmp_path / "run"), tiny_data / "AVE" / "g0.mp4"
    with pytest.raises(DataError, match="There are no questions in"):
        evaluate(run, root=str(tiny_data), progress=False)
    with pytest.raises(AttributeError, match="task is 'avel', which has no 'ask'; it is for `avpea predict RUN VIDEO"):
        load(tiny_run).ask(video, "Which colour?")
    with pytest.raises(AttributeError, match="task is 'avqa', which has no 'caption'; it is for `avpea ask RUN VIDEO"):
        load(tiny_asked_run).caption(video)
    with pytest.raises(TypeError, match="question"):
        load(tiny_asked_run).predict(video)


def test_the_checkpoint_knows_words_and_answers(tiny_asked_run: Path, tiny_asking: Make) -> None:
    info = read_info(tiny_asked_run)
    assert info.labels == read(tiny_asking().data).labels
    assert info.labels.names == ("green", "no", "yes", "red")


def test_a_split_with_unknown_answers(tiny_asked_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    rows = {"train": ["green&g0&good&0&2"], "val": ["red&r2&good&0&2"], "test": ["blue&r4&good&1&2", "red&r5&good&0&1"]}
    root = write_questions(tmp_path / "other", tiny_data, rows)
    run = shutil.copytree(tiny_asked_run, tmp_path / "run")
    report = evaluate(run, "test", root=str(root), progress=False).metrics
    assert (report["questions"], report["unanswerable"]) == (6, 1)


def test_ask(tiny_asked_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    predictor, video = load(tiny_asked_run), tiny_data / "AVE" / "g0.mp4"
    reply = predictor.ask(video, "which COLOUR sounds first")
    assert reply.question.words == ("Which", "colour", "sounds", "first")
    assert reply.question.remarks() == []
    assert reply.answers[0][0] == reply.answer
    assert sum(chance for _, chance in reply.answers) == pytest.approx(1)
    assert reply.spatial is not None
    assert reply.seen is not None
    assert reply.heard is not None
    assert reply.spatial.shape == (3, 2, 2)
    for shares in (reply.seen, reply.heard, *reply.spatial.flatten(1)):
        assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    plain = json.loads(json.dumps(reply.to_dict()))
    assert plain["answer"] == reply.answer
    assert [second["start_seconds"] for second in plain["seconds"]] == [0, 1, 2]
    reply.plot(tmp_path / "where.png")
    assert (tmp_path / "where.png").stat().st_size > 10_000


@pytest.mark.parametrize(("seconds", "looked_at"), [(0.4, 1), (2, 2), (3, 3), (7, 3)])
def test_ask_looks_only_at_seconds_that_the_video_has(
    tiny_asked_run: Path, tmp_path: Path, seconds: float, looked_at: int
) -> None:
    video = coloured_video(tmp_path / "v.mp4", "red", 0, seconds / 2, seconds=seconds)
    reply = load(tiny_asked_run).ask(video, "Which colour sounds first?")
    starts = [second["start_seconds"] for second in reply.to_dict()["seconds"]]
    assert len(starts) == looked_at  # the model was trained on 3
    assert max(starts) < seconds
    assert len(reply.clip.frames) == looked_at
    for shares in (reply.seen, reply.heard):
        assert shares is not None
        assert float(shares.sum()) == pytest.approx(1, abs=1e-5)  # no attention is on padding
    reply.plot(tmp_path / "where.png")


def test_the_probabilities_of_answers_are_calibrated(tiny_asked_run: Path, evaluated: tuple[Path, Any]) -> None:
    fitted = read_info(tiny_asked_run).calibration
    assert fitted is not None
    assert fitted.split == "val"
    assert fitted.chosen == {}
    found = evaluated[1].metrics["reliability"]
    assert found["temperature"] == fitted.temperature
    assert sum(one["count"] for one in found["bins"]) == evaluated[1].metrics["questions"]


def test_ask_is_what_evaluation_answers(tiny_asked_run: Path, evaluated: tuple[Path, Any]) -> None:
    sample, answers = evaluated[1].samples[0], evaluated[1].answers[0]
    reply = load(tiny_asked_run).ask(sample.video, "Which colour sounds first?")
    expected = dict(zip(read_info(tiny_asked_run).labels.names, answers.probabilities[0].tolist(), strict=True))
    assert dict(reply.answers) == pytest.approx(expected, abs=1e-5)


def test_what_the_model_cannot_read_is_said(tiny_asked_run: Path, tiny_data: Path) -> None:
    predictor, video = load(tiny_asked_run), tiny_data / "AVE" / "g0.mp4"
    reply = predictor.ask(video, "Which bright colour sounds first of all")
    assert reply.question.unknown == ("bright", "of", "all")
    outside = "The question is outside the model's training, so the answer may mean nothing."
    left_out = "Left out, because no training question has these words: bright, of, all."
    assert reply.question.remarks() == [left_out, outside]
    plain = reply.to_dict()
    assert (plain["left_out"], plain["outside_training"]) == (["bright", "of", "all"], True)
    assert plain["remarks"] == [left_out, outside]
    known = predictor.ask(video, "Which colour sounds first?").to_dict()
    assert (known["outside_training"], known["remarks"]) == (False, [])
    odd = predictor.ask(video, "first heard colour")
    assert odd.question.remarks()[0].startswith("No training question is worded like this")
    assert predictor.ask(video, "first").question.remarks() == [
        "No training question is worded like this, and none is close.", outside
    ]  # fmt: skip
    long = predictor.ask(video, "Which colour sounds first first first first")
    assert long.question.too_long == ("first", "first")
    with pytest.raises(AvpeaError, match="The question is empty; ask for example 'Which colour"):
        predictor.ask(video, "  ")
    with pytest.raises(AvpeaError, match="No word of the question 'Quel instrument' is known to this model"):
        predictor.ask(video, "Quel instrument")


def test_counts_of_an_example_batch() -> None:
    vocabulary = QuestionVocabulary.of_size(words=20, answers=6)
    task = AVQA(registry.load("head", "question_only")(8, 8, 20, 6), QuestionLabels(vocabulary))
    targets = task.targets(task.examples(3, 4))
    assert targets.token_ids.shape == (15, 14)
    assert targets.video.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert int(targets.answers.min()) >= 0
