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
from avpea.text import build_text
from avpea.train import train
from tests.tiny import section

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
    long = load(run).ask(tiny_asking().data.root + "/AVE/g4.mp4", "which colour sounds first " * 10 + "at the end")
    assert long.question.words[:2] == ("which", "colour")
    assert long.question.too_long[-3:] == ("at", "the", "end")
    assert len(long.question.words) + len(long.question.too_long) == 43
    assert long.to_dict()["left_out"] == list(long.question.too_long)
    assert any(one.startswith("Left out, because the model reads no longer ones: ") for one in long.question.remarks())
    with pytest.raises(AvpeaError, match="question is empty"):
        load(run).ask("video.mp4", " ")


def task(joined: str = "split", answers: tuple[str, ...] = ("yes",)) -> GenerativeAVQA:
    pytest.importorskip("tokenizers")
    options = section("head", "writer", text={"name": "tiny"})
    head = SimpleNamespace(joined=joined, text=build_text(options.text))
    return GenerativeAVQA(head, SimpleNamespace(names=answers))


def asked(*answers: str) -> QuestionSample:
    questions = tuple(Question(f"{i}", "Audio Counting", "", ("Why",), answer) for i, answer in enumerate(answers))
    return QuestionSample("a", "a", Path(), 0.0, 1, "test", questions=questions)


def wrote(*texts: str) -> WrittenAnswers:
    return WrittenAnswers(tuple((Written(text, -0.1),) for text in texts))


def test_answers_are_compared_after_cleaning_both() -> None:
    sample, written = asked("acoustic_guitar", "Yes", "two"), wrote("acoustic guitar", "yes", "one")
    split, kept = task("split"), task("kept")
    assert split.hits(sample, written) == [True, True, False]
    assert kept.hits(sample, written) == [False, True, False]
    assert kept.clean("acoustic_guitar") == "acousticguitar"  # as VALOR's public code trains it


def test_answers_are_compared_as_the_text_model_writes_them() -> None:
    both, sample = task(answers=("Café", "nein")), asked("Café", "Über", "5 \U0001f600")
    assert both.expected(sample)[:2] == ["cafe", "uber"]
    written = wrote("cafe", "uber", "5 [UNK]")
    assert both.hits(sample, written) == [True, True, False]  # a piece that is unknown may be any other one
    found = both.evaluate([sample], [written])
    assert (found["written_but_no_answer"], found["unwritable"]) == (2, 1)
    said = [part for part in GenerativeAVQA.report(found) if isinstance(part, str)]
    assert "1 question counts as wrong, as its answer has characters that the text model does not know." in said


def test_right_answers_are_no_mistakes_and_no_class_of_their_own() -> None:
    row = task().row(asked("acoustic_guitar", "Café", "no"), wrote("acoustic guitar", "cafe", "yes"))
    assert [one["correct"] for one in row["questions"]] == [True, True, False]
    (mistake,) = GenerativeAVQA.mistakes([row], 10)
    assert (mistake.expected, mistake.answered) == ("no", "yes")
    confusion = GenerativeAVQA.confusion({}, [row])
    assert confusion is not None
    assert confusion.names == ("acoustic guitar", "cafe", "no", "yes")
    for one in row["questions"]:  # as earlier versions have written it
        del one["correct"]
    assert len(GenerativeAVQA.mistakes([row], 10)) == 1
