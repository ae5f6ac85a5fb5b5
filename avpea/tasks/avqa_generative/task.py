"""Generative question answering: the answer is written word by word, as in VALOR (AV-PEA paper, Table 3).

An answer is correct if it equals the annotated one after `clean` was applied to both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from avpea.labels import QuestionSample
from avpea.tasks import Viewing
from avpea.tasks._encoded import video_index
from avpea.tasks._questions import QuestionTask
from avpea.tasks._text import TextTargets, WritingTask, clean
from avpea.tasks.avc.heads._beams import Written
from avpea.tasks.avc.heads.writer import Writer
from avpea.tasks.avqa.answer import SHOWN, Reply, typed

__all__ = ["EXTENSION", "GenerativeAVQA", "WrittenAnswers"]


@dataclass(frozen=True)
class WrittenAnswers:
    """The written answers to the questions about one video: for each question several texts, the likeliest first."""

    written: tuple[tuple[Written, ...], ...]


class GenerativeAVQA(QuestionTask, WritingTask):
    """Answers written as short texts, with the question as prompt."""

    heads = Writer
    default_head = "writer"

    def targets(self, samples: Sequence[QuestionSample]) -> TextTargets:
        """Answers and questions of a batch, cleaned; the recipe's prompt, if any, goes before each question."""
        asked = [question for sample in samples for question in sample.questions]
        return TextTargets(
            self.head.text.sentences([self.clean(question.answer) for question in asked]),
            video_index(len(sample.questions) for sample in samples),
            self.head.text.sentences([self.prompt(" ".join(question.words)) for question in asked]),
        )

    def prompt(self, question: str) -> str:
        """A question as the text model reads it, after the recipe's prompt."""
        return self.clean(f"{self.head.prompt} {question}")

    def clean(self, text: str) -> str:
        """A text as the recipe's `head.joined` cleans it."""
        return clean(text, self.head.joined)

    def answers(self, output: Any, targets: TextTargets) -> list[WrittenAnswers]:
        """The written answers to each video's questions."""
        written = self.head.write(output, targets.video, targets.questions)
        video = targets.video.tolist()
        return [
            WrittenAnswers(tuple(tuple(some) for some, of in zip(written, video, strict=True) if of == row))
            for row in range(max(video) + 1)
        ]

    def evaluate(self, samples: Sequence[QuestionSample], answers: Sequence[WrittenAnswers]) -> dict[str, Any]:
        """Accuracies as for every `QuestionTask`, and how many written answers are none of the training answers."""
        known = {self.clean(answer) for answer in self.labels.names}
        strange = sum(some[0].text not in known for answer in answers for some in answer.written)
        return {**super().evaluate(samples, answers), "written_but_no_answer": strange}

    def hits(self, sample: QuestionSample, answer: WrittenAnswers) -> list[bool]:
        """Whether the likeliest text equals the annotated answer, after cleaning."""
        pairs = zip(sample.questions, answer.written, strict=True)
        return [some[0].text == self.clean(question.answer) for question, some in pairs]

    def predictions(self, answer: WrittenAnswers) -> list[dict[str, Any]]:
        """The likeliest texts, and their log-probabilities."""
        best = [some[0] for some in answer.written]
        return [{"prediction": one.text, "log_probability": round(one.log_probability, 4)} for one in best]

    def predict(self, viewing: Viewing, question: str) -> Reply:
        """Answers to a question about a video of any length, the most probable first.

        The model sees as many seconds as in training, spread over the whole video.

        Raises:
            AvpeaError: The question is empty.
        """
        asked = typed(self.labels.vocabulary, question)
        clip = viewing.spread()
        (window,) = viewing.windows(clip)
        prompt = self.head.text.sentences([self.prompt(asked.text)]).to(self.device)
        only = torch.zeros(1, dtype=torch.int64, device=self.device)
        (written,) = self.head.write(viewing.run(window), only, prompt, beams=SHOWN)
        return Reply.of(clip, asked, ((one.text, math.exp(one.log_probability)) for one in written))


EXTENSION = GenerativeAVQA
