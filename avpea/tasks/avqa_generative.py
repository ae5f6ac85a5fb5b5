"""Generative question answering: the answer is written word by word, in the manner of VALOR (AV-PEA paper, Table 3).

MUSIC-AVQA's questions and answers; an answer is right when it is the annotated one after both were cleaned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avpea.dataset import QuestionSample
from avpea.experiment import Experiment
from avpea.heads._search import Written
from avpea.heads.writer import Writer
from avpea.metrics.answers import question_metrics
from avpea.questions import QuestionVocabulary
from avpea.tasks._base import owners
from avpea.tasks._text import Told, WritingTask, build_head, clean
from avpea.tasks.avqa import made_up_questions, most_frequent, question_rows

__all__ = ["GenerativeAVQA", "WrittenAnswers"]


@dataclass(frozen=True)
class WrittenAnswers:
    """What was written to the questions about one video: for each some texts, the likeliest first."""

    written: tuple[tuple[Written, ...], ...]


class GenerativeAVQA(WritingTask):
    """Answers as short texts after the question, which is the prompt.

    Args:
        head: What writes.
        questions: Words and answers of the data set, for made-up samples.
    """

    metric = "overall_accuracy"
    breakdown = "per_type_accuracy"
    use = 'avpea ask {run} VIDEO "QUESTION"'
    needs = "questions"

    def __init__(self, head: Writer, questions: QuestionVocabulary) -> None:
        super().__init__(head)
        self.questions = questions

    @classmethod
    def build(
        cls,
        experiment: Experiment,
        visual_dim: int,
        audio_dim: int,
        num_classes: int,
        questions: QuestionVocabulary | None = None,
    ) -> "GenerativeAVQA":
        """The task with a new head."""
        assert questions is not None
        return cls(build_head(experiment, Writer, "avqa_generative", visual_dim, audio_dim), questions)

    def targets(self, samples: Sequence[QuestionSample]) -> Told:
        """Answers and questions of a batch, cleaned; a prompt of the recipe's goes before the question."""
        asked = [question for sample in samples for question in sample.questions]
        return Told(
            self.head.text.sentences([clean(question.answer) for question in asked]),
            owners(len(sample.questions) for sample in samples),
            self.head.text.sentences([self.prompt(" ".join(question.words)) for question in asked]),
        )

    def prompt(self, question: str) -> str:
        """A question as the text model reads it."""
        return clean(f"{self.head.prompt} {question}")

    def answers(self, output: Any, targets: Told) -> list[WrittenAnswers]:
        """What is written to each video's questions."""
        written = self.head.write(output, targets.video, targets.questions)
        video = targets.video.tolist()
        return [
            WrittenAnswers(tuple(tuple(some) for some, of in zip(written, video, strict=True) if of == row))
            for row in range(max(video) + 1)
        ]

    def evaluate(
        self, samples: Sequence[QuestionSample], answers: Sequence[WrittenAnswers], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Shares in [0, 1] over questions, as the task `avqa` has them, and what was never an answer in training."""
        asked = [question for sample in samples for question in sample.questions]
        right = [hit for sample, answer in zip(samples, answers, strict=True) for hit in _hits(sample, answer)]
        known = {clean(answer) for answer in self.questions.answers}
        return {
            **question_metrics([q.type for q in asked], [q.template for q in asked], right),
            "written_but_no_answer": sum(some[0].text not in known for answer in answers for some in answer.written),
        }

    def right(self, sample: QuestionSample, answer: WrittenAnswers) -> int:
        """Questions that are answered rightly."""
        return sum(_hits(sample, answer))

    def references(self, train: Sequence[QuestionSample], samples: Sequence[QuestionSample]) -> dict[str, float]:
        """What the most frequent training answer scores: of all questions, of the type, of the wording."""
        return most_frequent(train, samples)

    def row(self, sample: QuestionSample, answer: WrittenAnswers, class_names: Sequence[str]) -> dict[str, Any]:
        """Each question with its target, prediction and confidence."""
        best = [some[0] for some in answer.written]
        return question_rows(
            sample, [{"prediction": one.text, "log_probability": round(one.log_probability, 4)} for one in best]
        )

    def examples(self, count: int, segments: int) -> list[QuestionSample]:
        """Samples with five questions each, of random words and answers."""
        return made_up_questions(self.questions, count, segments)


def _hits(sample: QuestionSample, answer: WrittenAnswers) -> list[bool]:
    pairs = zip(sample.questions, answer.written, strict=True)
    return [some[0].text == clean(question.answer) for question, some in pairs]


# Of the public classes here, this one is the task.
EXTENSION = GenerativeAVQA
