"""Answers written word by word: trained and judged, on videos made on the spot."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from avpea.errors import AvpeaError
from avpea.evaluate import evaluate
from avpea.labels import Question, QuestionSample
from avpea.predict import load
from avpea.tasks.avc.heads._beams import Written
from avpea.tasks.avqa_generative.task import GenerativeAVQA, WrittenAnswers
from avpea.train import train

Make = Callable[..., Any]


def test_free_answers_are_trained_and_judged(tiny_asking: Make, tiny_captioned: Make, tmp_path: Path) -> None:
    changes = {"task": "avqa_generative", "head.name": "writer", "head.text.name": "tiny", "head.longest": 4}
    experiment = tiny_asking(**changes, **{"head.prompt": "answer the question", "head.masked": 0.99, "head.beams": 1})
    run = train(experiment, tmp_path / "run", progress=False).run
    found = evaluate(run, progress=False).metrics
    assert found["questions"] == 9
    assert 0 <= found["overall_accuracy"] <= 1
    assert "most frequent answer of the wording" in found["references"]
    reply = load(run).ask(tiny_asking().data.root + "/AVE/g4.mp4", "Which unheard-of colour sounds first?")
    assert len(reply.answers) == 5
    assert 0 <= reply.answers[1][1] <= reply.answers[0][1] <= 1
    assert reply.question.words == ("Which", "unheard-of", "colour", "sounds", "first?")  # it reads any word
    assert (reply.question.unknown, reply.question.left_out) == (("unheard-of",), ())
    assert reply.question.remarks()[0] == "No training question has these words: unheard-of."
    assert reply.to_dict()["outside_training"] is True
    assert reply.to_dict()["calibration"] is None  # the probability of a text is none among categories
    with pytest.raises(AvpeaError, match="question is empty"):
        load(run).ask("video.mp4", " ")


def test_answers_are_compared_after_cleaning_both() -> None:
    questions = tuple(Question("1", "Audio Counting", "", (), answer) for answer in ("acoustic_guitar", "Yes", "two"))
    sample = QuestionSample("a", "a", Path(), 0.0, 1, "test", questions=questions)
    written = tuple((Written(text, 0.0),) for text in ("acoustic guitar", "yes", "one"))
    split, kept = (GenerativeAVQA(SimpleNamespace(joined=joined), None) for joined in ("split", "kept"))
    assert split.hits(sample, WrittenAnswers(written)) == [True, True, False]
    assert kept.hits(sample, WrittenAnswers(written)) == [False, True, False]
    assert kept.clean("acoustic_guitar") == "acousticguitar"  # as VALOR's public code trains it
