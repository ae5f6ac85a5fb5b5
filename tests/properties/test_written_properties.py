"""What is written for other programs is read by them as it was meant: CSV, subtitles, labels, ELAN, Markdown, HTML."""

import csv
import html
import io
import itertools
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea.escapes import code_for_markdown, for_markdown, for_terminal
from avpea.formats import Stretch, csv_line, rendered
from avpea.page import Card, Cards, Figures, Text, as_html
from avpea.tables import clock
from tests.properties.kinds import TEXTS

T = TypeVar("T")
STRETCHES = st.lists(st.tuples(st.integers(0, 400_000_000), st.integers(0, 90_000), TEXTS), max_size=4).map(
    lambda rows: [Stretch(a / 1000, (a + n) / 1000, text) for a, n, text in sorted(rows)]
)


def plain(text: str) -> str:
    """A text in one line, without control characters, as every format has it."""
    text = text.encode("utf-8", "backslashreplace").decode()
    kept = ["" if letter in "\ufffe\uffff" else letter for letter in text]
    shown = "".join(" " if not one or unicodedata.category(one) in ("Cc", "Zl", "Zp") else one for one in kept)
    return " ".join(shown.split()) or "-"


def times(some: list[Stretch]) -> list[tuple[float, float]]:
    return [(one.start_seconds, max(one.end_seconds, one.start_seconds + 0.001)) for one in some]


def distinct(cues: Iterable[T]) -> list[T]:
    """FFmpeg keeps one of equal cues that follow each other."""
    return [one for one, _ in itertools.groupby(cues)]


@pytest.mark.parametrize(("name", "ending"), [("vtt", ".vtt"), ("srt", ".srt")])
@given(some=STRETCHES)
def test_ffmpeg_reads_subtitles_as_they_were_meant(tmp_path: Path, name: str, ending: str, some: list[Stretch]) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text(rendered(name, tmp_path / "a.mp4", "events", some, path), encoding="utf-8")
    found = []
    if some:
        with av.open(str(path)) as container:
            for packet in container.demux():
                if packet.size and packet.pts is not None and packet.duration is not None:
                    start, stop = packet.pts * packet.time_base, (packet.pts + packet.duration) * packet.time_base
                    found.append((float(start), float(stop), bytes(packet).decode()))
    shown = [(start, stop, html.unescape(text) if name == "vtt" else text) for start, stop, text in found]
    wanted: list[Any] = distinct((*time, plain(one.text)) for time, one in zip(times(some), some, strict=True))
    assert [text.replace("\u2060", "") for _, _, text in shown] == [text.replace("\u2060", "") for _, _, text in wanted]
    assert [one[:2] for one in shown] == [pytest.approx(one[:2], abs=1e-6) for one in wanted]


@given(STRETCHES)
def test_labels_of_audacity_are_columns(some: list[Stretch]) -> None:
    there = Path("/videos/a.mp4")
    text = rendered("audacity", there, "events", some, there)
    rows = [line.split("\t") for line in text.split("\n")[:-1]]
    assert [text for _, _, text in rows] == [plain(one.text) for one in some]
    for (start, stop, _), one in zip(rows, some, strict=True):
        assert (float(start), float(stop)) == pytest.approx((one.start_seconds, one.end_seconds))


@given(STRETCHES, TEXTS.map(lambda text: re.sub("[\0/\ud800-\udc7f\udd00-\udfff]", "", text)))
def test_elan_is_xml_that_says_the_same(some: list[Stretch], video: str) -> None:
    there = Path("/videos") / f"{video[:80]}.mp4"
    root = ET.fromstring(rendered("elan", there, "events", some, there))
    at = {slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")}
    found = sorted(
        (at[one.attrib["TIME_SLOT_REF1"]], at[one.attrib["TIME_SLOT_REF2"]], one.findtext("ANNOTATION_VALUE") or "")
        for one in root.iter("ALIGNABLE_ANNOTATION")
    )
    wanted = [
        (round(1000 * a), round(1000 * b), plain(one.text)) for (a, b), one in zip(times(some), some, strict=True)
    ]
    assert found == sorted(wanted)
    for tier in root.iter("TIER"):
        ends = [
            (at[one.attrib["TIME_SLOT_REF1"]], at[one.attrib["TIME_SLOT_REF2"]])
            for one in tier.iter()
            if "TIME_SLOT_REF1" in one.attrib
        ]
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))


@given(st.lists(st.one_of(TEXTS, st.floats(), st.integers(), st.booleans(), st.none()), min_size=1, max_size=5))
def test_a_line_of_csv_is_one_row_without_formulas(cells: list[Any]) -> None:
    line = csv_line(cells)
    (row,) = csv.reader(io.StringIO(line, newline=""), strict=True)
    assert len(row) == len(cells)
    for cell, shown in zip(cells, row, strict=True):
        if isinstance(cell, str):
            assert shown[:1] not in tuple("=+-@\t＝＋－＠") or not shown
            text = re.sub(r"[\r\n]+", " ", cell.replace("\0", "")).encode("utf-8", "backslashreplace").decode()
            assert shown in (text, f"'{text}")
        elif isinstance(cell, float) and cell == cell and abs(cell) != float("inf"):
            assert float(shown) == cell
        elif isinstance(cell, int) and not isinstance(cell, bool):
            assert int(shown) == cell


@given(TEXTS)
def test_a_terminal_gets_no_control_characters(text: str) -> None:
    for lines in (False, True):
        shown = for_terminal(text, lines=lines)
        assert not any(
            unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in shown if not (lines and one == "\n")
        )
        assert not any(
            unicodedata.bidirectional(one) in ("RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI")
            for one in shown
        )
        assert for_terminal(shown, lines=lines) == shown


class _Reader(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def tags_of(text: str) -> tuple[list[str], str]:
    page = as_html(text, [Text(text), Figures([text, "n"], [[text, text]]), Cards([Card((), (text,))])])
    reader = _Reader()
    reader.feed(page)
    return reader.tags, "".join(reader.texts)


@given(TEXTS)
def test_text_adds_no_element_to_a_page(text: str) -> None:
    tags, shown = tags_of(text)
    assert [tag for tag in tags if tag != "code"] == [tag for tag in tags_of("plain")[0] if tag != "code"]
    assert shown.encode()


@given(TEXTS)
def test_text_adds_no_element_to_markdown(text: str) -> None:
    markdown = pytest.importorskip("markdown")
    for escaped in (for_markdown(text), code_for_markdown(text)):
        page = markdown.markdown(f"a {escaped} z", extensions=["tables"])
        reader = _Reader()
        reader.feed(page)
        assert set(reader.tags) <= {"p", "code"}, escaped
        cells = markdown.markdown(f"| x | y |\n| --- | --- |\n| a {escaped} | z |", extensions=["tables"])
        assert cells.count("<td>") == 2
        assert cells.count("<tr>") == 2


@given(st.floats(0, 1e9), st.integers(0, 3))
def test_a_time_for_people_is_the_time(seconds: float, decimals: int) -> None:
    shown = clock(seconds, decimals, colons=True)
    total = sum(float(part) * 60**place for place, part in enumerate(reversed(shown.split(":"))))
    assert total == pytest.approx(seconds, abs=0.51 * 10**-decimals)
    assert re.fullmatch(r"(\d+:)?\d\d:\d\d(\.\d+)?", shown)
