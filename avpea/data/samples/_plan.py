"""The plan of an av-digits clip: the digit seen, the word heard, the hand and the voice in each second."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = [
    "ACCENTS",
    "DIGIT_NAMES",
    "FORMS",
    "FORM_STARTS",
    "OTHER_WORDS",
    "SECONDS",
    "VOICES",
    "ClipPlan",
    "Utterance",
    "clip_plans",
]

SECONDS = 10
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OTHER_WORDS = (
    *("apple", "window", "river", "yellow", "garden", "table", "paper", "summer", "doctor", "music"),
    *("water", "people", "orange", "castle", "pencil", "monday", "bread", "house", "light", "stone"),
)

# load_digits holds 14 filled-in forms one after the other: the labels "0123456789" x 3, "0955650989..." start again at
# each of these images. Splits by form keep writers apart, but one of the 13 writers filled in two forms, and it is not
# known who.
FORM_STARTS = (0, 130, 256, 386, 516, 646, 776, 905, 1029, 1157, 1287, 1415, 1543, 1667, 1797)
FORMS = {"train": range(8), "val": range(8, 10), "test": range(10, 14)}

# espeak-ng variants. Many are near copies of each other (klatt4 and klatt5, Diogo and michel ...): similar ones by
# spectral distance are in the same split. Left out are robots, whisperers, speakers too slow for one second, and all
# voices with `breath` in their file (f2, f3, f5, victor ...), which sound different in each run.
VOICES = {
    "train": (
        *("Alex", "m6", "croak", "grandpa", "m3", "m1", "max", "norbert", "boris", "kaukovalta", "Andy"),
        *("Diogo", "miguel", "Hugo", "grandma", "ian", "adam", "benjamin", "david", "mike2", "Gene", "Lee"),
        *("klatt", "klatt3", "klatt4", "edward", "iven", "iven2", "iven4", "marcelo"),
        *("aunty", "linda", "belinda", "Annie", "f4", "m2"),
    ),
    "val": ("steph", "Denis", "ed", "paul", "quincy", "pedro", "pablo"),
    "test": (
        *("Michael", "Mario", "Nguyen", "gustave", "m7", "m8", "rob", "m4", "m5", "f1"),
        *("travis", "shelby", "Jacky"),
    ),
}
# Accents of English that this espeak-ng accepts; they are shared by the splits.
ACCENTS = (
    "en-us",
    "en",
    "en-gb-x-rp",
    "en-us-nyc",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)

# Kinds of background, with their probabilities.
_KINDS = (
    ("neither", 0.12),
    ("heard", 0.22),
    ("seen", 0.22),
    ("other heard", 0.06),
    ("other seen", 0.06),
    ("seen, other heard", 0.16),
    ("heard, other seen", 0.16),
)
_WHOLE_CLIP_SHARE = 0.28  # share of events that fill the whole clip, similar to AVE


class Utterance(NamedTuple):
    """A word for espeak-ng to speak: `rate` in words per minute, `pitch` from 0 to 99."""

    text: str
    voice: str
    rate: int
    pitch: int


@dataclass(frozen=True)
class Planned:
    """What the plans of all kinds of clips have.

    Attributes:
        video_id: 11 characters of A-Z a-z 0-9 - _, like a YouTube id.
        split: `train`, `val` or `test`.
        seed: Random seed for rendering the clip.
    """

    video_id: str
    split: str
    seed: int

    def generator(self, stream: Literal["picture", "sound"]) -> np.random.Generator:
        """A random generator for rendering one stream, in the same state at every call."""
        return np.random.default_rng([self.seed, ("picture", "sound").index(stream)])


def drawn(kind: str, seed: int, split: str, index: int) -> tuple[dict[str, Any], np.random.Generator]:
    """The fields of `Planned` of a clip, and the generator of the rest of its plan; they depend on nothing else.

    Args:
        kind: Name of the data set.
        seed: Its random seed.
        split: `train`, `val` or `test`.
        index: Number of the clip in the split.
    """
    digest = hashlib.sha256(f"{kind}/{seed}/{split}/{index}".encode()).digest()
    video_id, own = base64.urlsafe_b64encode(digest).decode()[:11], int.from_bytes(digest[8:16])
    return {"video_id": video_id, "split": split, "seed": own}, np.random.default_rng(int.from_bytes(digest[:8]))


@dataclass(frozen=True)
class ClipPlan(Planned):
    """The plan of a clip; second s belongs to the event if `start <= s < end`.

    Attributes:
        digit: The class.
        start: First second of the event.
        end: One past its last second.
        seen: Digit in the picture in each second, or None.
        heard: Digit spoken in each second, or None.
        images: Index in load_digits for each second, or None.
        marks: Number of the mark (a drawing that is no digit) in each second, or None.
        words: Word spoken in each second: the digit heard, another word, or None.
    """

    digit: int
    start: int
    end: int
    seen: tuple[int | None, ...]
    heard: tuple[int | None, ...]
    images: tuple[int | None, ...]
    marks: tuple[int | None, ...]
    words: tuple[Utterance | None, ...]


def clip_plans(split: str, count: int, seed: int, targets: Sequence[int], marks: int) -> list[ClipPlan]:
    """Plan the clips of a split; clip i does not depend on `count`.

    Args:
        split: `train`, `val` or `test`.
        count: Number of clips, spread evenly over the ten digits.
        seed: Random seed of the data set.
        targets: Label of every image of load_digits.
        marks: Number of marks to choose from.
    """
    return [_clip_plan(split, index, seed, targets, marks) for index in range(count)]


def _clip_plan(split: str, index: int, seed: int, targets: Sequence[int], marks: int) -> ClipPlan:
    known, rng = drawn("av-digits", seed, split, index)
    digit = index % len(DIGIT_NAMES)
    start, end = _event(rng)
    seen: list[int | None] = [None] * SECONDS
    heard: list[int | None] = [None] * SECONDS
    _fill_background(rng, digit, range(start), seen, heard)
    seen[start:end] = heard[start:end] = [digit] * (end - start)
    _fill_background(rng, digit, range(end, SECONDS), seen, heard)
    return ClipPlan(
        **known,
        digit=digit,
        start=start,
        end=end,
        seen=tuple(seen),
        heard=tuple(heard),
        images=_images(rng, split, seen, targets),
        marks=_marks(rng, seen, marks),
        words=_words(rng, split, digit, heard),
    )


def _event(rng: np.random.Generator) -> tuple[int, int]:
    if rng.random() < _WHOLE_CLIP_SHARE:
        return 0, SECONDS
    lengths = np.arange(2, 9)
    # Short events are more frequent, so that about four in ten seconds are background.
    length = int(rng.choice(lengths, p=(12 - lengths) / (12 - lengths).sum()))
    start = int(rng.integers(0, SECONDS - length + 1))
    return start, start + length


def _fill_background(
    rng: np.random.Generator,
    digit: int,
    seconds: range,
    seen: list[int | None],
    heard: list[int | None],
) -> None:
    """Fill `seconds` of `seen` and `heard` with stretches of 1-3 s, in which no digit is both seen and heard."""
    kinds, shares = zip(*_KINDS, strict=True)
    at = seconds.start
    while at < seconds.stop:
        length = min(int(rng.integers(1, 4)), seconds.stop - at)
        kind = str(rng.choice(kinds, p=shares))
        other = int(rng.choice([d for d in range(len(DIGIT_NAMES)) if d != digit]))
        stretch = slice(at, at + length)
        if "seen" in kind:
            seen[stretch] = [other if "other seen" in kind else digit] * length
        if "heard" in kind:
            heard[stretch] = [other if "other heard" in kind else digit] * length
        at += length


def _images(
    rng: np.random.Generator, split: str, seen: list[int | None], targets: Sequence[int]
) -> tuple[int | None, ...]:
    """A new image every second, all from one form, so that the picture does not reveal where the event starts."""
    form = int(rng.choice(FORMS[split]))
    hand = range(FORM_STARTS[form], FORM_STARTS[form + 1])
    return tuple(
        None if digit is None else int(rng.choice([image for image in hand if targets[image] == digit]))
        for digit in seen
    )


def _marks(rng: np.random.Generator, seen: list[int | None], marks: int) -> tuple[int | None, ...]:
    """A mark in half of the seconds without a digit."""
    return tuple(int(rng.integers(marks)) if digit is None and rng.random() < 0.5 else None for digit in seen)


def _words(rng: np.random.Generator, split: str, digit: int, heard: list[int | None]) -> tuple[Utterance | None, ...]:
    """The digit in every second with one; another word in half of the other seconds."""
    own, foreign = (_speaker(rng, split) for _ in range(2))
    one_speaker = rng.random() < 0.5
    words: list[Utterance | None] = []
    for spoken in heard:
        if spoken is None and rng.random() < 0.5:
            words.append(None)
            continue
        text = str(rng.choice(OTHER_WORDS)) if spoken is None else DIGIT_NAMES[spoken]
        speaker = own if one_speaker or spoken == digit else foreign
        rate = speaker.rate + int(rng.integers(-10, 11))
        words.append(speaker._replace(text=text, rate=rate, pitch=speaker.pitch + int(rng.integers(-5, 6))))
    return tuple(words)


def _speaker(rng: np.random.Generator, split: str) -> Utterance:
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(VOICES[split])}"
    return Utterance("", voice, int(rng.integers(165, 221)), int(rng.integers(30, 71)))
