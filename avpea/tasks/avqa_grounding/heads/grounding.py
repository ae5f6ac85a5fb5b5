"""AVST's first stage: learning where a sound is seen from whether it fits the frame, without any question."""

from jaxtyping import Float, Int
from torch import Tensor

from avpea.tasks.avqa.heads import MatchingHead, QuestionOptions, QuestionOutput, match_loss
from avpea.tasks.avqa.heads._avst_parts import VideoGrounding

__all__ = ["Grounding"]


class Grounding(MatchingHead):
    """The part of AVST that knows no question, trained by its match head alone (Li et al., CVPR 2022).

    Its weights have AVST's names, so that AVST can start from them (`train.start_from`): the public code's fc_a1,
    fc_a2, fc_gl and fc1 to fc4. That code trains it on the real videos of the training split, ten frames each.

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        num_words: Not used; every head for questions takes it.
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
        """Where the sounds are seen and, with negatives, what fits; the questions are not read."""
        grounded = self.grounding(visual, audio, negatives)
        return QuestionOutput(match=grounded.match, matching=grounded.matching, spatial=grounded.spatial)

    def loss(self, output: QuestionOutput, answers: Int[Tensor, " questions"]) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of the match; 0, with a gradient of 0, where there were no negatives."""
        if output.match is None:
            assert output.spatial is not None
            return {"match": 0 * output.spatial.sum()}
        return {"match": match_loss(output)}
