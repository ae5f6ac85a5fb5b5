"""Questions about videos: MUSIC-AVQA's tokenisation, what a model can read and answer, and free wording.

Source: the public code of MUSIC-AVQA (Li et al., CVPR 2022), GeWu-Lab/MUSIC-AVQA.
"""

import dataclasses
import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from avpea.labels._base import Counts, Labels, Sample

__all__ = [
    "MUSIC_AVQA_ANSWERS",
    "PADDING",
    "Question",
    "QuestionCounts",
    "QuestionLabels",
    "QuestionSample",
    "QuestionVocabulary",
    "build_vocabulary",
    "tokenise",
]

PADDING = "<pad>"

# In the order of the public code: first appearance in avqa-train.json.
MUSIC_AVQA_ANSWERS = (
    *("two", "cello", "congas", "zero", "no", "pipa", "six", "yes", "one", "four", "three", "seven", "five"),
    *("ukulele", "right", "piano", "left", "accordion", "clarinet", "guzheng", "more than ten", "nine", "indoor"),
    *("saxophone", "drum", "violin", "middle", "outdoor", "bagpipe", "bassoon", "acoustic_guitar", "banjo"),
    *("electric_bass", "ten", "eight", "flute", "simultaneously", "trumpet", "erhu", "xylophone", "tuba", "suona"),
)


def tokenise(content: str, values: Sequence[str] = ()) -> tuple[str, ...]:
    """Words of a question whose slots (`<Object>`) are filled in order; a value of two words stays one token.

    Blanks at the end go, the rest is split at single blanks, the last word loses its question mark, and every word
    with a `<` gives way to the next value. Case stays. A question mark that stands alone is dropped.

    Raises:
        ValueError: There are more slots than values, or fewer; the sentence says how many of each.

    >>> tokenise("Is the <Object> in the video always playing?", ["ukulele"])
    ('Is', 'the', 'ukulele', 'in', 'the', 'video', 'always', 'playing')
    """
    words = content.rstrip().split(" ")
    words[-1] = words[-1].rstrip("?？")
    words = [word for word in words if word]
    slots = sum("<" in word for word in words)
    if slots != len(values):
        raise ValueError(f"the question has {slots} slots, but there are {len(values)} values for them")
    fill = iter(values)
    return tuple(next(fill) if "<" in word else word for word in words)


@dataclass(frozen=True)
class QuestionVocabulary:
    """What a model can read and answer.

    Attributes:
        words: In the order of their indices; the first is padding. MUSIC-AVQA has 93.
        length: Words of the longest training question, to which shorter ones are padded. MUSIC-AVQA: 14.
        answers: In the order of the head's outputs. MUSIC-AVQA has 42.
        templates: Wordings of the training questions, with their slots.
    """

    words: tuple[str, ...]
    length: int
    answers: tuple[str, ...]
    templates: tuple[str, ...] = ()
    _index: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._index.update((word, i) for i, word in enumerate(self.words))

    @classmethod
    def of_size(cls, words: int, answers: int, length: int = 14) -> "QuestionVocabulary":
        """One of made-up words, to count parameters and to measure with."""
        named = tuple(f"word{i}" for i in range(1, words))
        return cls((PADDING, *named), length, tuple(f"answer{i}" for i in range(answers)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "QuestionVocabulary":
        """From what `to_dict` gave."""
        lists = {name: tuple(values[name]) for name in ("words", "answers", "templates")}
        return cls(length=int(values["length"]), **lists)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        names = [f.name for f in dataclasses.fields(self) if f.init]
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in names}

    def indices(self, words: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
        """Indices of a question's words, padded on the right or cut to `length`, and the words that it does not know.

        Unknown words are left out, as the public code has no index for them.
        """
        known = [self._index[word] for word in words if word in self._index][: self.length]
        unknown = tuple(word for word in words if word not in self._index)
        return known + [0] * (self.length - len(known)), unknown

    def answer_index(self, answer: str) -> int:
        """Which output an answer is; -1 for one that training did not have."""
        return self._answer_index.get(answer, -1)

    @cached_property
    def _answer_index(self) -> dict[str, int]:
        return {answer: i for i, answer in enumerate(self.answers)}

    def read(self, question: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words of a question as a person types it, and what the vocabulary does not know of it.

        Case, punctuation and blanks do not matter, an underscore is as good as a blank, and of several words that
        are one entry of the vocabulary the longest goes first. A word is looked up as typed before its case is
        given up.

        >>> words = ("<pad>", "Where", "is", "the", "acoustic_guitar")
        >>> QuestionVocabulary(words, 4, ()).read("where is THE big acoustic guitar?")
        (('Where', 'is', 'the', 'acoustic_guitar'), ('big',))
        """
        typed = [word for piece in question.split() if (word := piece.strip(_PUNCTUATION))]
        known, unknown, start = [], [], 0
        while start < len(typed):
            for stop in range(len(typed), start, -1):
                entry = self._lookup(typed[start:stop])
                if entry is not None:
                    known.append(entry)
                    break
            else:
                stop = start + 1
                unknown.append(typed[start])
            start = stop
        return tuple(known), tuple(unknown)

    def _lookup(self, words: Sequence[str]) -> str | None:
        text = " ".join(words)
        if text in self._index and text != PADDING:
            return text
        return self._by_plain_text.get(_plain(text))

    @cached_property
    def _by_plain_text(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for word in self.words[1:]:
            found.setdefault(_plain(word), word)
        return found

    def has_wording(self, words: Sequence[str]) -> bool:
        """Whether a training question has this wording, whatever is in its slots."""
        return any(
            len(words) == len(template)
            and all("<" in slot or slot == word for slot, word in zip(template, words, strict=True))
            for template in self._wordings
        )

    @cached_property
    def _wordings(self) -> list[tuple[str, ...]]:
        return [tokenise(t, [w for w in t.split(" ") if "<" in w]) for t in self.templates]

    def nearest(self, question: str) -> str | None:
        """The training wording that is most like a question; None where none is like it."""
        close = difflib.get_close_matches(_plain(question), {_plain(t): t for t in self.templates}, n=1, cutoff=0.4)
        return next((t for t in self.templates if close and _plain(t) == close[0]), None)


_PUNCTUATION = "?？!.,;:\"'()[]“”‘’¿¡。，"


def _plain(text: str) -> str:
    return re.sub(r"[\s_]+", " ", text).strip(_PUNCTUATION + " ").casefold()


def build_vocabulary(
    questions: Iterable[tuple[Sequence[str], str, str]], official: Sequence[str] = MUSIC_AVQA_ANSWERS
) -> QuestionVocabulary:
    """The vocabulary of training questions.

    Args:
        questions: Words, template and answer of each.
        official: Answers in the order they are given if they hold all that occur (MUSIC-AVQA and its second version,
            for which others have stored other orders); else the order is that of first appearance.
    """
    rows = list(questions)
    words = dict.fromkeys(word for row in rows for word in row[0])
    answers = tuple(dict.fromkeys(row[2] for row in rows))
    return QuestionVocabulary(
        words=(PADDING, *(word for word in words if word != PADDING)),
        length=max((len(row[0]) for row in rows), default=1),
        answers=tuple(official) if set(answers) <= set(official) else answers,
        templates=tuple(dict.fromkeys(row[1] for row in rows)),
    )


@dataclass(frozen=True)
class Question:
    """A question about a video, with its answer.

    Attributes:
        question_id: The data set's own; not always unique (MUSIC-AVQA's first test file repeats 55).
        type: For example `Audio-Visual Counting`: modality, then kind.
        template: The wording with its slots, for example `Is the <Object> in the video always playing?`.
        words: The tokens after the slots were filled, as `tokenise` makes them.
        answer: As annotated.
    """

    question_id: str
    type: str
    template: str
    words: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class QuestionSample(Sample):
    """A video with all questions about it that are in the sample's split."""

    questions: tuple[Question, ...] = field(kw_only=True)

    @property
    def weight(self) -> int:
        """How many questions there are."""
        return len(self.questions)


@dataclass(frozen=True)
class QuestionCounts(Counts):
    """What a split of a data set of questions holds.

    Attributes:
        questions: About all of its videos.
        types: Questions of each type.
    """

    questions: int
    types: dict[str, int]

    def line(self) -> str:
        """In a sentence."""
        return (
            f"{self.questions} questions of {len(self.types)} types about {self.samples} videos ({self.available} that "
            "open)."
        )


@dataclass(frozen=True)
class QuestionLabels(Labels):
    """Questions with answers; the splits are of questions, and one video may have questions in several.

    Attributes:
        vocabulary: What the training questions are made of, and their answers.
    """

    kind: ClassVar[str] = "questions"
    outputs: ClassVar[str] = "answers"
    splits_share_videos: ClassVar[bool] = True

    vocabulary: QuestionVocabulary

    @property
    def names(self) -> tuple[str, ...]:
        """The answers."""
        return self.vocabulary.answers

    @classmethod
    def typical(cls) -> "QuestionLabels":
        """As many words and answers as MUSIC-AVQA has."""
        return cls(QuestionVocabulary.of_size(words=93, answers=len(MUSIC_AVQA_ANSWERS)))

    def to_dict(self) -> dict[str, Any]:
        """The vocabulary's plain values."""
        return self.vocabulary.to_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "QuestionLabels":
        """From what `to_dict` gave."""
        return cls(QuestionVocabulary.from_dict(dict(values)))

    def count(self, samples: Sequence[QuestionSample], available: int) -> QuestionCounts:
        """Questions of each type."""
        types = Counter(question.type for sample in samples for question in sample.questions)
        return QuestionCounts(len(samples), available, types.total(), dict(sorted(types.items())))
