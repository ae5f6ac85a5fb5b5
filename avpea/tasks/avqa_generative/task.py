"""Generative question answering: the answer is written word by word, in the manner of VALOR (AV-PEA paper, Table 3).

MUSIC-AVQA's questions and answers; an answer is correct when it is the annotated one after both were cleaned.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from avpea.labels import QuestionLabels, QuestionSample
from avpea.metrics.answers import question_metrics
from avpea.tables import Table
from avpea.tasks import Viewing
from avpea.tasks._base import video_index
from avpea.tasks._questions import ANSWER_FIGURE, example_questions, most_frequent, question_report, question_rows
from avpea.tasks._text import TextTargets, WritingTask, clean
from avpea.tasks.avc.heads._beams import Written
from avpea.tasks.avc.heads.writer import Writer
from avpea.tasks.avqa.answer import SHOWN, Reply, typed

__all__ = ["EXTENSION", "GenerativeAVQA", "WrittenAnswers"]


@dataclass(frozen=True)
class WrittenAnswers:
    """What was written to the questions about one video: for each some texts, the likeliest first."""

    written: tuple[tuple[Written, ...], ...]


class GenerativeAVQA(WritingTask):
    """Answers as short texts after the question, which is the prompt."""

    figure = ANSWER_FIGURE
    needs = QuestionLabels
    heads = Writer
    default_head = "writer"
    verb = "ask"
    use = 'avpea ask {run} VIDEO "QUESTION"'
    tag = "question-answering"
    example = 'ask("video.mp4", "How many instruments are sounding?")'
    labels: QuestionLabels

    def targets(self, samples: Sequence[QuestionSample]) -> TextTargets:
        """Answers and questions of a batch, cleaned; a prompt of the recipe's goes before the question."""
        asked = [question for sample in samples for question in sample.questions]
        return TextTargets(
            self.head.text.sentences([clean(question.answer) for question in asked]),
            video_index(len(sample.questions) for sample in samples),
            self.head.text.sentences([self.prompt(" ".join(question.words)) for question in asked]),
        )

    def prompt(self, question: str) -> str:
        """A question as the text model reads it."""
        return clean(f"{self.head.prompt} {question}")

    def answers(self, output: Any, targets: TextTargets) -> list[WrittenAnswers]:
        """What is written to each video's questions."""
        written = self.head.write(output, targets.video, targets.questions)
        video = targets.video.tolist()
        return [
            WrittenAnswers(tuple(tuple(some) for some, of in zip(written, video, strict=True) if of == row))
            for row in range(max(video) + 1)
        ]

    def evaluate(self, samples: Sequence[QuestionSample], answers: Sequence[WrittenAnswers]) -> dict[str, Any]:
        """Shares in [0, 1] over questions, as the task `avqa` has them, and what was never an answer in training."""
        asked = [question for sample in samples for question in sample.questions]
        correct = [hit for sample, answer in zip(samples, answers, strict=True) for hit in _hits(sample, answer)]
        known = {clean(answer) for answer in self.labels.names}
        return {
            **question_metrics([q.type for q in asked], [q.template for q in asked], correct),
            "written_but_no_answer": sum(some[0].text not in known for answer in answers for some in answer.written),
        }

    def score(self, sample: QuestionSample, answer: WrittenAnswers) -> int:
        """Questions that are answered correctly."""
        return sum(_hits(sample, answer))

    def references(self, train: Sequence[QuestionSample], samples: Sequence[QuestionSample]) -> dict[str, float]:
        """What the most frequent training answer scores: of all questions, of the type, of the wording."""
        return most_frequent(train, samples)

    def row(self, sample: QuestionSample, answer: WrittenAnswers) -> dict[str, Any]:
        """Each question with its target, prediction and confidence."""
        best = [some[0] for some in answer.written]
        return question_rows(
            sample, [{"prediction": one.text, "log_probability": round(one.log_probability, 4)} for one in best]
        )

    def examples(self, count: int, segments: int) -> list[QuestionSample]:
        """Samples with five questions each, of random words and answers."""
        return example_questions(self.labels.vocabulary, count, segments)

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterable[str | Table]:
        """Accuracy by type, by modality and by wording."""
        return question_report(metrics)

    def predict(self, viewing: Viewing, question: str) -> Reply:
        """Written answers to a question about a video of any length: those in sight, by their probability.

        As many seconds as in training are looked at, spread over the whole video.
        """
        asked = typed(question)
        clip = viewing.spread()
        (window,) = viewing.windows(clip)
        prompt = self.head.text.sentences([self.prompt(asked.text)])
        (written,) = self.head.write(viewing.run(window), torch.zeros(1, dtype=torch.int64), prompt, beams=SHOWN)
        return Reply.of(clip, asked, ((one.text, math.exp(one.log_probability)) for one in written))


def _hits(sample: QuestionSample, answer: WrittenAnswers) -> list[bool]:
    pairs = zip(sample.questions, answer.written, strict=True)
    return [some[0].text == clean(question.answer) for question, some in pairs]


EXTENSION = GenerativeAVQA
