"""Audio-visual question answering (AVQA): one of the answers that training knows, to a question about a video.

AV-PEA paper, Section 4.2 and Table 2; MUSIC-AVQA (Li et al., CVPR 2022).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avpea.dataset import Question, QuestionSample
from avpea.experiment import Experiment
from avpea.heads._question import QuestionHead, QuestionOutput, shuffled_frames
from avpea.metrics.answers import majority, question_metrics
from avpea.questions import QuestionVocabulary
from avpea.tasks._base import Task, by_video, head_class, owners

__all__ = ["AVQA", "Answers", "Asked", "made_up_questions", "most_frequent", "question_rows"]


@dataclass(frozen=True)
class Asked:
    """The questions of a batch, one video's after another's.

    Attributes:
        words: Indices in the vocabulary, 0 is padding.
        video: Which video of the batch each question is about.
        answers: Index of the annotated answer; -1 where training knows none such.
    """

    words: Int[Tensor, "questions length"]
    video: Int[Tensor, " questions"]
    answers: Int[Tensor, " questions"]

    def to(self, device: torch.device | str) -> "Asked":
        """Move to a device."""
        return replace(self, words=self.words.to(device), video=self.video.to(device), answers=self.answers.to(device))


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
        head: What answers, from `avpea/heads/`.
        questions: What it can read and answer.
        frozen_negatives: Whether negatives are frames of any videos, seen without adapters, instead of the batch's.
    """

    metric = "overall_accuracy"
    breakdown = "per_type_accuracy"
    use = 'avpea ask {run} VIDEO "QUESTION"'
    needs = "questions"

    def __init__(self, head: QuestionHead, questions: QuestionVocabulary, frozen_negatives: bool = False) -> None:
        super().__init__(head)
        self.questions = questions
        self.reads_video = head.reads_video
        self.frozen_negatives = frozen_negatives

    @classmethod
    def build(
        cls,
        experiment: Experiment,
        visual_dim: int,
        audio_dim: int,
        num_classes: int,
        questions: QuestionVocabulary | None = None,
    ) -> "AVQA":
        """The task with a new head; the answers are the vocabulary's."""
        assert questions is not None
        head = head_class(experiment.head, QuestionHead, "avqa")
        made = head(visual_dim, audio_dim, len(questions.words), len(questions.answers))
        return cls(made, questions, experiment.head.negatives == "frozen" and made.reads_video)

    def targets(self, samples: Sequence[QuestionSample]) -> Asked:
        """The questions of a batch; words that the vocabulary does not have are left out."""
        rows = [self.questions.indices(question.words)[0] for sample in samples for question in sample.questions]
        longest = max(map(len, rows))
        return Asked(
            words=torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64),
            video=owners(len(sample.questions) for sample in samples),
            answers=torch.tensor(
                [self.questions.answer_index(q.answer) for s in samples for q in s.questions], dtype=torch.int64
            ),
        )

    def forward(
        self,
        visual: Float[Tensor, "images visual_tokens dim"] | None,
        audio: Float[Tensor, "images audio_tokens audio_dim"] | None,
        targets: Any = None,
        negatives: Float[Tensor, "images visual_tokens dim"] | None = None,
        *,
        segments: int,
        num_prefix_tokens: int,
        has_cls: bool,
        places: Tensor | None = None,
    ) -> QuestionOutput:
        """The head's output; in training with negatives, by default frames of the batch's other videos."""
        if visual is None or audio is None:
            return cast("QuestionOutput", self.head(None, None, targets.words, targets.video))
        seen, heard = by_video(visual[:, num_prefix_tokens:], segments), by_video(audio, segments)
        given = None if negatives is None else by_video(negatives[:, num_prefix_tokens:], segments)
        others = self.others(seen) if given is None else given
        return cast("QuestionOutput", self.head(seen, heard, targets.words, targets.video, others))

    def others(
        self, seen: Float[Tensor, "videos segments patches dim"]
    ) -> Float[Tensor, "videos segments patches dim"] | None:
        """Frames that do not belong to the sounds, from the batch itself: drawn in training, none in evaluation."""
        return shuffled_frames(seen) if self.training else None

    def loss(self, output: QuestionOutput, targets: Asked) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The loss, and the named terms that it is the sum of."""
        terms = self.head.loss(output, targets.answers)
        return self.total(terms), terms

    def answers(self, output: QuestionOutput, targets: Asked) -> list[Answers]:
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

    def evaluate(
        self, samples: Sequence[QuestionSample], answers: Sequence[Answers], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Shares in [0, 1], over questions: overall, the mean of three, by modality, by type, by wording.

        An answer that no training question has cannot be given: such questions count as wrong, and how many
        there are is told.
        """
        asked = [question for sample in samples for question in sample.questions]
        right = [hit for sample, answer in zip(samples, answers, strict=True) for hit in self._hits(sample, answer)]
        return {
            **question_metrics([q.type for q in asked], [q.template for q in asked], right),
            "unanswerable": sum(self.questions.answer_index(q.answer) < 0 for q in asked),
        }

    def right(self, sample: QuestionSample, answer: Answers) -> int:
        """Questions that are answered rightly."""
        return sum(self._hits(sample, answer))

    def _hits(self, sample: QuestionSample, answer: Answers) -> list[bool]:
        given = answer.probabilities.argmax(dim=-1).tolist()
        return [
            self.questions.answers[index] == question.answer
            for index, question in zip(given, sample.questions, strict=True)
        ]

    def references(self, train: Sequence[QuestionSample], samples: Sequence[QuestionSample]) -> dict[str, float]:
        """What the most frequent training answer scores: of all questions, of the type, of the wording."""
        return most_frequent(train, samples)

    def examples(self, count: int, segments: int) -> list[QuestionSample]:
        """Samples with five questions each, of random words and answers."""
        return made_up_questions(self.questions, count, segments)

    def row(self, sample: QuestionSample, answer: Answers, class_names: Sequence[str]) -> dict[str, Any]:
        """Each question with its target, prediction and confidence."""
        best = answer.probabilities.max(dim=-1)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return question_rows(
            sample, [{"prediction": self.questions.answers[i], "confidence": round(chance, 4)} for i, chance in found]
        )


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


def made_up_questions(questions: QuestionVocabulary, count: int, segments: int) -> list[QuestionSample]:
    """Samples with five questions each, of random words and answers."""
    words, answers = questions.words, questions.answers

    def question(number: int) -> Question:
        chosen = torch.randint(1, len(words), (questions.length,)).tolist()
        answer = answers[int(torch.randint(len(answers), ()))]
        return Question(f"{number}", "Audio Counting", "", tuple(words[i] for i in chosen), answer)

    return [
        QuestionSample(f"{i}", f"{i}", Path(), 0.0, segments, "train", questions=tuple(map(question, range(5))))
        for i in range(count)
    ]


# Of the public classes here, this one is the task.
EXTENSION = AVQA
