"""Generative question answering: the answer is written word by word, as in VALOR (AV-PEA paper, Table 3).

An answer is correct if it equals the annotated one as the text model writes it: cleaned by `clean`, and of the word
pieces that its tokenizer makes of it, which may be without accents.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from avpea.labels import QuestionSample
from avpea.tasks import Viewing
from avpea.tasks._encoded import video_index
from avpea.tasks._questions import QuestionTask
from avpea.tasks._text import TextTargets, WritingTask, clean
from avpea.tasks.avc.heads._beams import Written
from avpea.tasks.avc.heads.writer import Writer
from avpea.tasks.avqa.answer import SHOWN, AskedQuestion, Reply, typed

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

    def written(self, answers: Sequence[str]) -> list[tuple[str, bool]]:
        """Each answer as the text model writes it, and whether it can: whether it knows all pieces of the answer."""
        cleaned = [self.clean(answer) for answer in answers]
        if not cleaned:
            return []
        text, found = self.head.text, []
        for own, ids in zip(cleaned, text.sentences(cleaned).token_ids.tolist(), strict=True):
            known = text.unknown_id not in ids
            found.append((text.text(ids) if known else own, known))
        return found

    def evaluate(self, samples: Sequence[QuestionSample], answers: Sequence[WrittenAnswers]) -> dict[str, Any]:
        """Accuracies as for every `QuestionTask`, and two numbers.

        They are how many written answers are none of the training answers, and how many questions have an answer that
        cannot be written; such questions count as wrong.
        """
        known = {text for text, _ in self.written(self.labels.names)}
        strange = sum(some[0].text not in known for answer in answers for some in answer.written)
        asked = [question.answer for sample in samples for question in sample.questions]
        unwritable = sum(not possible for _, possible in self.written(asked))
        return {
            **super().evaluate(samples, answers),
            "written_but_no_answer": strange,
            "unwritable": unwritable,
        }

    def expected(self, sample: QuestionSample) -> list[str]:
        """The annotated answers as the text model writes them."""
        return [text for text, _ in self.written([question.answer for question in sample.questions])]

    def hits(self, sample: QuestionSample, answer: WrittenAnswers) -> list[bool]:
        """Whether the likeliest text equals the annotated answer as the text model writes it."""
        return [some[0].text == text for text, some in zip(self.expected(sample), answer.written, strict=True)]

    def predictions(self, answer: WrittenAnswers) -> list[dict[str, Any]]:
        """The likeliest texts, and their log-probabilities."""
        best = [some[0] for some in answer.written]
        return [{"prediction": one.text, "log_probability": round(one.log_probability, 4)} for one in best]

    def _read(self, asked: AskedQuestion) -> AskedQuestion:
        """A question with what the text model does not read of it, as it reads no more than `head.text.length`."""
        words = self.clean(asked.text).split()
        _, behind = self.head.text.unread(self.prompt(asked.text))
        kept = max(0, len(words) - len(behind))
        return replace(asked, words=tuple(words[:kept]), too_long=tuple(words[kept:])) if behind else asked

    def predict(self, viewing: Viewing, question: str) -> Reply:
        """Answers to a question about a video of any length, the most probable first.

        The model sees as many seconds as in training, spread over the whole video.

        Raises:
            AvpeaError: The question is empty.
        """
        asked = self._read(typed(self.labels.vocabulary, question))
        clip = viewing.spread()
        (window,) = viewing.windows(clip)
        prompt = self.head.text.sentences([self.prompt(asked.text)]).to(self.device)
        only = torch.zeros(1, dtype=torch.int64, device=self.device)
        (written,) = self.head.write(viewing.run(window), only, prompt, beams=SHOWN)
        return Reply.of(clip, asked, ((one.text, math.exp(one.log_probability)) for one in written))


EXTENSION = GenerativeAVQA
