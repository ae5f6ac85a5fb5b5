"""Tables of events and captions, however a spreadsheet or a program writes them: the right rows, or a sentence."""

import csv
import functools
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea.data.readers._table import read_rows
from avpea.labels import Annotations
from tests.properties.kinds import ODD, PLAIN, outcome, read, spoiled_bytes

NAMES = ("a.mp4", "b c.mp4", "sub/d.mp4", "é.mp4", "e\u0301.mp4", "=1.mp4", "-x.mp4", "'q'.mp4")
EVENTS = st.tuples(
    st.sampled_from(NAMES), st.integers(0, 400), st.integers(1, 90), st.sampled_from(["cat", "dog", "=2", "[x]"])
)


def clock(tenths: int, form: int, comma: bool) -> str:
    """A time as people and programs write it."""
    whole, rest = divmod(tenths, 10)
    plain = [f"{tenths / 10:g}", f"{tenths / 10:.3f}", f"{whole // 60}:{whole % 60:02d}.{rest}",
             f"0:{whole // 60:02d}:{whole % 60:02d}.{rest}", f"{tenths}e-1"][form]  # fmt: skip
    return plain.replace(".", ",") if comma else plain


def labels_by_second(found: Annotations) -> dict[tuple[str, int], str]:
    """The label of each second of each video, which overlapping windows must agree about."""
    names = (*found.labels.names, "")
    seconds: dict[tuple[str, int], str] = {}
    for sample in found.samples:
        for offset, label in enumerate(sample.labels):  # type: ignore[attr-defined]
            assert (
                seconds.setdefault((sample.video_id, int(sample.start_seconds) + offset), names[label]) == names[label]
            )
    return seconds


def counted(events: list[tuple[str, int, int, str]]) -> dict[tuple[str, int], str]:
    """The same by counting tenths of seconds: at least half of a second, the most of it, the first of equals."""
    found = {}
    for video in {event[0] for event in events}:
        mine = [event for event in events if event[0] == video]
        end = max(10, *(start + length for _, start, length, _ in mine))
        for second in range(max(1, math.ceil((end - 1) / 10))):
            tenths = range(10 * second, min(10 * second + 10, end))
            covers = {
                label: sum(any(a <= t < a + n for _, a, n, other in mine if other == label) for t in tenths)
                for label in dict.fromkeys(event[3] for event in mine)
            }
            best = max(covers, key=lambda label: covers[label])
            found[video, second] = best if 2 * covers[best] >= len(tenths) else ""
    return found


@given(
    st.lists(EVENTS, min_size=1, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(0, 4),
    st.booleans(),
    st.integers(1, 12),
)
def test_a_table_says_the_same_in_every_spelling(
    tmp_path: Path, events: list[Any], separator: str, encoding: str, end: str, form: int, comma: bool, segments: int
) -> None:
    text = io.StringIO()
    writer = csv.writer(
        text, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL if form % 2 else csv.QUOTE_MINIMAL
    )
    writer.writerow(["Video", " start_seconds", "END_SECONDS", "label"])
    comma = comma and separator == ";"
    for video, start, length, label in events:
        writer.writerow([video, clock(start, form, comma), clock(start + length, form, comma), label])
    path = tmp_path / "rows.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    found = read("manifest", path, segments=segments)
    seconds, wanted = labels_by_second(found), counted(events)
    assert {key: seconds[key] for key in wanted} == wanted
    assert not any(label for key, label in seconds.items() if key not in wanted)


@given(st.lists(EVENTS, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_json_lines_say_the_same(tmp_path: Path, events: list[Any], ascii_only: bool, empty: bool) -> None:
    rows = [
        {"video": v, "start_seconds": a / 10, "end_seconds": (a + n) / 10, "label": label} for v, a, n, label in events
    ]
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    path.write_text(("\n\n" if empty else "\n").join(lines), encoding="utf-8")
    seconds, wanted = labels_by_second(read("manifest", path, segments=5)), counted(events)
    assert {key: seconds[key] for key in wanted} == wanted


WHOLE = (
    b'video,start_seconds,end_seconds,label,split\na.mp4,0,2.5,dog,train\n"b, c.mp4",1:02,1:03.5,"a ""cat""",val\n'
    b"d.mp4,,,,test\n\xc3\xa9.mp4,3,4,\xc3\xa9,train\n"
)
OTHER = b"sep=;\r\nvideo;start_seconds;end_seconds;label\r\na.mp4;0;2,5;dog\r\nb.mp4;1;2;cat\r\n"
IN_JSON = (
    b'{"video": "a.mp4", "start_seconds": 0, "end_seconds": 2.5, "label": "dog"}\n'
    b'{"video": "b.mp4", "start_seconds": "1:02", "end_seconds": 70, "label": "\\u00e9"}\n{"video": "c.mp4"}\n'
)


def again(path: Path) -> list[tuple[str, str]] | None:
    """Video and label of each row by the standard library alone; None where it reads no such table."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
            return [(row["video"].strip(), (row.get("label") or "").strip()) for row in rows]
        first, _, rest = text.partition("\n")
        if first.strip().strip('"').lower().startswith("sep="):
            separator, text = first.strip().strip('"')[-1], rest
        else:
            separator = max(",;\t|", key=first.count)
        header, *found = csv.reader(io.StringIO(text), delimiter=separator)
        places = [[name.strip().lower() for name in header].index(name) for name in ("video", "label")]
        return [(r[places[0]].strip(), r[places[1]].strip()) for r in found if any(cell.strip() for cell in r)]
    except (UnicodeDecodeError, LookupError, TypeError, AttributeError, csv.Error, ValueError):
        return None


@pytest.mark.parametrize(("whole", "ending"), [(WHOLE, ".csv"), (OTHER, ".csv"), (IN_JSON, ".jsonl")])
@given(drawn=st.data())
def test_a_damaged_table_is_read_right_or_refused(tmp_path: Path, whole: bytes, ending: str, drawn: Any) -> None:
    path = tmp_path / f"rows{ending}"
    path.write_bytes(drawn.draw(spoiled_bytes(whole)))
    outcome(lambda: read("own", path, segments=4))
    rows = outcome(lambda: read_rows(path))
    wanted = again(path)
    if rows is not None and wanted is not None:
        assert [(row.video, row.label) for row in rows[0]] == wanted


EVENT = {"video": "a.mp4", "start_seconds": 0, "end_seconds": 2.5, "label": "dog"}
CAPTION = {"video": "a.mp4", "caption": "A dog."}
VALUES = st.one_of(st.sampled_from(ODD), PLAIN, st.floats(), st.integers())


@given(
    st.lists(st.dictionaries(st.sampled_from([*EVENT, "caption", "split", "error"]), VALUES, max_size=2), min_size=1,
             max_size=4),
)  # fmt: skip
def test_odd_values_in_json_are_refused(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "rows.jsonl"
    for reader, whole in (("manifest", EVENT), ("captions", CAPTION)):
        path.write_text("".join(json.dumps({**whole, **row}) + "\n" for row in rows))
        outcome(functools.partial(read, reader, path, segments=3))


@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=6), st.sampled_from([",", ";", "\t"]))
def test_captions_of_any_text_are_kept(tmp_path: Path, rows: list[tuple[str, str]], separator: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(["video", "caption"])
    writer.writerows(rows)
    path = tmp_path / "rows.csv"
    path.write_bytes(text.getvalue().encode())
    found = outcome(lambda: read("captions", path, segments=3))
    if found is None:
        return
    kept = {sample.video_id: sample.captions for sample in found.samples}  # type: ignore[attr-defined]
    wanted: dict[str, list[str]] = {}
    for video, caption in rows:
        caption = caption.replace("\r\n", "\n").replace("\r", "\n")
        if (video + caption).strip():
            wanted.setdefault(os.path.normpath(video.replace("\r\n", "\n").replace("\r", "\n").strip()), []).append(
                " ".join(caption.split())
            )
    assert {name: list(some) for name, some in kept.items()} == wanted
