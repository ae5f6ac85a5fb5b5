"""Formats of other programs, read back by parsers that are not ours: FFmpeg's, Python's csv and its XML parser."""

import csv
import io
import urllib.parse
import xml.etree.ElementTree as ET
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea.formats import Stretch, csv_line, rendered

HOSTILE = "<i>a</i> <dog> & {\\an8} x --> y &lt;b&gt;\n\n2\n00:00:00,000 \x00\x1b\u2028 \\N =1"
STRETCHES = [
    Stretch(0.0, 2.0, "bark"),
    Stretch(2.0, 3.25, "naïve 犬"),
    Stretch(3.25, 4.0, HOSTILE),
    Stretch(3661.0, 3661.9996, "late"),
]


def write(folder: Path, name: str, ending: str, stretches: list[Stretch] = STRETCHES) -> Path:
    path = folder / f"clip{ending}"
    path.write_text(rendered(name, folder / "my clip é.mp4", "events", stretches, path), encoding="utf-8")
    return path


def cues(path: Path) -> list[tuple[float, float, str]]:
    """Start, end and raw text of each cue, as FFmpeg takes the file apart."""
    found = []
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.duration is not None and packet.size:
                start = float(packet.pts * packet.time_base)
                found.append((start, start + float(packet.duration * packet.time_base), bytes(packet).decode()))
    return found


@pytest.mark.parametrize(("name", "ending"), [("vtt", ".vtt"), ("srt", ".srt")])
def test_ffmpeg_reads_every_cue(tmp_path: Path, name: str, ending: str) -> None:
    found = cues(write(tmp_path, name, ending))
    assert [(start, end) for start, end, _ in found] == [(0, 2), (2, 3.25), (3.25, 4), (3661, 3662)]
    assert [text.strip() for _, _, text in found][:2] == ["bark", "naïve 犬"]
    assert "\n" not in found[2][2].strip()


def test_webvtt_escapes_as_the_standard_says(tmp_path: Path) -> None:
    text = write(tmp_path, "vtt", ".vtt").read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nbark\n\n")
    assert "01:01:01.000 --> 01:01:02.000\nlate\n" in text
    escaped = "&lt;i&gt;a&lt;/i&gt; &lt;dog&gt; &amp; {\\an8} x --&gt; y &amp;lt;b&amp;gt; 2 00:00:00,000 \\N =1"
    assert f"\n{escaped}\n" in text
    assert text.count("-->") == len(STRETCHES)


def test_subrip_shows_what_looks_like_a_tag(tmp_path: Path) -> None:
    path = write(tmp_path, "srt", ".srt")
    assert path.read_text(encoding="utf-8").startswith("1\n00:00:00,000 --> 00:00:02,000\nbark\n\n2\n")
    with av.open(str(path)) as container:
        shown = [str(s.ass, "utf-8") for packet in container.demux() for s in packet.decode() if packet.size]  # type: ignore[union-attr]
    texts = [line.split(",", 8)[-1].replace("\u2060", "") for line in shown]
    assert texts[2] == "<i>a</i> <dog> & {\\an8} x --> y &lt;b&gt; 2 00:00:00,000 \\N =1"


def test_audacity_has_three_columns(tmp_path: Path) -> None:
    lines = write(tmp_path, "audacity", ".txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    assert rows[1] == ["2.000000", "3.250000", "naïve 犬"]
    assert [len(row) for row in rows] == [3] * 4
    assert [float(row[0]) for row in rows] == [one.start_seconds for one in STRETCHES]


def test_elan_is_as_its_schema_has_it(tmp_path: Path) -> None:
    path = write(tmp_path, "elan", ".eaf")
    root = ET.parse(path).getroot()
    assert root.tag == "ANNOTATION_DOCUMENT"
    assert {"AUTHOR", "DATE", "VERSION"} <= root.attrib.keys()
    assert [part.tag for part in root] == ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE"]  # a sequence there
    times = {slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")}
    found = [
        (times[a.attrib["TIME_SLOT_REF1"]], times[a.attrib["TIME_SLOT_REF2"]], a.findtext("ANNOTATION_VALUE"))
        for a in root.iter("ALIGNABLE_ANNOTATION")
    ]
    assert found[:2] == [(0, 2000, "bark"), (2000, 3250, "naïve 犬")]
    assert [row[:2] for row in found[2:]] == [(3250, 4000), (3_661_000, 3_662_000)]
    assert found[2][2] == "<i>a</i> <dog> & {\\an8} x --> y &lt;b&gt; 2 00:00:00,000 \\N =1"
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert media is not None
    assert media.attrib["MIME_TYPE"] == "video/mp4"
    address = urllib.parse.urlsplit(media.attrib["MEDIA_URL"])
    assert (address.scheme, urllib.parse.unquote(address.path)) == ("file", str(tmp_path / "my clip é.mp4"))
    assert urllib.parse.unquote(media.attrib["RELATIVE_MEDIA_URL"]) == "./my clip é.mp4"
    kinds = {kind.attrib["LINGUISTIC_TYPE_ID"] for kind in root.iter("LINGUISTIC_TYPE")}
    assert {tier.attrib["LINGUISTIC_TYPE_REF"] for tier in root.iter("TIER")} <= kinds


def test_a_tier_of_elan_has_no_overlaps(tmp_path: Path) -> None:
    some = [Stretch(0, 3, "a"), Stretch(1, 2, "b"), Stretch(2, 4, "c"), Stretch(3, 5, "d")]
    root = ET.parse(write(tmp_path, "elan", ".eaf", some)).getroot()
    tiers = [[v.text for v in tier.iter("ANNOTATION_VALUE")] for tier in root.iter("TIER")]
    assert tiers == [["a", "d"], ["b", "c"]]
    assert [tier.attrib["TIER_ID"] for tier in root.iter("TIER")] == ["events", "events 2"]
    # A stretch without length is written as one of a millisecond.
    root = ET.parse(write(tmp_path, "elan", ".eaf", [Stretch(0, 0, "a"), Stretch(0, 0, "b")])).getroot()
    assert len(list(root.iter("TIER"))) == 2


@pytest.mark.parametrize("name", ["vtt", "srt", "audacity", "elan"])
def test_no_event_is_an_empty_file_of_its_format(tmp_path: Path, name: str) -> None:
    text = rendered(name, tmp_path / "a.mp4", "events", [], tmp_path / "a")
    assert "bark" not in text
    assert text == "WEBVTT\n" if name == "vtt" else True
    if name == "elan":
        assert len(list(ET.fromstring(text).iter("TIER"))) == 1


@given(st.text(max_size=40))
def test_any_text_is_one_cell_of_each_format(text: str) -> None:
    one = [Stretch(1.0, 2.0, text)]
    there = Path("/videos/a.mp4")
    assert rendered("audacity", there, "events", one, there).count("\n") == 1
    assert rendered("vtt", there, "events", one, there).count("-->") == 1
    root = ET.fromstring(rendered("elan", there, "events", one, there))
    assert root.findtext(".//ANNOTATION_VALUE")
    line = csv_line([text, 1.5, None])
    assert line.count("\n") == 1
    ((_, *rest),) = csv.reader(io.StringIO(line, newline=""))
    assert rest == ["1.5", ""]


@pytest.mark.parametrize("formula", ['=cmd|"/C calc"!A0', "+1", "-1+2", "@SUM(A1)", "\t=1", "＝1"])
def test_a_formula_is_text(formula: str) -> None:
    (row,) = csv.reader(io.StringIO(csv_line([formula, -1.5, float("nan"), 'say "a, b"'])))
    assert row[1:] == ["-1.5", "", 'say "a, b"']
    assert row[0] == f"'{formula}"
