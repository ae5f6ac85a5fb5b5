"""Audio-visual question answering (AVQA): one of the answers that training knows, to a question about a video.

AV-PEA paper, Section 4.2 and Table 2; MUSIC-AVQA (Li et al., CVPR 2022).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.labels import Question, QuestionLabels, QuestionSample
from avpea.metrics.answers import question_metrics
from avpea.tables import Table
from avpea.tasks import Encoded, Task, Viewing
from avpea.tasks._base import video_index
from avpea.tasks._questions import ANSWER_FIGURE, example_questions, most_frequent, question_report, question_rows
from avpea.tasks.avqa.answer import Reply, read_question
from avpea.tasks.avqa.heads import AnsweringHead, QuestionOutput, shuffled_frames

__all__ = ["AVQA", "EXTENSION", "Answers", "AskedQuestions"]


@dataclass(frozen=True)
class AskedQuestions:
    """The questions of a batch, one video's after another's.

    Attributes:
        token_ids: Words as indices in the vocabulary, 0 is padding.
        video: Which video of the batch each question is about.
        answers: Index of the annotated answer; -1 where training knows none such.
    """

    token_ids: Int[Tensor, "questions length"]
    video: Int[Tensor, " questions"]
    answers: Int[Tensor, " questions"]

    def to(self, device: torch.device | str) -> "AskedQuestions":
        """Move to a device."""
        moved = {name: getattr(self, name).to(device) for name in ("token_ids", "video", "answers")}
        return replace(self, **moved)


@dataclass(frozen=True)
class Answers:
    """What is answered to the questions about one video.

    Attributes:
        probabilities: Of each answer.
        spatial: Where in each segment's frame its sound was found: shares of the patches; None without video.
        seen: Share that each segment's picture had in the answer; None without video.
        heard: Share that each segment's sound had.
    """

    probabilities: Float[Tensor, "questions answers"]
    spatial: Float[Tensor, "segments patches"] | None
    seen: Float[Tensor, "questions segments"] | None
    heard: Float[Tensor, "questions segments"] | None


class AVQA(Task):
    """Question answering as classification among the answers of the training questions.

    A video is encoded once for all questions about it.

    Args:
        head: What answers.
        labels: What it can read and answer.
    """

    figure = ANSWER_FIGURE
    needs = QuestionLabels
    heads: ClassVar[Any] = AnsweringHead
    default_head = "avst"
    verb = "ask"
    use = 'avpea ask {run} VIDEO "QUESTION"'
    tag = "question-answering"
    example = 'ask("video.mp4", "How many instruments are sounding?")'
    labels: QuestionLabels

    def targets(self, samples: Sequence[QuestionSample]) -> AskedQuestions:
        """The questions of a batch; words that the vocabulary does not have are left out."""
        vocabulary = self.labels.vocabulary
        rows = [vocabulary.indices(question.words)[0] for sample in samples for question in sample.questions]
        longest = max(map(len, rows))
        return AskedQuestions(
            token_ids=torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64),
            video=video_index(len(sample.questions) for sample in samples),
            answers=torch.tensor(
                [vocabulary.answer_index(q.answer) for s in samples for q in s.questions], dtype=torch.int64
            ),
        )

    def forward(self, encoded: Encoded, targets: Any = None) -> QuestionOutput:
        """The head's output; in training with negatives, by default frames of the batch's other videos."""
        asked = targets.token_ids, targets.video
        if encoded.visual is None:
            return cast("QuestionOutput", self.head(None, None, *asked))
        given = encoded.negative_patches
        negatives = self.others(encoded.patches) if given is None else given
        return cast("QuestionOutput", self.head(encoded.patches, encoded.sounds, *asked, negatives))

    def others(
        self, seen: Float[Tensor, "videos segments patches dim"]
    ) -> Float[Tensor, "videos segments patches dim"] | None:
        """Frames that do not belong to the sounds, from the batch itself: drawn in training, none in evaluation."""
        return shuffled_frames(seen) if self.training else None

    def loss(
        self, output: QuestionOutput, targets: AskedQuestions
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The loss, and the named terms that it is the sum of."""
        terms = self.head.loss(output, targets.answers)
        return self.total(terms), terms

    def answers(self, output: QuestionOutput, targets: AskedQuestions) -> list[Answers]:
        """What is answered to each video's questions."""
        assert output.answers is not None
        chances = output.answers.float().softmax(dim=-1).cpu()
        found = []
        for video in range(int(targets.video.max()) + 1):
            own = (targets.video == video).cpu()
            found.append(
                Answers(
                    chances[own],
                    None if output.spatial is None else output.spatial[video].float().cpu(),
                    *(None if one is None else one.float().cpu()[own] for one in (output.seen, output.heard)),
                )
            )
        return found

    def evaluate(self, samples: Sequence[QuestionSample], answers: Sequence[Answers]) -> dict[str, Any]:
        """Shares in [0, 1], over questions: overall, the mean of three, by modality, by type, by wording.

        An answer that no training question has cannot be given: such questions count as wrong, and how many
        there are is told.
        """
        asked = [question for sample in samples for question in sample.questions]
        correct = [hit for sample, answer in zip(samples, answers, strict=True) for hit in self._hits(sample, answer)]
        return {
            **question_metrics([q.type for q in asked], [q.template for q in asked], correct),
            "unanswerable": sum(self.labels.vocabulary.answer_index(q.answer) < 0 for q in asked),
        }

    def score(self, sample: QuestionSample, answer: Answers) -> int:
        """Questions that are answered correctly."""
        return sum(self._hits(sample, answer))

    def _hits(self, sample: QuestionSample, answer: Answers) -> list[bool]:
        given = answer.probabilities.argmax(dim=-1).tolist()
        return [
            self.labels.names[index] == question.answer for index, question in zip(given, sample.questions, strict=True)
        ]

    def references(self, train: Sequence[QuestionSample], samples: Sequence[QuestionSample]) -> dict[str, float]:
        """What the most frequent training answer scores: of all questions, of the type, of the wording."""
        return most_frequent(train, samples)

    def examples(self, count: int, segments: int) -> list[QuestionSample]:
        """Samples with five questions each, of random words and answers."""
        return example_questions(self.labels.vocabulary, count, segments)

    def row(self, sample: QuestionSample, answer: Answers) -> dict[str, Any]:
        """Each question with its target, prediction and confidence."""
        best = answer.probabilities.max(dim=-1)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return question_rows(
            sample, [{"prediction": self.labels.names[i], "confidence": round(chance, 4)} for i, chance in found]
        )

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterable[str | Table]:
        """Accuracy by type, by modality and by wording."""
        return question_report(metrics)

    def predict(self, viewing: Viewing, question: str) -> Reply:
        """The answer to a question about a video of any length.

        As many seconds as in training are looked at, spread over the whole video.

        Raises:
            AvpeaError: The vocabulary has no word of the question.
        """
        asked = read_question(self.labels.vocabulary, question)  # before the video, which takes longer
        clip = viewing.spread()
        (window,) = viewing.windows(clip)
        one = Question("", "", asked.text, asked.words, "")
        sample = QuestionSample("asked", "asked", clip.path, 0.0, len(clip.frames), "test", questions=(one,))
        targets = self.targets([sample])
        found = self.answers(viewing.run(window, targets), targets)[0]
        chances = zip(self.labels.names, found.probabilities[0].tolist(), strict=True)
        return Reply.of(clip, asked, chances, found.spatial, found.seen, found.heard)


EXTENSION = AVQA
