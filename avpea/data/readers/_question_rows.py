"""Reading and checking the rows of MUSIC-AVQA's JSON files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.data.readers._files import read_json, require_stem
from avpea.errors import DataError
from avpea.labels import Question
from avpea.labels.questions import tokenise
from avpea.parsing import parse_json

__all__ = ["Row", "read_rows"]


@dataclass(frozen=True)
class Row:
    """A question about a video.

    Attributes:
        video_id: Name of the video file without ending.
        sound_id: Id of another video whose sound replaces the video's (MUSIC-AVQA v2.0's `unmatch_audio`), or empty.
        question: The question with its answer.
        deleted: Whether the annotators marked it as deleted.
    """

    video_id: str
    sound_id: str
    question: Question
    deleted: bool


def read_rows(path: Path) -> list[Row]:
    """Read and check a whole file.

    Raises:
        DataError: The file is not a JSON list, or a row is malformed; names its number, from 1.
    """
    values = read_json(path)
    if not isinstance(values, list):
        raise DataError(f"{path} holds {_kind(values)}; expected a list of questions.")
    if not values:
        raise DataError(f"{path} holds no questions; expected a list of them.")
    return [_row(f"{path}, question {number}", value) for number, value in enumerate(values, start=1)]


def _row(where: str, value: Any) -> Row:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: found {_kind(value)}; expected an object with video_id, question_content and anser.")
    video_id = _video_id(where, value, "video_id")
    sound_id = _video_id(where, value, "unmatch_audio") if value.get("unmatch_audio") else ""
    content, answer = _text(where, value, "question_content"), _text(where, value, "anser", "answer")
    slots = _listed(where, value, "templ_values", "[]")
    try:
        words = tokenise(content, slots)
    except ValueError as error:
        raise DataError(f"{where}: {error} in '{content}', templ_values {slots}.") from None
    if not words:
        raise DataError(f"{where}: the question '{content}' has no words.")
    kind = _listed(where, value, "type", "")
    if len(kind) != 2:
        raise DataError(
            f'{where}: found type {value.get("type")!r}; expected two words, as in \'["Audio", "Counting"]\'.'
        )
    question = Question(_identity(value.get("question_id")), " ".join(kind), content.strip(), words, answer)
    return Row(video_id, sound_id, question, str(value.get("question_deleted") or 0) not in ("0", "0.0"))


def _text(where: str, value: Mapping[str, Any], *names: str) -> str:
    name = next((name for name in names if name in value), names[0])
    text = value.get(name)
    if not isinstance(text, str) or not text.strip():
        shown = "no such field" if name not in value else repr(text)
        raise DataError(f"{where}: {name}: found {shown}; expected text.")
    return text.strip()


def _video_id(where: str, value: Mapping[str, Any], name: str) -> str:
    text = _text(where, value, name)
    return require_stem(where, f"{name} '{text}'", text)


def _listed(where: str, value: Mapping[str, Any], name: str, default: str) -> Sequence[str]:
    """A list of strings, which official files have as JSON inside a string."""
    found = value.get(name, default)
    if isinstance(found, str):
        try:
            found = parse_json(found, where, DataError)
        except DataError:
            found = None
    if not isinstance(found, list) or not all(isinstance(item, str) and item.strip() for item in found):
        raise DataError(f"{where}: found {name} {value.get(name)!r}; expected a JSON list of words.")
    return [item.strip() for item in found]


def _identity(number: Any) -> str:
    """The same id for 12, 12.0 and "12"; empty for None, as MUSIC-AVQA v2.0's new questions have no number."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return "" if number is None else str(number)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
