"""What the properties draw from: strangers' text, odd values, and valid files that something has damaged."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

from avpea import data
from avpea.data.identity import identify, read_identity
from avpea.errors import AvpeaError
from avpea.escapes import for_terminal
from avpea.experiment import parse_section
from avpea.labels import Annotations
from avpea.parsing import parse_json

T = TypeVar("T")

HOSTILE = (
    *("[/bold]", "[link=file:///x]", "\x1b]0;owned\x07", "\x1b[31m", "\u202egpj.exe", "=cmd|'/C calc'!A0", "<script>"),
    *("|", "`", "../", "a\nb", "a\r\nb", "a\x0bb", "a\x85b", "a\u2028b", "$x_1$", "🎵", "é", "e\u0301", "\ufeff", "🇨🇭"),
    *("-", "-->", "{\\an8}", "&amp;", "\\N", "'", '"', ";", ",", "\t", "NaN", "null", "1,234", " ", "%", "{}", "{0}"),
    *("x" * 300, "\x00", "\ud800", "\udcff", "background", "train", "Dog", "dog", "ﬁ", "\u200b", "١", "０"),
)
# Text of any kind, and text that a file of names or labels can hold: Unicode, without null.
TEXTS = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=8), st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join)
)
PLAIN = TEXTS.map(lambda text: text.replace("\0", "").encode(errors="ignore").decode())
ODD: list[Any] = [
    None, True, False, 0, -1, 7, 2**31, 2**63, 10**30, 0.5, -0.0, 1e-320, 1e300, float("nan"), float("inf"), "", " ",
    "x", "0", "-1", "1e5", "NaN", "null", "../x", "\0", "\ud800", "a\nb", "[/bold]", [], [[]], [None], [1], ["a", "a"],
    ["x"], {}, {"a": 1}, {"": {}}, {"name": []}, [{}], [[1, 2], [3]], "x" * 3000,
]  # fmt: skip


def sentence(error: AvpeaError) -> None:
    """An error for people: it ends as a sentence does, is not a page long, and prints as text."""
    text = str(error)
    assert text.endswith((".", "?")), text
    assert len(text) < 8000
    assert for_terminal(text, lines=True).encode()


def outcome(action: Callable[[], T]) -> T | None:
    """What an action returns, or None where it refuses in a sentence; any other exception is the test's."""
    try:
        return action()
    except AvpeaError as error:
        sentence(error)
        return None


@st.composite
def spoiled_bytes(draw: Any, whole: bytes) -> bytes:
    """A file with one to four faults: a byte changed, something inserted, left out, repeated or cut off."""
    found = whole
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(found)))
        stop = min(len(found), at + draw(st.integers(1, 12)))
        kind = draw(st.integers(0, 6))
        pieces = (b"\0", b"\r\n", b"\r", b'"', b",", b";", b"\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"-", b"&", b"1e999",
                  b"NaN", b"\xed\xa0\x80", b"\x1b[31m", b"[" * 60, b"9" * 30, b"\xff\xfe", b"\\u0000")  # fmt: skip
        if kind == 0:
            found = found[:at] + draw(st.binary(min_size=1, max_size=1)) + found[at + 1 :]
        elif kind == 1:
            found = found[:at] + draw(st.sampled_from(pieces)) + found[at:]
        elif kind == 2:
            found = found[:at] + found[stop:]
        elif kind == 3:
            found = found[:stop] + found[at:]
        elif kind == 4:
            found = found[:at]
        elif kind == 5:
            found = draw(st.sampled_from(pieces)) + found
        else:
            lines = found.split(b"\n")
            found = b"\n".join(draw(st.permutations(lines)) if len(lines) < 9 else reversed(lines))
    return found


@st.composite
def spoiled_value(draw: Any, whole: Any) -> Any:
    """A plain value with one to three faults: a part left out, renamed, or replaced by an odd one."""
    found = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        parents: list[tuple[Any, Any]] = []
        place = found
        while isinstance(place, dict | list) and place and (not parents or draw(st.booleans())):
            key = draw(st.sampled_from(sorted(place, key=repr) if isinstance(place, dict) else range(len(place))))
            parents.append((place, key))
            place = place[key]
        if not parents:
            return copy.deepcopy(draw(st.sampled_from(ODD)))
        holder, key = parents[-1]
        kind = draw(st.integers(0, 4))
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw(st.one_of(PLAIN, st.sampled_from([None, True, 7, 0.5])))] = holder.pop(key)
        elif kind == 2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return found


def read(reader: str, root: Path, **options: Any) -> Annotations:
    """Read a data set, and do with it what every training does before it starts.

    What is read can be kept: labels in a checkpoint, and samples in data.json, both of which are read again.
    """
    section = parse_section("data", name=reader, root=str(root), **options)
    found = data.read(section)
    try:
        _keep(section, found, root.parent / "identity")
    except AvpeaError as error:
        raise AssertionError(f"what is read cannot be kept: {error}") from None
    return found


def _keep(section: Any, found: Annotations, folder: Path) -> None:
    labels = found.labels
    assert type(labels).from_dict(parse_json(json.dumps(labels.to_dict()), "labels")) == labels
    identity = identify(section, found, files=())
    folder.mkdir(exist_ok=True)
    identity.write(folder)
    assert read_identity(folder) == identity
    keys = [sample.key for sample in found.samples]
    assert len(set(keys)) == len(keys)
    assert all(key.isascii() and "/" not in key and len(key) < 120 for key in keys)
    for line in [*labels.overview(found.splits), *found.notes, *found.told()]:
        assert for_terminal(line).encode()
