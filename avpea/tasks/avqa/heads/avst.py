"""AVST, the network of MUSIC-AVQA: spatial grounding, temporal grounding, and the answer."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea.tasks.avqa.heads._avst_parts import VGGISH_DIM, WIDTH, QuestionEncoder, TemporalGrounding, VideoGrounding
from avpea.tasks.avqa.heads._base import (
    AnsweringHead,
    MatchingHead,
    QuestionOptions,
    QuestionOutput,
    answer_loss,
    match_loss,
)

__all__ = ["AVST"]

MATCH_WEIGHT = 0.5


class AVST(AnsweringHead, MatchingHead):
    """Audio-visual spatio-temporal grounding (Li et al., CVPR 2022; public code GeWu-Lab/MUSIC-AVQA).

    Dropout is 0.1, in temporal grounding only. Spatial grounding of a video runs once for all questions about it.
    Layers of the public code, and their names here:

        fc_a1, fc_a2, fc_gl, fc1-fc4      grounding, with a projection of the visual tokens as in LAVISH
        question_encoder                  question
        attn_v, linear11, linear12, norm1 seen
        attn_a, linear21, linear22, norm2 heard
        fc_fusion, fc_ans                 fusion, answer

    With MUSIC-AVQA's 93 words and 42 answers it uses 7,916,716 parameters on ResNet-18's map and VGGish's vectors, as
    the public code does, 8,638,124 on ViT-B and 8,900,268 on ViT-L. With what is registered but unused that makes
    10,608,300 (the MUSIC-AVQA paper's 10.6 M), 8,704,172 and 8,966,316; the last two with the adapters make the AV-PEA
    paper's 12.4 M and 21.9 M.

    Args:
        visual_dim: Width of the visual tokens; 512 needs no projection.
        audio_dim: Width of the audio tokens; 128 is VGGish's.
        num_words: Number of words in the vocabulary, padding (index 0) included.
        num_answers: Number of answers.
    """

    Options = QuestionOptions

    def __init__(self, visual_dim: int, audio_dim: int, num_words: int, num_answers: int) -> None:
        super().__init__(visual_dim, audio_dim, num_words, num_answers)
        self.grounding = VideoGrounding(visual_dim, audio_dim)
        self.question = QuestionEncoder(num_words)
        self.seen, self.heard = TemporalGrounding(), TemporalGrounding()
        self.fusion = nn.Linear(2 * WIDTH, WIDTH)
        self.answer = nn.Linear(WIDTH, num_answers)

    def forward(
        self,
        visual: Float[Tensor, "videos segments patches visual_dim"],
        audio: Float[Tensor, "videos segments audio_tokens audio_dim"],
        token_ids: Int[Tensor, "questions length"],
        video: Int[Tensor, " questions"],
        negatives: Float[Tensor, "videos segments patches visual_dim"] | None = None,
    ) -> QuestionOutput:
        """Logits of the answers, attention and, with negatives, match logits."""
        grounded = self.grounding(visual, audio, negatives)
        question = self.question(token_ids)
        sights, seen = self.seen(question, grounded.visual[video])
        sounds, heard = self.heard(question, grounded.audio[video])
        fused = self.fusion(torch.cat((sounds, sights), dim=-1).tanh())
        return QuestionOutput(
            answers=self.answer((fused * question).tanh()),
            match=grounded.match,
            matching=grounded.matching,
            spatial=grounded.spatial,
            seen=seen,
            heard=heard,
        )

    def loss(self, output: QuestionOutput, answers: Int[Tensor, " questions"]) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of the answers and, with negatives, half that of the match."""
        terms = {"answer": answer_loss(output, answers)}
        if output.match is not None:
            terms["match"] = MATCH_WEIGHT * match_loss(output)
        return terms

    def registered_but_unused(self) -> dict[str, int]:
        """Parameters, by the public code's names, that AVST never uses, or that LAVISH's projection replaces.

        With audio tokens of width 128, which are VGGish's, the network is AVST itself. With any other width they come
        from a transformer, and the network is LAVISH's, which keeps AVST's `fc_a1` beside its own projection. That it
        drops the other layers is deduced from the paper's totals.
        """
        first = {"fc_a1, Linear(128, 512)": _linear(VGGISH_DIM, WIDTH)}
        if self.grounding.audio_in.in_features != VGGISH_DIM:
            return first
        return {
            "fc_a1_pure, Linear(128, 512)": _linear(VGGISH_DIM, WIDTH),
            "fc_a2_pure, Linear(512, 512)": _linear(WIDTH, WIDTH),
            "fc_v, Linear(2048, 512)": _linear(2048, WIDTH),
            "fc_st, Linear(512, 512)": _linear(WIDTH, WIDTH),
            "fc, Linear(1024, 512)": _linear(2 * WIDTH, WIDTH),
            "fc_aq, Linear(512, 512)": _linear(WIDTH, WIDTH),
            "fc_vq, Linear(512, 512)": _linear(WIDTH, WIDTH),
            "norm3, LayerNorm(512)": 2 * WIDTH,
        }


def _linear(width_in: int, width_out: int) -> int:
    return (width_in + 1) * width_out
