"""The head of AVST's first stage, which learns to locate sounds by matching them with frames."""

from jaxtyping import Float, Int
from torch import Tensor

from avpea.tasks.avqa.heads import MatchingHead, QuestionOptions, QuestionOutput, match_loss
from avpea.tasks.avqa.heads._avst_parts import VideoGrounding

__all__ = ["Grounding"]


class Grounding(MatchingHead):
    """The part of AVST that uses no question, trained with the loss of the match head only (Li et al., CVPR 2022).

    Its weights have the same names as AVST's, so that AVST can start from them (`train.start_from`): fc_a1, fc_a2,
    fc_gl and fc1 to fc4 in the public code, which trains on the real videos of the training split, ten frames each.

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        num_words: Not used; part of the signature of all heads for questions.
        num_answers: Not used.
    """

    Options = QuestionOptions

    def __init__(self, visual_dim: int, audio_dim: int, num_words: int, num_answers: int) -> None:
        super().__init__(visual_dim, audio_dim, num_words, num_answers)
        self.grounding = VideoGrounding(visual_dim, audio_dim)

    def forward(
        self,
        visual: Float[Tensor, "videos segments patches visual_dim"],
        audio: Float[Tensor, "videos segments audio_tokens audio_dim"],
        token_ids: Int[Tensor, "questions length"],
        video: Int[Tensor, " questions"],
        negatives: Float[Tensor, "videos segments patches visual_dim"] | None = None,
    ) -> QuestionOutput:
        """Where each sound is in its frame and, with negatives, the match logits; questions are not used."""
        grounded = self.grounding(visual, audio, negatives)
        return QuestionOutput(match=grounded.match, matching=grounded.matching, spatial=grounded.spatial)

    def loss(self, output: QuestionOutput, answers: Int[Tensor, " questions"]) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of the match; 0, with a gradient of 0, if there are no negatives."""
        if output.match is None:
            assert output.spatial is not None
            return {"match": 0 * output.spatial.sum()}
        return {"match": match_loss(output)}
