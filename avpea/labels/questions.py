"""Questions about videos: MUSIC-AVQA's tokenisation, vocabulary, and reading of freely worded questions.

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

from pydantic import ConfigDict

from avpea.labels._base import Counts, Labels, Sample, read_plain
from avpea.tables import how_many

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
MOST_WORDS = 10_000  # of a question

# In the order of the public code: first appearance in avqa-train.json.
MUSIC_AVQA_ANSWERS = (
    *("two", "cello", "congas", "zero", "no", "pipa", "six", "yes", "one", "four", "three", "seven", "five"),
    *("ukulele", "right", "piano", "left", "accordion", "clarinet", "guzheng", "more than ten", "nine", "indoor"),
    *("saxophone", "drum", "violin", "middle", "outdoor", "bagpipe", "bassoon", "acoustic_guitar", "banjo"),
    *("electric_bass", "ten", "eight", "flute", "simultaneously", "trumpet", "erhu", "xylophone", "tuba", "suona"),
)


def tokenise(content: str, values: Sequence[str] = ()) -> tuple[str, ...]:
    """Split a question into words and fill its slots (`<Object>`) in order; a value of two words stays one token.

    Trailing spaces are removed, the rest is split at single spaces, the last word loses its question mark, and every
    word with a `<` is replaced by the next value. Case is kept. A question mark by itself is dropped.

    Raises:
        ValueError: The number of slots is not the number of values; the message gives both.

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
    """Words and answers that a model knows.

    Attributes:
        words: Words in index order, the first of which is padding (MUSIC-AVQA: 93).
        length: Number of words in the longest training question; shorter ones are padded to it (MUSIC-AVQA: 14).
        answers: Answers in the order of the head's outputs (MUSIC-AVQA: 42).
        templates: Wordings of the training questions, with their slots.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    words: tuple[str, ...]
    length: int
    answers: tuple[str, ...]
    templates: tuple[str, ...] = ()

    @classmethod
    def of_size(cls, words: int, answers: int, length: int = 14) -> "QuestionVocabulary":
        """A vocabulary of made-up words, for counting parameters and measuring cost."""
        named = tuple(f"word{i}" for i in range(1, words))
        return cls((PADDING, *named), length, tuple(f"answer{i}" for i in range(answers)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "QuestionVocabulary":
        """The vocabulary that `to_dict` was called on.

        Raises:
            ValueError: These are no such values.
        """
        made = read_plain(cls, values)
        if made.words[:1] != (PADDING,) or len(set(made.words)) < len(made.words):
            raise ValueError(f"the words do not begin with {PADDING}, or one stands twice")
        if not 1 <= made.length <= MOST_WORDS:
            raise ValueError(f"'length' is {made.length}; expected 1 to {MOST_WORDS} words")
        return made

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `from_dict`."""
        return dataclasses.asdict(self)

    def indices(self, words: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
        """Indices of a question's words, padded on the right or cut to `length`, and its unknown words.

        Unknown words are left out, because the public code has no index for them.
        """
        known = [self._index[word] for word in words if word in self._index][: self.length]
        unknown = tuple(word for word in words if word not in self._index)
        return known + [0] * (self.length - len(known)), unknown

    def is_cut(self, words: Sequence[str]) -> bool:
        """Whether a question has more known words than `indices` keeps, so that its last ones are left out."""
        return sum(word in self._index for word in words) > self.length

    def answer_index(self, answer: str) -> int:
        """Index of an answer; -1 for one that training did not have."""
        return self._answer_index.get(answer, -1)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def _answer_index(self) -> dict[str, int]:
        return {answer: i for i, answer in enumerate(self.answers)}

    def read(self, question: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Known words of a freely typed question, and its unknown words.

        Case, punctuation and spaces do not matter, an underscore counts as a space, and the longest run of words that
        is an entry of the vocabulary is taken first. Words are looked up as typed first, then without case.

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
        """Whether a training question has this wording, with any values in its slots."""
        return any(
            len(words) == len(template)
            and all("<" in slot or slot == word for slot, word in zip(template, words, strict=True))
            for template in self._wordings
        )

    @cached_property
    def _wordings(self) -> list[tuple[str, ...]]:
        return [tokenise(t, [w for w in t.split(" ") if "<" in w]) for t in self.templates]

    def nearest(self, question: str) -> str | None:
        """The training wording closest to a question; None if none is similar."""
        close = difflib.get_close_matches(_plain(question), {_plain(t): t for t in self.templates}, n=1, cutoff=0.4)
        return next((t for t in self.templates if close and _plain(t) == close[0]), None)


_PUNCTUATION = "?？!.,;:\"'()[]“”‘’¿¡。，"


def _plain(text: str) -> str:
    return re.sub(r"[\s_]+", " ", text).strip(_PUNCTUATION + " ").casefold()


def build_vocabulary(
    questions: Iterable[tuple[Sequence[str], str, str]], official: Sequence[str] = MUSIC_AVQA_ANSWERS
) -> QuestionVocabulary:
    """Build the vocabulary of training questions.

    Args:
        questions: Words, template and answer of each training question.
        official: Answers in a fixed order, used if they include all answers that occur (MUSIC-AVQA and its second
            version, for which other code has stored other orders); otherwise answers are in order of appearance.
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
        question_id: Id in the data set; not always unique (MUSIC-AVQA's first test file repeats 55).
        type: Modality and kind of question, for example `Audio-Visual Counting`.
        template: Wording with slots, for example `Is the <Object> in the video always playing?`.
        words: Words from `tokenise`, with filled slots.
        answer: Annotated answer.
    """

    question_id: str
    type: str
    template: str
    words: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class QuestionSample(Sample):
    """A video with all questions about it in one split."""

    questions: tuple[Question, ...] = field(kw_only=True)

    @property
    def weight(self) -> int:
        """Number of questions."""
        return len(self.questions)


@dataclass(frozen=True)
class QuestionCounts(Counts):
    """Contents of a split with questions.

    Attributes:
        questions: Number of questions.
        types: Number of questions of each type.
    """

    questions: int
    types: dict[str, int]

    def line(self) -> str:
        """The counts in a sentence."""
        return (
            f"{how_many(self.questions, 'question')} of {how_many(len(self.types), 'type')} about "
            f"{how_many(self.samples, 'video')} ({how_many(self.available, 'that opens', 'that open')})."
        )


@dataclass(frozen=True)
class QuestionLabels(Labels):
    """Questions with answers. Splits are of questions, so a video may have questions in several splits.

    Attributes:
        vocabulary: Words and answers of the training questions.
    """

    kind: ClassVar[str] = "questions"
    samples: ClassVar[type[Sample]] = QuestionSample
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
        """Plain values of the vocabulary."""
        return self.vocabulary.to_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "QuestionLabels":
        """The labels that `to_dict` was called on.

        Raises:
            ValueError: These are no such values.
        """
        return cls.checked(cls(QuestionVocabulary.from_dict(dict(values))))

    def count(self, samples: Sequence[QuestionSample], available: int) -> QuestionCounts:
        """Count questions of each type."""
        types = Counter(question.type for sample in samples for question in sample.questions)
        return QuestionCounts(len(samples), available, types.total(), dict(sorted(types.items())))
