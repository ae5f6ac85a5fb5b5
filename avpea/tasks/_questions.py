"""What the tasks with questions share: lines of results, what frequent answers score, made-up questions, reports."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from avpea.labels import Question, QuestionSample, QuestionVocabulary
from avpea.metrics.answers import majority
from avpea.metrics.figures import Figure
from avpea.tables import Table

__all__ = ["ANSWER_FIGURE", "example_questions", "most_frequent", "question_report", "question_rows"]

ANSWER_FIGURE = Figure(
    "overall_accuracy",
    "overall accuracy",
    "per_type_accuracy",
    "type of question",
    "Types of questions",
    beside={"mean_of_three": "mean of three"},
)


def question_report(metrics: Mapping[str, Any]) -> Iterator[str | Table]:
    """Nine types, three modalities, and both averages; then each wording."""
    rows: list[tuple[str, str] | None] = []
    for part in ("per_type_accuracy", "per_modality_accuracy"):
        rows += [(name, f"{100 * share:.2f} %") for name, share in metrics[part].items()]
        rows.append(None)
    mean = metrics["mean_of_three"]
    rows.append((f"all {metrics['questions']} questions (overall)", f"{100 * metrics['overall_accuracy']:.2f} %"))
    rows.append(("mean of the three modalities (the paper's)", "-" if mean is None else f"{100 * mean:.2f} %"))
    yield Table(["questions", "accuracy"], rows)
    wordings = [
        (name, f"{100 * figures['accuracy']:.1f} %", str(figures["questions"]))
        for name, figures in metrics["per_template"].items()
    ]
    yield Table(["wording", "accuracy", "questions"], wordings, "Wordings")
    if metrics.get("unanswerable"):
        yield f"{metrics['unanswerable']} questions have answers that no training question has, and count as wrong."
    if metrics.get("written_but_no_answer"):
        yield f"{metrics['written_but_no_answer']} written answers are none of the training questions'."


def question_rows(sample: QuestionSample, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A video's questions with what was annotated and what was answered, as plain values for a line of a file."""
    questions = [
        {
            "question_id": question.question_id,
            "type": question.type,
            "question": " ".join(question.words),
            "target": question.answer,
            **answered,
        }
        for question, answered in zip(sample.questions, found, strict=True)
    ]
    return {"key": sample.key, "video": sample.video_id, "questions": questions}


def most_frequent(train: Sequence[QuestionSample], samples: Sequence[QuestionSample]) -> dict[str, float]:
    """What the most frequent training answer scores: of all questions, of the type, of the wording."""
    known = [question for sample in train for question in sample.questions]
    asked = [question for sample in samples for question in sample.questions]
    if not known:
        return {}
    groups: dict[str, Callable[[Question], str]] = {
        "most frequent answer": lambda _: "",
        "most frequent answer of the type": lambda q: q.type,
        "most frequent answer of the wording": lambda q: f"{q.type}: {q.template}",
    }
    scores = {}
    for name, group in groups.items():
        best = majority([group(q) for q in known], [q.answer for q in known])
        scores[name] = sum(best.get(group(q)) == q.answer for q in asked) / len(asked)
    return scores


def example_questions(vocabulary: QuestionVocabulary, count: int, segments: int) -> list[QuestionSample]:
    """Samples with five questions each, of random words and answers."""
    words, answers = vocabulary.words, vocabulary.answers

    def question(number: int) -> Question:
        chosen = torch.randint(1, len(words), (vocabulary.length,)).tolist()
        answer = answers[int(torch.randint(len(answers), ()))]
        return Question(f"{number}", "Audio Counting", "", tuple(words[i] for i in chosen), answer)

    return [
        QuestionSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", questions=tuple(map(question, range(5))))
        for i in range(count)
    ]
