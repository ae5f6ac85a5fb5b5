"""Heads for questions. A file here is a head's name."""

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
