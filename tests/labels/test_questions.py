"""Questions as words: the official tokenisation and vocabulary, and what people type."""

import json
from pathlib import Path

import pytest

from avpea.labels.questions import MUSIC_AVQA_ANSWERS, PADDING, QuestionVocabulary, build_vocabulary, tokenise

TRAIN = [
    (tokenise("Is the <Object> in the video always playing?", ["acoustic_guitar"]), "a", "yes"),
    (tokenise("Which <Object> makes the sound <FL>?", ["electric guitar", "first"]), "b", "dog"),
    (tokenise("How many instruments are sounding in the video?"), "c", "two"),
]


def vocabulary() -> QuestionVocabulary:
    wordings = [
        "Is the <Object> in the video always playing?",
        "Which <Object> makes the sound <FL>?",
        "How many instruments are sounding in the video?",
    ]
    return build_vocabulary((row[0], wording, row[2]) for row, wording in zip(TRAIN, wordings, strict=True))


@pytest.mark.parametrize(
    ("content", "values", "words"),
    [
        ("How many?", [], "How|many"),
        ("How many？ ", [], "How|many"),
        ("Is the <Object> louder than the <Object>?", ["cello", "tuba"], "Is|the|cello|louder|than|the|tuba"),
        ("Is the <Object> heard for longer than the <Object> ?", ["big cat", "dog"],
         "Is|the|big cat|heard|for|longer|than|the|dog"),
        ("Where is the <LL> instrument?", ["loudest"], "Where|is|the|loudest|instrument"),
        ("no question mark", [], "no|question|mark"),
    ],
)  # fmt: skip
def test_tokens(content: str, values: list[str], words: str) -> None:
    assert tokenise(content, values) == tuple(words.split("|"))


@pytest.mark.parametrize("values", [[], ["a", "b"]])
def test_slots_and_values_must_agree(values: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"has 1 slots, but there are {len(values)} values"):
        tokenise("Is the <Object> heard?", values)


def test_vocabulary_in_order_of_first_appearance() -> None:
    found = vocabulary()
    assert found.words[:6] == (PADDING, "Is", "the", "acoustic_guitar", "in", "video")
    assert found.length == 8
    assert found.answers == ("yes", "dog", "two")  # `dog` is none of MUSIC-AVQA's
    assert QuestionVocabulary.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_answers_of_music_avqa_stand_in_the_official_order() -> None:
    assert build_vocabulary([(("a",), "a", "yes"), (("a",), "a", "two")]).answers == MUSIC_AVQA_ANSWERS


def test_indices_are_padded_and_unknown_words_left_out() -> None:
    found = vocabulary()
    rows, unknown = found.indices(("Is", "the", "cello", "playing"))
    assert (rows, unknown) == ([1, 2, found.words.index("playing"), 0, 0, 0, 0, 0], ("cello",))
    assert len(found.indices(("Is",) * 20)[0]) == 8
    assert [found.answer_index(answer) for answer in ("dog", "seven")] == [1, -1]


@pytest.mark.parametrize(
    ("typed", "known", "unknown"),
    [
        ("is THE acoustic guitar always playing", "Is|the|acoustic_guitar|always|playing", ""),
        ("Which  electric guitar, makes the sound first ?!", "Which|electric guitar|makes|the|sound|first", ""),
        ("HOW many instruments are sounding in the whole video？",
         "How|many|instruments|are|sounding|in|the|video", "whole"),
        ("<pad>", "", "<pad>"),
        ("¿Quién?", "", "Quién"),
    ],
)  # fmt: skip
def test_free_wording(typed: str, known: str, unknown: str) -> None:
    split = [tuple(filter(None, words.split("|"))) for words in (known, unknown)]
    assert list(vocabulary().read(typed)) == split


def test_nearest_wording() -> None:
    found = vocabulary()
    assert found.nearest("how many instruments sound?") == "How many instruments are sounding in the video?"
    assert found.nearest("xyz") is None
    assert found.has_wording(("Is", "the", "dog", "in", "the", "video", "always", "playing"))
    assert not found.has_wording(("Is", "the", "dog", "playing"))


def test_the_official_vocabulary(shared_data: Path) -> None:
    folder = shared_data / "annotations" / "MUSIC-AVQA"
    rows = []
    for name in ("avqa-val", "avqa-test", "avqa-train_fake"):
        rows += json.loads((folder / "json" / f"{name}.json").read_text(encoding="utf-8"))
    found = build_vocabulary(
        (tokenise(r["question_content"], json.loads(r["templ_values"])), r["question_content"], r["anser"])
        for r in rows
    )
    assert (len(found.words), found.length, len(found.templates)) == (93, 14, 33)
    listed = (folder / "ques_vocab.txt").read_text(encoding="utf-8").split()
    assert set(listed) == set(found.words)
    table = json.loads((folder / "answer2idx.json").read_text(encoding="utf-8"))["ans2ix"]
    assert tuple(sorted(table, key=table.__getitem__)) == MUSIC_AVQA_ANSWERS
