"""The plan of an avs-digits clip: two digits side by side, and which of them is spoken."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avpea.data.samples._plan import (
    ACCENTS,
    DIGIT_NAMES,
    FORM_STARTS,
    FORMS,
    SECONDS,
    VOICES,
    Planned,
    Utterance,
    drawn,
)

__all__ = ["PairPlan", "pair_plans"]

# Three that differ in form and in sound. Some hundred clips do not teach a small model ten of each.
_DIGITS = (0, 1, 4)
_SILENT_SHARE = 0.25  # share of stretches in which nothing is spoken


@dataclass(frozen=True)
class PairPlan(Planned):
    """The plan of a clip.

    Attributes:
        digits: The digit on the left, and another one on the right, in each second. Every second has a pair of its own,
            so that few clips hold many pairs, and no clip can be known by its pair.
        spoken: Which of them is spoken in each second, 0 or 1; None if nothing is.
        images: Index in load_digits of both, for each second.
        words: The word spoken in each second, or None.
    """

    digits: tuple[tuple[int, int], ...]
    spoken: tuple[int | None, ...]
    images: tuple[tuple[int, int], ...]
    words: tuple[Utterance | None, ...]


def pair_plans(split: str, count: int, seed: int, targets: Sequence[int], marks: int = 0) -> list[PairPlan]:
    """Plan the clips of a split; clip i does not depend on `count`.

    Args:
        split: `train`, `val` or `test`.
        count: Number of clips.
        seed: Random seed of the data set.
        targets: Label of every image of load_digits.
        marks: Number of marks to choose from; there are none in these clips.
    """
    return [_pair_plan(split, index, seed, targets) for index in range(count)]


def _pair_plan(split: str, index: int, seed: int, targets: Sequence[int]) -> PairPlan:
    known, rng = drawn("avs-digits", seed, split, index)
    digits = tuple(_pair(rng) for _ in range(SECONDS))
    spoken = _spoken(rng)
    form = int(rng.choice(FORMS[split]))
    # New images every second, whoever speaks, so that the picture does not reveal where that changes.
    images = tuple((_image(rng, form, left, targets), _image(rng, form, right, targets)) for left, right in digits)
    return PairPlan(**known, digits=digits, spoken=spoken, images=images, words=_words(rng, split, digits, spoken))


def _pair(rng: np.random.Generator) -> tuple[int, int]:
    """Two different digits."""
    left, right = rng.choice(_DIGITS, 2, replace=False).tolist()
    return left, right


def _spoken(rng: np.random.Generator) -> tuple[int | None, ...]:
    """Stretches of 1-3 s, in each of which the left digit, the right one or nothing is spoken."""
    spoken: list[int | None] = []
    while len(spoken) < SECONDS:
        which = None if rng.random() < _SILENT_SHARE else int(rng.integers(2))
        spoken += [which] * int(rng.integers(1, 4))
    return tuple(spoken[:SECONDS])


def _image(rng: np.random.Generator, form: int, digit: int, targets: Sequence[int]) -> int:
    """A random image of a digit on a form."""
    hand = [image for image in range(FORM_STARTS[form], FORM_STARTS[form + 1]) if targets[image] == digit]
    return int(rng.choice(hand))


def _words(
    rng: np.random.Generator, split: str, digits: Sequence[tuple[int, int]], spoken: Sequence[int | None]
) -> tuple[Utterance | None, ...]:
    """The digit that is spoken in each second, both in one voice."""
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(VOICES[split])}"
    speaker = Utterance("", voice, int(rng.integers(165, 221)), int(rng.integers(30, 71)))
    words: list[Utterance | None] = []
    for both, which in zip(digits, spoken, strict=True):
        rate, pitch = speaker.rate + int(rng.integers(-10, 11)), speaker.pitch + int(rng.integers(-5, 6))
        text = None if which is None else DIGIT_NAMES[both[which]]
        words.append(None if text is None else speaker._replace(text=text, rate=rate, pitch=pitch))
    return tuple(words)
