"""Base of the tasks with questions: metrics, lines of results, reports, baselines and made-up questions."""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from avpea.labels import Question, QuestionLabels, QuestionSample
from avpea.metrics.answers import majority, question_metrics
from avpea.tables import Table, how_many
from avpea.tasks import Confusion, Figure, Mistake, Task

__all__ = ["QuestionTask"]


class QuestionTask(Task):
    """A task whose samples are videos with any number of questions about them."""

    figure = Figure(
        "overall_accuracy",
        "overall accuracy",
        "per_type_accuracy",
        "type of question",
        "Types of questions",
        beside={"mean_of_three": "mean of three"},
    )
    needs = QuestionLabels
    verb = "ask"
    worst = "ten surest wrong answers"
    columns = ("question", "answer", "probability")
    use = 'avpea ask {run} VIDEO "QUESTION"'
    tag = "question-answering"
    example = 'ask("video.mp4", "How many instruments are sounding?")'
    unexported = "its answers need a question beside frames and sound"
    labels: QuestionLabels

    @abstractmethod
    def hits(self, sample: QuestionSample, answer: Any) -> list[bool]:
        """Whether each question of a sample is answered correctly."""

    def expected(self, sample: QuestionSample) -> list[str]:
        """The annotated answer to each question, in the form in which predictions are."""
        return [question.answer for question in sample.questions]

    @abstractmethod
    def predictions(self, answer: Any) -> Iterable[dict[str, Any]]:
        """Prediction and confidence for each question, as plain values."""

    def evaluate(self, samples: Sequence[QuestionSample], answers: Sequence[Any]) -> dict[str, Any]:
        """Accuracies in [0, 1] over questions: overall, mean of the three modalities, by modality, type and wording."""
        asked = [question for sample in samples for question in sample.questions]
        correct = [hit for sample, answer in zip(samples, answers, strict=True) for hit in self.hits(sample, answer)]
        return question_metrics([q.type for q in asked], [q.template for q in asked], correct)

    def score(self, sample: QuestionSample, answer: Any) -> int:
        """Number of questions that are answered correctly."""
        return sum(self.hits(sample, answer))

    def row(self, sample: QuestionSample, answer: Any) -> dict[str, Any]:
        """Each question with its target, prediction and confidence, and whether it is answered correctly."""
        told = zip(
            sample.questions, self.expected(sample), self.predictions(answer), self.hits(sample, answer), strict=True
        )
        questions = [
            {
                "question_id": question.question_id,
                "type": question.type,
                "question": " ".join(question.words),
                "target": target,
                **predicted,
                "correct": hit,
            }
            for question, target, predicted, hit in told
        ]
        return {"key": sample.key, "video": sample.video_id, "questions": questions}

    def references(self, train: Sequence[QuestionSample], samples: Sequence[QuestionSample]) -> dict[str, float]:
        """Accuracy of always giving the most frequent training answer: of all questions, the type, the wording."""
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

    def examples(self, count: int, segments: int) -> list[QuestionSample]:
        """Samples with five questions each, of random words and answers."""
        vocabulary = self.labels.vocabulary
        words, answers = vocabulary.words, vocabulary.answers

        def question(number: int) -> Question:
            chosen = torch.randint(1, len(words), (vocabulary.length,)).tolist()
            answer = answers[int(torch.randint(len(answers), ()))]
            return Question(f"{number}", "Audio Counting", "", tuple(words[i] for i in chosen), answer)

        return [
            QuestionSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", questions=tuple(map(question, range(5))))
            for i in range(count)
        ]

    @classmethod
    def confusion(cls, metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Confusion | None:
        """Of answers, in alphabetical order; None if answers are no texts."""
        pairs = Counter((one.get("target"), one.get("prediction")) for row in rows for one in row.get("questions", ()))
        names = sorted({name for pair in pairs for name in pair if isinstance(name, str)})
        if not names or any(not isinstance(name, str) for pair in pairs for name in pair):
            return None
        return Confusion("answer", tuple(names), tuple(tuple(pairs[one, other] for other in names) for one in names))

    @classmethod
    def mistakes(cls, rows: Sequence[Mapping[str, Any]], count: int) -> list[Mistake]:
        """Wrongly answered questions."""
        found = []
        for row in rows:
            for one in row.get("questions", ()):
                if not one.get("correct", one.get("prediction") == one["target"]):  # not told by earlier versions
                    sure = one.get("confidence", math.exp(min(0.0, one.get("log_probability", 0.0))))
                    asked = one["question"]
                    found.append(Mistake(row["key"], None, one["target"], str(one.get("prediction")), sure, asked))
        return sorted(found, key=lambda one: -(one.confidence or 0.0))[:count]

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterator[str | Table]:
        """Accuracy by type and modality, both averages, and accuracy by wording."""
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
            many = how_many(metrics["unanswerable"], "question has an answer", "questions have answers")
            yield f"{many} that no training question has, and count as wrong."
        if metrics.get("unwritable"):
            wrong = "question counts as wrong, as its answer has", "questions count as wrong, as their answers have"
            yield f"{how_many(metrics['unwritable'], *wrong)} characters that the text model does not know."
        if metrics.get("written_but_no_answer"):
            yield f"{metrics['written_but_no_answer']} written answers are none of the training questions'."
