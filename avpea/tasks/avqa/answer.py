"""The answer to a question about a video: probabilities, and where and when the model looked and listened."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from avpea.errors import AvpeaError
from avpea.labels import QuestionVocabulary, shortened
from avpea.tables import Table, clock
from avpea.tasks import Answer, Calibration, beginning

__all__ = ["AskedQuestion", "Reply", "read_question", "typed"]

SHOWN = 5
_NAMED = 20  # words in a remark


@dataclass(frozen=True)
class AskedQuestion:
    """A question as typed, and as the model reads it.

    Attributes:
        text: The question as typed.
        words: Words that the model reads, in order.
        unknown: Words that no training question has.
        too_long: Words that are left out, beyond the length of the longest training question, or of what a model that
            reads any words takes.
        nearest: The closest training wording; empty if none is close, or the question has a training wording.
        worded: Whether a training question is worded like this, with any values in its slots; true if the model does
            not know its training questions.
        reads_unknown: Whether the model reads unknown words nevertheless; one with a vocabulary leaves them out.
    """

    text: str
    words: tuple[str, ...]
    unknown: tuple[str, ...]
    too_long: tuple[str, ...]
    nearest: str
    worded: bool = True
    reads_unknown: bool = False

    @property
    def left_out(self) -> tuple[str, ...]:
        """Words that the model does not read."""
        return self.too_long if self.reads_unknown else (*self.unknown, *self.too_long)

    @property
    def outside(self) -> bool:
        """Whether the question is outside the model's training, so that its answer may mean nothing."""
        return bool(self.unknown or self.too_long or not self.worded)

    def remarks(self) -> list[str]:
        """Remarks on how the question was read, in sentences."""
        lines = []
        if self.unknown:
            what = "No" if self.reads_unknown else "Left out, because no"
            lines.append(f"{what} training question has these words: {shortened(self.unknown, _NAMED)}.")
        if self.too_long:
            why = "the model reads no longer ones" if self.reads_unknown else "no training question is that long"
            lines.append(f"Left out, because {why}: {shortened(self.too_long, _NAMED, ' ')}.")
        if self.nearest:
            lines.append(f"No training question is worded like this; the closest is: {self.nearest}")
        elif not self.worded:
            lines.append("No training question is worded like this, and none is close.")
        if self.outside:
            lines.append("The question is outside the model's training, so the answer may mean nothing.")
        return lines


@dataclass(frozen=True)
class Reply(Answer):
    """The answer to a question about a video.

    Attributes:
        video: The video file.
        question: The question as typed and as read.
        answers: Answers with their probabilities, the most probable first.
        clip: Decoded frames and sound.
        spatial: Attention of each second's sound to its frame, on the grid of patches; None without video.
        seen: Attention of the question to the frame of each second; None without video.
        heard: Attention of the question to the sound of each second; None without video.
        calibration: What the probabilities were calibrated with; None for a model that was not.
    """

    video: Path
    question: AskedQuestion
    answers: tuple[tuple[str, float], ...]
    clip: Any
    spatial: Float[Tensor, "segments rows columns"] | None
    seen: Float[Tensor, " segments"] | None
    heard: Float[Tensor, " segments"] | None
    calibration: Calibration | None = None

    @classmethod
    def of(
        cls,
        clip: Any,
        question: AskedQuestion,
        probabilities: Iterable[tuple[str, float]],
        spatial: Float[Tensor, "segments patches"] | None = None,
        seen: Float[Tensor, "1 segments"] | None = None,
        heard: Float[Tensor, "1 segments"] | None = None,
        calibration: Calibration | None = None,
    ) -> "Reply":
        """Build the reply from probabilities and attention; answers are sorted, patches put on their grid."""
        answers = sorted(probabilities, key=lambda pair: -pair[1])
        grid = None if spatial is None else _on_grid(spatial)
        looked, listened = (None if shares is None else shares[0] for shares in (seen, heard))
        return cls(clip.path, question, tuple(answers), clip, grid, looked, listened, calibration)

    @property
    def answer(self) -> str:
        """The most probable answer."""
        return self.answers[0][0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as printed by `avpea ask --json`; positions are centres of patches, in [0, 1] of the frame."""
        return {
            **beginning("avpea-reply-1", self.video, self.clip),
            "question": self.question.text,
            "read_as": " ".join(self.question.words),
            "left_out": list(self.question.left_out),
            "nearest_training_question": self.question.nearest or None,
            "outside_training": self.question.outside,
            "remarks": [*self.clip.remarks(), *self.question.remarks()],
            "answer": self.answer,
            "probability": round(self.answers[0][1], 4),
            "answers": {answer: round(chance, 4) for answer, chance in self.answers[:SHOWN]},
            "calibration": self.calibration and self.calibration.brief(),
            "seconds": [self._second(index) for index in range(len(self.clip.frames))],
        }

    def rows(self) -> list[tuple[str, str, float]]:
        """The question and the most probable answer."""
        return [(self.question.text, self.answer, round(self.answers[0][1], 4))]

    def report(self) -> Iterator[str | Table]:
        """The most probable answers, and the seconds with the most attention."""
        yield f"{self.video}: {self.question.text}"
        yield from self.clip.remarks()
        yield from self.question.remarks()
        yield Table(["answer", "probability"], [(answer, f"{chance:.2f}") for answer, chance in self.answers[:SHOWN]])
        if self.seen is not None and self.heard is not None:
            starts = self.clip.starts
            seen, heard = (clock(starts[int(shares.argmax())]) for shares in (self.seen, self.heard))
            yield f"It looked most at {seen} and listened most at {heard}."

    def _second(self, index: int) -> dict[str, Any]:
        values: dict[str, Any] = {"start_seconds": self.clip.starts[index]}
        if self.seen is not None and self.heard is not None:
            values |= {"seen": round(float(self.seen[index]), 4), "heard": round(float(self.heard[index]), 4)}
        if self.spatial is not None:
            rows, columns = self.spatial.shape[1:]
            peak = int(self.spatial[index].argmax())
            values["sound_found_at"] = {
                "x": round((peak % columns + 0.5) / columns, 3),
                "y": round((peak // columns + 0.5) / rows, 3),
                "share": round(float(self.spatial[index].max()), 4),
            }
        return values

    def plot(self, path: str | Path) -> None:
        """Draw where each sound was found, and which seconds mattered."""
        from avpea import plot

        plot.grounding(
            Path(path),
            title=self.video.name,
            question=self.question.text,
            answers=self.answers[:SHOWN],
            frames=self.clip.frames,
            frame_seconds=self.clip.starts,
            frame_aspect=self.clip.frame_aspect,
            waveform=self.clip.waveform,
            spatial=self.spatial,
            seen=self.seen,
            heard=self.heard,
        )


def read_question(vocabulary: QuestionVocabulary, text: str) -> AskedQuestion:
    """Read a typed question.

    Raises:
        AvpeaError: It is empty, or the model knows none of its words.
    """
    if not text.strip():
        raise AvpeaError(f"The question is empty; ask for example '{(vocabulary.templates or ('How many?',))[0]}'.")
    words, unknown = vocabulary.read(text)
    worded, nearest = _wording(vocabulary, words, text)
    if not words:
        hint = nearest or next(iter(vocabulary.templates), "")
        raise AvpeaError(
            f"No word of the question '{text}' is known to this model; it was trained on questions such as '{hint}'."
        )
    length = vocabulary.length
    return AskedQuestion(text.strip(), words[:length], unknown, words[length:], nearest, worded)


def typed(vocabulary: QuestionVocabulary, text: str) -> AskedQuestion:
    """A typed question for a model that reads any words.

    Raises:
        AvpeaError: It is empty.
    """
    if not text.strip():
        raise AvpeaError("The question is empty; ask for example 'How many instruments are sounding?'.")
    words, asked = tuple(text.split()), text.strip()
    if not vocabulary.templates:  # an imported model: its training questions are not known
        return AskedQuestion(asked, words, (), (), "")
    known, unknown = vocabulary.read(text)
    worded, nearest = _wording(vocabulary, known, text)
    return AskedQuestion(asked, words, unknown, (), nearest, worded, reads_unknown=True)


def _wording(vocabulary: QuestionVocabulary, words: Sequence[str], text: str) -> tuple[bool, str]:
    """Whether a training question has this wording, and if not, the closest one that has."""
    worded = not vocabulary.templates or vocabulary.has_wording(words)
    return worded, "" if worded else vocabulary.nearest(text) or ""


def _on_grid(spatial: Float[Tensor, "segments patches"]) -> Float[Tensor, "segments rows columns"]:
    """Attention to patches on their grid, which is square because frames are."""
    side = math.isqrt(spatial.shape[1])
    return spatial.reshape(len(spatial), side, side)
