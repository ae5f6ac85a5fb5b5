"""Baseline without video: answers from the words of the question alone."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea.tasks.avqa.heads._avst_parts import WIDTH, QuestionEncoder
from avpea.tasks.avqa.heads._base import AnsweringHead, QuestionOutput, answer_loss

__all__ = ["QuestionOnly"]


class QuestionOnly(AnsweringHead):
    """AVST's question encoder, tanh and answer layer, without the video.

    Args:
        visual_dim: Not used; part of the signature of all heads for questions.
        audio_dim: Not used.
        num_words: Number of words in the vocabulary, padding (index 0) included.
        num_answers: Number of answers.
    """

    reads_video = False

    def __init__(self, visual_dim: int, audio_dim: int, num_words: int, num_answers: int) -> None:
        super().__init__(visual_dim, audio_dim, num_words, num_answers)
        self.question = QuestionEncoder(num_words)
        self.answer = nn.Linear(WIDTH, num_answers)

    def forward(
        self,
        visual: Float[Tensor, "videos segments patches visual_dim"] | None,
        audio: Float[Tensor, "videos segments audio_tokens audio_dim"] | None,
        token_ids: Int[Tensor, "questions length"],
        video: Int[Tensor, " questions"],
        negatives: Float[Tensor, "videos segments patches visual_dim"] | None = None,
    ) -> QuestionOutput:
        """Logits of the answers, from the questions alone."""
        return QuestionOutput(answers=self.answer(self.question(token_ids).tanh()))

    def loss(self, output: QuestionOutput, answers: Int[Tensor, " questions"]) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of the answers."""
        return {"answer": answer_loss(output, answers)}
