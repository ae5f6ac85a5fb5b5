"""The plan of an avvp-digits clip: which digits are seen and which are spoken in each second, independently."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avpea.data.samples._plan import (
    ACCENTS,
    DIGIT_NAMES,
    FORM_STARTS,
    FORMS,
    OTHER_WORDS,
    SECONDS,
    VOICES,
    Planned,
    Utterance,
    drawn,
)

__all__ = ["LanePlan", "lane_plans"]

_CASTS = (0.35, 0.45, 0.2)  # probability of one, two and three digits in a clip
_LANES = {"both": 0.5, "seen": 0.25, "heard": 0.25}  # probability of the lane of a digit
_MOST_SEEN = 2  # digits in a frame at once


@dataclass(frozen=True)
class LanePlan(Planned):
    """The plan of a clip.

    Attributes:
        seen: Digits in the picture in each second, at most two.
        heard: Digit spoken in each second, or None.
        images: Index in load_digits of each digit in each second.
        marks: Number of the mark (a drawing that is no digit) in each second, or None.
        words: Word spoken in each second: the digit heard, another word, or None.
    """

    seen: tuple[tuple[int, ...], ...]
    heard: tuple[int | None, ...]
    images: tuple[tuple[int, ...], ...]
    marks: tuple[int | None, ...]
    words: tuple[Utterance | None, ...]


def lane_plans(split: str, count: int, seed: int, targets: Sequence[int], marks: int) -> list[LanePlan]:
    """Plan the clips of a split; clip i does not depend on `count`.

    Args:
        split: `train`, `val` or `test`.
        count: Number of clips; the ten digits take turns at being in one.
        seed: Random seed of the data set.
        targets: Label of every image of load_digits.
        marks: Number of marks to choose from.
    """
    return [_plan(split, index, seed, targets, marks) for index in range(count)]


def _plan(split: str, index: int, seed: int, targets: Sequence[int], marks: int) -> LanePlan:
    known, rng = drawn("avvp-digits", seed, split, index)
    seen, heard = _lanes(rng, index % len(DIGIT_NAMES))
    return LanePlan(
        **known,
        seen=tuple(map(tuple, seen)),
        heard=tuple(heard),
        images=_images(rng, split, seen, targets),
        marks=tuple(int(rng.integers(marks)) if not digits and rng.random() < 0.5 else None for digits in seen),
        words=_words(rng, split, heard),
    )


def _lanes(rng: np.random.Generator, first: int) -> tuple[list[list[int]], list[int | None]]:
    """The digits seen and the digit heard in each second, of one to three digits, each with stretches of its own."""
    others = [digit for digit in range(len(DIGIT_NAMES)) if digit != first]
    cast = [first, *rng.permutation(others)[: rng.choice(len(_CASTS), p=_CASTS)].tolist()]
    seen: list[list[int]] = [[] for _ in range(SECONDS)]
    heard: list[int | None] = [None] * SECONDS
    for digit in cast:
        lane = str(rng.choice(list(_LANES), p=list(_LANES.values())))
        # The stretches of a digit that is seen and heard are drawn apart, but both hold its middle second.
        middle = int(rng.integers(SECONDS))
        for second in _stretch(rng, middle):
            if lane != "heard" and len(seen[second]) < _MOST_SEEN:
                seen[second].append(digit)
        for second in _stretch(rng, middle):
            if lane != "seen" and heard[second] is None:
                heard[second] = digit
    return seen, heard


def _stretch(rng: np.random.Generator, middle: int) -> range:
    """One to nine seconds around a second, which is one of them."""
    before, after = rng.integers(0, 5, 2).tolist()
    return range(max(0, middle - before), min(SECONDS, middle + after + 1))


def _images(
    rng: np.random.Generator, split: str, seen: Sequence[Sequence[int]], targets: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """A new image of each digit every second, all from one form, as in av-digits."""
    form = int(rng.choice(FORMS[split]))
    hand = range(FORM_STARTS[form], FORM_STARTS[form + 1])
    return tuple(
        tuple(int(rng.choice([image for image in hand if targets[image] == digit])) for digit in digits)
        for digits in seen
    )


def _words(rng: np.random.Generator, split: str, heard: Sequence[int | None]) -> tuple[Utterance | None, ...]:
    """The digit in every second with one, another word in half of the others; each word has a speaker of its own."""
    speakers: dict[str, Utterance] = {}
    words: list[Utterance | None] = []
    for spoken in heard:
        if spoken is None and rng.random() < 0.5:
            words.append(None)
            continue
        text = str(rng.choice(OTHER_WORDS)) if spoken is None else DIGIT_NAMES[spoken]
        if text not in speakers:
            voice = f"{rng.choice(ACCENTS)}+{rng.choice(VOICES[split])}"
            speakers[text] = Utterance(text, voice, int(rng.integers(165, 221)), int(rng.integers(30, 71)))
        words.append(speakers[text])
    return tuple(words)
