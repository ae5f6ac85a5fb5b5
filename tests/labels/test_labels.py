"""What a data set is labelled with: counted, compared, stored and read again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avpea import registry
from avpea.labels import (
    CaptionLabels,
    CaptionSample,
    EventLabels,
    EventSample,
    Labels,
    Question,
    QuestionLabels,
    QuestionSample,
)

# Of shards the kind is known when they are read.
KINDS = sorted(
    {registry.load("reader", name).labels for name in registry.names("reader")} - {Labels}, key=lambda one: one.kind
)
DOGS_AND_BELLS = EventLabels(("dog", "bell"))


def event(*labels: int, start_seconds: float = 0.0) -> EventSample:
    return EventSample("a", "a", Path("a.mp4"), start_seconds, len(labels), "train", labels=labels)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_survive_json(kind: type[Labels]) -> None:
    labels = kind.typical()
    assert kind.from_dict(json.loads(json.dumps(labels.to_dict()))) == labels
    assert labels.unknown((), labels) == labels.translated((), labels) == ()
    assert bool(labels.names) == bool(labels.outputs)
    assert labels.count((), 0).samples == 0
    assert labels.count((), 0).line()


def test_sizes_of_the_best_known_data_sets() -> None:
    assert len(EventLabels.typical().names) == 28
    vocabulary = QuestionLabels.typical().vocabulary
    assert (len(vocabulary.words), len(vocabulary.answers), vocabulary.length) == (93, 42, 14)
    assert CaptionLabels.typical() == CaptionLabels()


def test_seconds_and_rows_of_events_are_counted() -> None:
    samples = [event(0, 2, 2), event(0, 1, 1), event(2, 2, 2)]
    counts = DOGS_AND_BELLS.count(samples, 2)
    assert (counts.samples, counts.available, counts.seconds, counts.background_seconds) == (3, 2, 9, 5)
    assert counts.rows == {"dog": 2, "bell": 1}
    assert counts.event_seconds == {"dog": 2, "bell": 2}
    assert counts.unlabelled() == ()
    assert DOGS_AND_BELLS.count(samples[:1], 1).unlabelled() == ("bell",)
    assert DOGS_AND_BELLS.background == 2
    assert DOGS_AND_BELLS.background_share(samples) == 5 / 9
    assert DOGS_AND_BELLS.background_share([]) == 0.0


@pytest.mark.parametrize(("labels", "end"), [((0, 2, 2), 4.0), ((2, 0, 1), 6.0), ((2, 2, 2), 0.0)])
def test_the_last_event_ends(labels: Any, end: float) -> None:
    assert DOGS_AND_BELLS.end_seconds(event(*labels, start_seconds=3.0)) == end


def test_events_of_a_subset_in_another_order_get_the_indices_of_training() -> None:
    trained = EventLabels(("cat", "dog", "bell", "car"))
    some = (event(0, 2, 1), event(2, 2, 0))
    assert DOGS_AND_BELLS.unknown(some, trained) == ()
    assert [sample.labels for sample in DOGS_AND_BELLS.translated(some, trained)] == [(1, 4, 2), (4, 4, 1)]
    told = [DOGS_AND_BELLS.told(sample) for sample in some]
    assert told == ["dog 0-1, bell 2-3", "dog 2-3"]
    assert [trained.told(sample) for sample in DOGS_AND_BELLS.translated(some, trained)] == told


def test_only_classes_that_samples_have_can_be_unknown() -> None:
    trained = EventLabels(("bell",))
    assert DOGS_AND_BELLS.unknown([event(1, 2)], trained) == ()
    assert DOGS_AND_BELLS.unknown([event(1, 0)], trained) == ("dog",)
    assert [sample.labels for sample in DOGS_AND_BELLS.translated([event(1, 2)], trained)] == [(0, 1)]


@pytest.mark.parametrize("change", [{"answer": "no"}, {"words": ("Is", "it")}, {"type": "Audio Counting"}])
def test_what_is_told_of_questions_differs_whenever_they_do(change: dict[str, Any]) -> None:
    question = Question("1", "Visual Existential", "Is it red?", ("Is", "it", "red"), "yes")
    labels = QuestionLabels.typical()
    one, other = (
        QuestionSample("a", "a", Path("a.mp4"), 0.0, 3, "train", questions=(asked,))
        for asked in (question, replace(question, **change))
    )
    assert labels.told(one) != labels.told(other)
    assert labels.told(one) == labels.told(replace(one, key="b", video=Path("elsewhere/a.mp4")))


def test_words_of_captions_are_counted() -> None:
    sample = CaptionSample("a", "a", Path("a.mp4"), 0.0, 3, "train", captions=("A dog barks.", "Barking"))
    counts = CaptionLabels().count([sample, sample], 1)
    assert (counts.captions, counts.words) == (4, 8)
    assert counts.line() == "4 captions of 2.0 words on average about 2 videos (1 that opens)."
