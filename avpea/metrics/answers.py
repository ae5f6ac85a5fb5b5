"""Accuracy of answers to questions: overall, by type, by modality, and by wording.

MUSIC-AVQA (Li et al., CVPR 2022) has nine types of questions in three modalities. Its public code reports the accuracy
over all questions; the AV-PEA paper's Table 2 has the mean over the three modalities. They differ by up to two points,
as the modalities have different numbers of questions, so both are always given.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MODALITIES", "accuracy_by", "majority", "mean_of_three", "modality_of", "question_metrics"]

MODALITIES = ("Audio", "Visual", "Audio-Visual")


def modality_of(type_of_question: str) -> str:
    """The modality of a type of question: its first word.

    >>> modality_of("Audio-Visual Counting")
    'Audio-Visual'
    """
    return type_of_question.partition(" ")[0]


def accuracy_by(groups: Sequence[str], correct: Sequence[bool]) -> dict[str, float]:
    """Share of correct answers in each group, in order of first appearance.

    >>> accuracy_by(["a", "b", "a"], [True, False, False])
    {'a': 0.5, 'b': 0.0}
    """
    asked, hits = Counter(groups), Counter(group for group, hit in zip(groups, correct, strict=True) if hit)
    return {group: hits[group] / count for group, count in asked.items()}


def mean_of_three(by_modality: Mapping[str, float]) -> float | None:
    """The unweighted mean of the three modalities, the AV-PEA paper's "Avg"; None if one has no questions."""
    if not all(name in by_modality for name in MODALITIES):
        return None
    return sum(by_modality[name] for name in MODALITIES) / len(MODALITIES)


def majority(groups: Sequence[str], answers: Sequence[str]) -> dict[str, str]:
    """The most frequent answer of each group; in a tie, the one that occurs first."""
    counts: dict[str, Counter[str]] = {}
    for group, answer in zip(groups, answers, strict=True):
        counts.setdefault(group, Counter())[answer] += 1
    return {group: count.most_common(1)[0][0] for group, count in counts.items()}


def question_metrics(types: Sequence[str], templates: Sequence[str], correct: Sequence[bool]) -> dict[str, Any]:
    """Accuracies in [0, 1]: overall, mean of the three modalities, by modality, by type, and by wording.

    Args:
        types: Type of each question.
        templates: Template of each question, with unfilled slots.
        correct: Whether each question was answered correctly.
    """
    modality = accuracy_by([modality_of(one) for one in types], correct)
    wordings = [f"{one}: {template}" for one, template in zip(types, templates, strict=True)]
    by_wording, counts = accuracy_by(wordings, correct), Counter(wordings)
    return {
        "overall_accuracy": sum(correct) / len(correct),
        "mean_of_three": mean_of_three(modality),
        "per_modality_accuracy": {name: modality[name] for name in MODALITIES if name in modality},
        "per_type_accuracy": dict(sorted(accuracy_by(types, correct).items())),
        "per_template": {
            name: {"accuracy": share, "questions": counts[name]} for name, share in sorted(by_wording.items())
        },
        "questions": len(correct),
    }
