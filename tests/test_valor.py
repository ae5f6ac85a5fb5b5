"""Retrieval, captions and free answers from training to use, on videos made on the spot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.checkpoint import load_model
from avpea.data._batch import Batch
from avpea.errors import AvpeaError, DataError, ExperimentError
from avpea.evaluate import evaluate
from avpea.model import build, task_class
from avpea.predict import load
from avpea.train import make_optimizer, train
from tests.tiny import assert_same_run

Make = Callable[..., Any]


def test_retrieval_is_evaluated_in_both_directions(tiny_matched_run: Path) -> None:
    result = evaluate(tiny_matched_run, progress=False)
    found = result.metrics
    assert found["mean_recall"] == found["text_to_video"]["mean_recall"]
    assert found["text_to_video"]["r5"] == found["video_to_text"]["r5"] == 1.0  # there are three
    assert {"text_to_video_tv", "text_to_video_ta", "text_to_video_dual_softmax"} <= found.keys()
    assert found["references"] == {"chance": pytest.approx((1 / 3 + 1 + 1) / 3)}
    assert sum(right for right, _ in result.right) / 3 == pytest.approx(found["mean_recall"])
    rows = [json.loads(line) for line in (tiny_matched_run / "predictions-test.jsonl").read_text().splitlines()]
    assert all(1 <= row["captions"][0]["place"]["tva"] <= 3 for row in rows)


def test_captions_are_scored(tiny_written_run: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    found = evaluate(tiny_written_run, progress=False)
    assert {"bleu_4", "rouge_l", "cider", "meteor"} <= found.metrics.keys()
    assert sum(cider for cider, _ in found.right) / 3 == pytest.approx(found.metrics["cider"], abs=0.2)
    rows = [json.loads(line) for line in (tiny_written_run / "predictions-test.jsonl").read_text().splitlines()]
    assert all(len(row["prediction"].split()) <= 8 for row in rows)


@pytest.mark.parametrize("task", ["avr", "avc"])
def test_training_goes_on_as_if_never_interrupted(task: str, tiny_captioned: Make, tmp_path: Path) -> None:
    whole = train(tiny_captioned(task, **{"train.segments": 2}), tmp_path / "whole", progress=False).run
    short = tiny_captioned(task, **{"train.segments": 2, "train.epochs": 1})
    train(short, tmp_path / "parts", progress=False)
    settings = tmp_path / "parts" / "experiment.yaml"
    settings.write_text(settings.read_text().replace("  epochs: 1\n", "  epochs: 3\n"))
    train(tiny_captioned(task, **{"train.segments": 2}), tmp_path / "parts", progress=False)
    assert_same_run(whole, tmp_path / "parts")


def test_a_run_is_loaded_as_it_was(tiny_written_run: Path) -> None:
    model, info = load_model(tiny_written_run)
    assert info.experiment.task == "avc"
    own = model.trained_state()
    assert any(key.startswith("head.head.text.bert.") for key in own)
    assert not any("backbone" in key for key in own)


def test_a_video_is_described_in_windows(tiny_written_run: Path, tiny_captions: Path, tmp_path: Path) -> None:
    found = load(tiny_written_run).caption(tiny_captions / "videos" / "g4.mp4")
    (one,) = found.captions
    assert (one.start_seconds, one.end_seconds) == (0.0, pytest.approx(3.0, abs=0.2))
    assert len(one.others) == 1  # two beams
    assert one.log_probability >= one.others[0][1]
    assert json.loads(json.dumps(found.to_dict()))["captions"][0]["text"] == one.text
    assert not load(tiny_written_run).caption(tiny_captions / "videos" / "g4.mp4", beams=1).captions[0].others


def test_other_runs_write_no_captions(tiny_matched_run: Path, tiny_written_run: Path, tiny_captions: Path) -> None:
    video = tiny_captions / "videos" / "g4.mp4"
    with pytest.raises(AvpeaError, match="task is 'avr', which writes no captions; it is for `avpea index RUN FOLDER"):
        load(tiny_matched_run).caption(video)
    for beams in (-1, 101):
        with pytest.raises(AvpeaError, match=f"beams is {beams}; expected 1 to 100"):
            load(tiny_written_run).caption(video, beams=beams)
    with pytest.raises(AvpeaError, match="task is 'avc', which finds no events; it is for `avpea caption RUN VIDEO"):
        load(tiny_written_run).predict(video)


@pytest.mark.parametrize("groups", [["tva", "tv", "ta", "t"], ["tv"], ["t"]])
def test_writers_look_at_what_they_are_told(groups: list[str], tiny_captioned: Make, tmp_path: Path) -> None:
    experiment = tiny_captioned("avc", **{"head.groups": groups, "train.epochs": 1})
    run = train(experiment, tmp_path / "run", progress=False)
    losses = [name for name in run.epochs[0] if name.startswith("train/words_")]
    assert losses == [f"train/words_{group}" for group in groups]
    assert load_model(run.run)[0].task.reads_video == (groups != ["t"])


def test_free_answers_are_trained_and_judged(tiny_asking: Make, tiny_captioned: Make, tmp_path: Path) -> None:
    changes = {"task": "avqa_generative", "head.name": "writer", "text.name": "tiny", "text.longest": 4}
    experiment = tiny_asking(**changes, **{"text.prompt": "answer the question", "text.masked": 0.99, "text.beams": 1})
    run = train(experiment, tmp_path / "run", progress=False).run
    found = evaluate(run, progress=False).metrics
    assert found["questions"] == 9
    assert 0 <= found["overall_accuracy"] <= 1
    assert "most frequent answer of the wording" in found["references"]
    reply = load(run).ask(tiny_asking().data.root + "/AVE/g4.mp4", "Which unheard-of colour sounds first?")
    assert len(reply.answers) == 5
    assert 0 <= reply.answers[1][1] <= reply.answers[0][1] <= 1
    assert reply.question.unknown == ()
    with pytest.raises(AvpeaError, match="question is empty"):
        load(run).ask("video.mp4", " ")


def test_answers_are_compared_after_cleaning_both() -> None:
    from avpea.dataset import Question, QuestionSample
    from avpea.heads._search import Written
    from avpea.tasks.avqa_generative import WrittenAnswers, _hits

    questions = tuple(Question("1", "Audio Counting", "", (), answer) for answer in ("acoustic_guitar", "Yes", "two"))
    sample = QuestionSample("a", "a", Path(), 0.0, 1, "test", questions=questions)
    written = tuple((Written(text, 0.0),) for text in ("acoustic guitar", "yes", "one"))
    assert _hits(sample, WrittenAnswers(written)) == [True, True, False]


def test_segments_are_drawn_from_equal_parts() -> None:
    frames = torch.arange(10, dtype=torch.uint8)[None, :, None, None, None].expand(50, 10, 1, 1, 3)
    batch = Batch(frames, torch.arange(10.0)[None, :, None, None].expand(50, 10, 1, 1), ())
    torch.manual_seed(0)
    drawn = batch.drawn(4)
    assert drawn.places is not None
    for part, seconds in enumerate(({0, 1}, {2, 3, 4}, {5, 6, 7}, {8, 9})):
        assert set(drawn.places[:, part].tolist()) == seconds
    assert torch.equal(drawn.frames[..., 0, 0, 0].long(), drawn.places)
    assert torch.equal(drawn.log_mel[..., 0, 0].long(), drawn.places)


def test_tasks_and_data_must_fit(tiny_captioned: Make, tiny_experiment: Make, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="The task 'avel' needs events, but the data set has captions"):
        task_class(tiny_experiment(), "captions")
    with pytest.raises(ExperimentError, match="needs captions, but the data set has events; name one with captions"):
        task_class(tiny_captioned("avr"), "events")
    with pytest.raises(ExperimentError, match=r"train.segments is 2, but the task 'avel' asks about each segment"):
        task_class(tiny_experiment(**{"train.segments": 2}), "events")
    with pytest.raises(ExperimentError, match=r"train.segments is 9, but there are only 3"):
        task_class(tiny_captioned("avr", **{"train.segments": 9}), "captions")
    with pytest.raises(ExperimentError, match=r"text.name is 'tiny', but the task 'avel' has no text model"):
        build(tiny_experiment(**{"text.name": "tiny"}), 2)
    with pytest.raises(ExperimentError, match=r"head.name is 'writer', which is no head of the task 'avr'; it"):
        build(tiny_captioned("avr", **{"head.name": "writer"}), 0)
    with pytest.raises(ExperimentError, match=r"head.groups has 't', but a text is found by what is seen or heard"):
        build(tiny_captioned("avr", **{"head.groups": ["t"]}), 0)


def test_a_run_of_captions_is_not_evaluated_on_events(tiny_matched_run: Path, tiny_data: Path) -> None:
    with pytest.raises(DataError, match="There are no captions"):
        evaluate(tiny_matched_run, root=str(tiny_data), progress=False)


def test_rates_and_decay_by_part(tiny_captioned: Make) -> None:
    changes = {"train.weight_decay": 0.01, "train.head_learning_rate": 1e-4, "train.beta2": 0.98}
    experiment = tiny_captioned("avr", **changes)
    optimizer = make_optimizer(build(experiment, 0), experiment.train)
    for group in optimizer.param_groups:
        assert all((parameter.ndim > 1) == bool(group["weight_decay"]) for parameter in group["params"])
        assert group["betas"] == (0.9, 0.98)
    assert {group["lr"] for group in optimizer.param_groups} == {3e-3, 1e-4}


def test_a_set_of_captions_is_verified(tiny_captions: Path) -> None:
    from avpea import data
    from avpea.configs import DataConfig
    from avpea.data.verify import verify

    config = DataConfig(name="valor32k", root=str(tiny_captions), workers=0)
    report = verify(data.read(config), workers=0)
    assert report.ok
    assert "5 captions of 14.0 words on average about 5 videos (5 that open)." in "\n".join(report.lines())


def test_cards_say_what_a_model_is_for(tiny_matched_run: Path, tiny_written_run: Path) -> None:
    from avpea.checkpoint import read_info
    from avpea.sharing import model_card

    assert "video-retrieval" in model_card(read_info(tiny_matched_run), {})
    card = model_card(read_info(tiny_written_run), {})
    assert 'caption("video.mp4")' in card
    assert "## Classes" not in card
