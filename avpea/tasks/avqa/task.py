"""Audio-visual question answering (AVQA): choose one of the training answers for a question about a video.

AV-PEA paper, Section 4.2 and Table 2; MUSIC-AVQA (Li et al., CVPR 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.labels import Question, QuestionSample
from avpea.metrics.calibration import temper
from avpea.tasks import Chances, Encoded, Viewing
from avpea.tasks._encoded import video_index
from avpea.tasks._questions import QuestionTask
from avpea.tasks.avqa.answer import Reply, read_question
from avpea.tasks.avqa.heads import AnsweringHead, QuestionOutput, shuffled_frames

__all__ = ["AVQA", "EXTENSION", "Answers", "AskedQuestions"]


@dataclass(frozen=True)
class AskedQuestions:
    """The questions of a batch, in the order of its videos.

    Attributes:
        token_ids: Indices of the words in the vocabulary; 0 is padding.
        video: Index in the batch of each question's video.
        answers: Index of each annotated answer; -1 for an answer that no training question has.
    """

    token_ids: Int[Tensor, "questions length"]
    video: Int[Tensor, " questions"]
    answers: Int[Tensor, " questions"]

    def to(self, device: torch.device | str) -> "AskedQuestions":
        """Move to a device."""
        return AskedQuestions(self.token_ids.to(device), self.video.to(device), self.answers.to(device))


@dataclass(frozen=True)
class Answers:
    """The answers to the questions about one video.

    Attributes:
        probabilities: Probability of each answer.
        spatial: Attention of each segment's sound to the patches of its frame; None without video.
        seen: Attention of each question to the frame of each segment; None without video.
        heard: Attention of each question to the sound of each segment; None without video.
    """

    probabilities: Float[Tensor, "questions answers"]
    spatial: Float[Tensor, "segments patches"] | None
    seen: Float[Tensor, "questions segments"] | None
    heard: Float[Tensor, "questions segments"] | None


class AVQA(QuestionTask):
    """Question answering as classification among the answers of the training questions.

    A video is encoded once for all questions about it.
    """

    heads: ClassVar[Any] = AnsweringHead
    default_head = "avst"

    def targets(self, samples: Sequence[QuestionSample]) -> AskedQuestions:
        """The questions of a batch, without words that the vocabulary does not have."""
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
        """The head's output; in training with negatives, which by default are frames of the batch's other videos."""
        asked = targets.token_ids, targets.video
        if encoded.visual is None:
            return cast("QuestionOutput", self.head(None, None, *asked))
        given = encoded.negative_patches
        negatives = self.others(encoded.patches) if given is None else given
        return cast("QuestionOutput", self.head(encoded.patches, encoded.sounds, *asked, negatives))

    def others(
        self, seen: Float[Tensor, "videos segments patches dim"]
    ) -> Float[Tensor, "videos segments patches dim"] | None:
        """Negatives from the batch itself: drawn at random in training, none in evaluation."""
        return shuffled_frames(seen) if self.training else None

    def loss(
        self, output: QuestionOutput, targets: AskedQuestions
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The total loss, and its terms by name."""
        terms = self.head.loss(output, targets.answers)
        return self.total(terms), terms

    def answers(self, output: QuestionOutput, targets: AskedQuestions) -> list[Answers]:
        """The answers to each video's questions."""
        assert output.answers is not None
        chances = output.answers.float().softmax(dim=-1).cpu()
        if self.calibration is not None:
            chances = temper(chances, self.calibration.temperature)
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

    def chances(self, samples: Sequence[QuestionSample], answers: Sequence[Answers]) -> Chances | None:
        """The probabilities of the answers to all questions."""
        probabilities = torch.cat([answer.probabilities for answer in answers])
        right = [self.labels.vocabulary.answer_index(q.answer) for sample in samples for q in sample.questions]
        return Chances(probabilities, probabilities.argmax(dim=-1), torch.tensor(right, dtype=torch.int64))

    def evaluate(self, samples: Sequence[QuestionSample], answers: Sequence[Answers]) -> dict[str, Any]:
        """Accuracies as for every `QuestionTask`, and how many questions have an answer that cannot be given.

        These are answers that no training question has; such questions count as wrong.
        """
        asked = [question for sample in samples for question in sample.questions]
        unanswerable = sum(self.labels.vocabulary.answer_index(question.answer) < 0 for question in asked)
        return {**super().evaluate(samples, answers), "unanswerable": unanswerable}

    def hits(self, sample: QuestionSample, answer: Answers) -> list[bool]:
        """Whether the most probable answer is the annotated one."""
        given = answer.probabilities.argmax(dim=-1).tolist()
        return [
            self.labels.names[index] == question.answer for index, question in zip(given, sample.questions, strict=True)
        ]

    def predictions(self, answer: Answers) -> list[dict[str, Any]]:
        """The most probable answers, and their probabilities."""
        best = answer.probabilities.max(dim=-1)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [{"prediction": self.labels.names[i], "confidence": round(chance, 4)} for i, chance in found]

    def predict(self, viewing: Viewing, question: str) -> Reply:
        """The answer to a question about a video of any length.

        The model sees as many seconds as in training, spread over the whole video.

        Raises:
            AvpeaError: The question is empty, or the vocabulary has none of its words.
        """
        asked = read_question(self.labels.vocabulary, question)  # before the video, which takes longer
        clip = viewing.spread()
        (window,) = viewing.windows(clip)
        one = Question("", "", asked.text, asked.words, "")
        sample = QuestionSample("asked", "asked", clip.path, 0.0, len(clip.frames), "test", questions=(one,))
        targets = self.targets([sample])
        found = self.answers(viewing.run(window, targets), targets)[0]
        chances = zip(self.labels.names, found.probabilities[0].tolist(), strict=True)
        return Reply.of(clip, asked, chances, found.spatial, found.seen, found.heard, self.calibration)


EXTENSION = AVQA
