"""The text files of av-digits: AVE's annotation files, a timeline for each clip, and a README."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from avpea.data.samples._pictures import FPS, FRAME_SIZE, MARKS, choose_background
from avpea.data.samples._plan import DIGIT_NAMES, ClipPlan, Utterance
from avpea.data.samples._sound import SOUND_RATE_HZ, choose_noise
from avpea.files import write_text
from avpea.labels import SPLITS

__all__ = ["write_layout"]

_README = """\
# av-digits

Composed by avpea (`avpea data make av-digits`) in the layout of AVE. Second s belongs to the event when
StartTime <= s < EndTime: then a handwritten digit is seen and the same digit is spoken. Elsewhere the digit
is only seen or only heard, another digit is seen or heard, both differ, or there is neither; marks and other
words stand in for digits. timelines.jsonl says what is seen and heard in each second, and from which source.

No image of a digit, no voice and no piece of a photograph is in two splits. The digit images are the test
part of the UCI optdigits data, written by 13 people. It has no writer ids, but the labels show 14 filled-in
forms one after the other; a clip is from one form, and a form in one split. So hands are kept apart, but for
what is not known: who filled in two forms. Voices are variants of one synthesiser, with shared accents.

| part | origin | licence |
| --- | --- | --- |
| digits | UCI "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak), in scikit-learn | CC BY 4.0 |
| photographs china.jpg, flower.jpg | in scikit-learn, see its datasets/images/README.txt | CC BY |
| speech | spoken by espeak-ng (in the package espeakng-loader) | the program is GPL-3.0 |
| textures, noise, marks | computed | |
"""


def write_layout(folder: Path, plans: Sequence[ClipPlan]) -> None:
    """Write all text files; the last one, Annotations.txt, marks the data set as complete.

    Raises:
        OSError: A file cannot be written.
    """
    rows = {plan.video_id: _row(plan) for plan in plans}
    write_text(folder / "README.md", _README)
    write_text(folder / "categories.txt", _lines(DIGIT_NAMES))
    write_text(folder / "timelines.jsonl", _lines(json.dumps(_timeline(plan)) for plan in plans))
    for split in SPLITS:
        write_text(folder / f"{split}Set.txt", _lines(rows[plan.video_id] for plan in plans if plan.split == split))
    write_text(folder / "Annotations.txt", _lines(["Category&VideoID&Quality&StartTime&EndTime", *rows.values()]))


def _row(plan: ClipPlan) -> str:
    return f"{DIGIT_NAMES[plan.digit]}&{plan.video_id}&good&{plan.start}&{plan.end}"


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _timeline(plan: ClipPlan) -> dict[str, Any]:
    """One row of timelines.jsonl: `background` for seconds without a digit, null for those without mark or word."""
    images, voices = _sources(plan)
    digits_heard = [word is not None and heard is not None for word, heard in zip(plan.words, plan.heard, strict=True)]
    return {
        "video_id": plan.video_id,
        "split": plan.split,
        "category": DIGIT_NAMES[plan.digit],
        "start": plan.start,
        "end": plan.end,
        "size": [FRAME_SIZE, FRAME_SIZE],
        "fps": FPS,
        "audio_rate": SOUND_RATE_HZ,
        "audio_channels": 1,
        "visual_sources": images,
        "background_sources": [choose_background(plan.split, plan.generator("picture")).name],
        "audio_sources": voices,
        "ambient_source": choose_noise(plan.generator("sound")).name,
        "visual_per_second": _names(plan.seen),
        "audio_per_second": _names(plan.heard),
        "marks_per_second": [None if mark is None else list(MARKS)[mark] for mark in plan.marks],
        "other_words_per_second": [
            None if word is None or digit else word.text for word, digit in zip(plan.words, digits_heard, strict=True)
        ],
    }


def _names(digits: tuple[int | None, ...]) -> list[str]:
    return ["background" if digit is None else DIGIT_NAMES[digit] for digit in digits]


def _sources(plan: ClipPlan) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    """Indices in load_digits by the digit shown, and voices of espeak-ng by the word spoken."""
    images: dict[str, list[int]] = {}
    for digit, image in zip(plan.seen, plan.images, strict=True):
        if digit is not None and image is not None and image not in images.setdefault(DIGIT_NAMES[digit], []):
            images[DIGIT_NAMES[digit]].append(image)
    voices: dict[str, list[str]] = {}
    spoken: list[Utterance] = [word for word in plan.words if word]
    for word in spoken:
        if word.voice not in voices.setdefault(word.text, []):
            voices[word.text].append(word.voice)
    return images, voices
