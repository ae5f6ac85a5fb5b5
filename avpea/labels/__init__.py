"""Labels of videos: samples, and one class for each kind of labels.

A kind of labels is a subclass of `Labels` with its own samples; a data set reader makes them, and a task names the kind
that it needs.
"""

from avpea.labels._base import (
    MEDIA_SUFFIXES,
    SOUND_SUFFIXES,
    SPLITS,
    VIDEO_SUFFIXES,
    Annotations,
    Counts,
    Division,
    Labels,
    Member,
    Packed,
    Precomputed,
    Sample,
    Shard,
    read_plain,
    shortened,
    weight_of,
)
from avpea.labels._names import look_alikes, refuse_reserved
from avpea.labels.captions import CaptionCounts, CaptionLabels, CaptionSample
from avpea.labels.events import EventCounts, EventLabels, EventSample
from avpea.labels.lanes import LaneCounts, LaneLabels, LaneSample
from avpea.labels.masks import AVSS_CLASSES, SILENT, SOUNDING, MaskCounts, MaskLabels, MaskSample
from avpea.labels.questions import Question, QuestionCounts, QuestionLabels, QuestionSample, QuestionVocabulary

__all__ = [
    "AVSS_CLASSES",
    "MEDIA_SUFFIXES",
    "SILENT",
    "SOUNDING",
    "SOUND_SUFFIXES",
    "SPLITS",
    "VIDEO_SUFFIXES",
    "Annotations",
    "CaptionCounts",
    "CaptionLabels",
    "CaptionSample",
    "Counts",
    "Division",
    "EventCounts",
    "EventLabels",
    "EventSample",
    "Labels",
    "LaneCounts",
    "LaneLabels",
    "LaneSample",
    "MaskCounts",
    "MaskLabels",
    "MaskSample",
    "Member",
    "Packed",
    "Precomputed",
    "Question",
    "QuestionCounts",
    "QuestionLabels",
    "QuestionSample",
    "QuestionVocabulary",
    "Sample",
    "Shard",
    "look_alikes",
    "read_plain",
    "refuse_reserved",
    "shortened",
    "weight_of",
]
