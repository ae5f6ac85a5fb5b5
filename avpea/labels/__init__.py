"""What videos are labelled with: samples, and for each kind of labels one class that knows all about them.

A kind of labels is a subclass of `Labels` with its samples; a reader makes them, and a task says which kind it needs.
"""

from avpea.labels._base import MEDIA_SUFFIXES, SPLITS, Annotations, Counts, Labels, Sample, shortened
from avpea.labels.captions import CaptionCounts, CaptionLabels, CaptionSample
from avpea.labels.events import EventCounts, EventLabels, EventSample
from avpea.labels.questions import Question, QuestionCounts, QuestionLabels, QuestionSample, QuestionVocabulary

__all__ = [
    "MEDIA_SUFFIXES",
    "SPLITS",
    "Annotations",
    "CaptionCounts",
    "CaptionLabels",
    "CaptionSample",
    "Counts",
    "EventCounts",
    "EventLabels",
    "EventSample",
    "Labels",
    "Question",
    "QuestionCounts",
    "QuestionLabels",
    "QuestionSample",
    "QuestionVocabulary",
    "Sample",
    "shortened",
]
