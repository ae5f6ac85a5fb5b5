"""Heads for questions. Each file defines one head, called by the file's name."""

from avpea.tasks.avqa.heads._base import (
    AnsweringHead,
    MatchingHead,
    QuestionHead,
    QuestionOptions,
    QuestionOutput,
    answer_loss,
    match_loss,
    shuffled_frames,
)

__all__ = [
    "AnsweringHead",
    "MatchingHead",
    "QuestionHead",
    "QuestionOptions",
    "QuestionOutput",
    "answer_loss",
    "match_loss",
    "shuffled_frames",
]
