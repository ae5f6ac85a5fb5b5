"""Files of other programs are read as they were meant; FFmpeg, Python's XML parser and our own writers say how."""

import json
import re
import time
from contextlib import suppress
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea.data.readers._table import read_rows
from avpea.errors import DataError
from avpea.escapes import for_terminal
from avpea.formats import FORMATS, READABLE, Stretch, _read, csv_line, file_cell, read, rendered
from tests.properties.kinds import TEXTS
from tests.test_formats import STRETCHES

HEADING = csv_line(["start_seconds", "end_seconds", "label"])
SLOTS = '<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="2500"/>'
SLOTS += '<TIME_SLOT TIME_SLOT_ID="c"/></TIME_ORDER>'


def eaf(inside: str, header: str = "", start: str = "") -> bytes:
    return f"{start}<ANNOTATION_DOCUMENT><HEADER {header}/>{SLOTS}{inside}</ANNOTATION_DOCUMENT>".encode()


def tier(name: str, *texts: str, slots: tuple[str, str] = ("a", "b")) -> str:
    some = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="{slots[0]}" TIME_SLOT_REF2="{slots[1]}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for text in texts
    )
    return f'<TIER TIER_ID="{name}">{some}</TIER>'


def written(name: str, some: list[Stretch]) -> bytes:
    there = Path("/videos/a.mp4")
    if name == "csv":
        lines = [csv_line([one.start_seconds, one.end_seconds, one.text]) for one in some]
        return "".join([HEADING, *lines]).encode()
    if name == "json":
        events = [
            {"start_seconds": one.start_seconds, "end_seconds": one.end_seconds, "label": one.text.replace("\0", "")}
            for one in some
        ]
        return json.dumps({"video": "a.mp4", "events": events}).encode()
    return rendered(name, there, "events", some, there).encode()


@pytest.mark.parametrize("lane", ["seen", "both"])
def test_events_with_lanes_are_refused(lane: str) -> None:
    """They would be events of one list: what is only seen would be seen and heard, and three would be one."""
    row = {"start_seconds": 0, "end_seconds": 2, "label": "dog", "lane": lane}
    table = csv_line([*row]) + csv_line([*row.values()])
    for name, content in (("json", json.dumps({"events": [row]})), ("csv", table)):
        with pytest.raises(DataError, match=f"'dog' has the lane '{lane}', and .* leave their lane out"):
            read(name, content.encode(), "a file")


@pytest.mark.parametrize("name", READABLE)
def test_what_is_written_is_read_again(name: str) -> None:
    found = read(name, written(name, STRETCHES), "a file")
    texts = ["bark", "naïve 犬", "<i>a</i> <dog> & {\\an8} x --> y &lt;b&gt; 2 00:00:00,000 \\N =1", "late"]
    if name in ("csv", "json"):
        assert [(one.start_seconds, one.end_seconds) for one in found] == [
            (one.start_seconds, one.end_seconds) for one in STRETCHES
        ]
    else:
        assert found[3] == Stretch(3661.0, 3662.0 if name != "audacity" else 3661.9996, "late")
    assert [one.text for one in found] == texts
    assert set(FORMATS) < set(READABLE)


@pytest.mark.parametrize("name", [name for name in READABLE if name not in ("csv", "json")])
@given(rows=st.lists(st.tuples(st.integers(0, 400_000_000), st.integers(1, 90_000), TEXTS), max_size=4))
def test_any_text_comes_back(name: str, rows: list[tuple[int, int, str]]) -> None:
    some = [Stretch(a / 1000, (a + n) / 1000, text) for a, n, text in rows]
    once = written("audacity", some)  # one line, never empty
    texts = [line.split("\t")[2] for line in once.decode().split("\n")[:-1]]
    plain = [Stretch(one.start_seconds, one.end_seconds, text) for one, text in zip(some, texts, strict=True)]
    if any(text == "-" for text in texts) or any(len(text) > 1000 for text in texts):
        return
    found = read(name, written(name, some), "a file")
    assert sorted(found, key=repr) == sorted(plain, key=repr)


LINES = [
    "a\nb",
    "a\r\n\r\nb",
    "\ra",
    "a\u2028b\u2029",
    "a\x85b",
    "a\t b",
    "a\x0bb\x0c",
    " a ",
    "a  b",
    "a\u00a0b",
]
SIGNS = [
    "<\u2060b>",
    "<\u2060\u2060b>",
    "---->",
    "--\u2060>",
    "\\\u2060N",
    "{\u2060\\an8}",
    "1\n00:00:01,000 --> 2",
    "NOTE\n\nx",
]


@pytest.mark.parametrize("text", [*LINES, *SIGNS])
def test_a_label_of_a_table_comes_back_from_every_format(tmp_path: Path, text: str) -> None:
    """Tables put a label into one line when they are read, so no export can change it."""
    table = tmp_path / "videos.csv"
    quoted = text.replace('"', '""')
    table.write_text(f'video,start_seconds,end_seconds,label\na.mp4,1,2,"{quoted}"\n', "utf-8", newline="")
    ((row,), _) = read_rows(table)
    assert row.label == " ".join(text.split())
    for name in READABLE:
        assert read(name, written(name, [Stretch(1.0, 2.0, row.label)]), "a file") == [Stretch(1.0, 2.0, row.label)]
    json_lines = table.with_suffix(".jsonl")
    json_lines.write_text(json.dumps({"video": "a.mp4", "start_seconds": 1, "end_seconds": 2, "label": text}))
    assert read_rows(json_lines)[0][0].label == row.label


@pytest.mark.parametrize("label", ["=1", "-dog", "'-dog", "''=x", "'til", "+", "@a"])
def test_a_label_that_looks_like_a_formula_is_itself_again(label: str) -> None:
    (one,) = read("csv", (HEADING + csv_line([0.0, 1.0, label])).encode(), "a.csv")
    assert one.text == label


def test_subtitles_as_ffmpeg_reads_them(tmp_path: Path) -> None:
    """Cues as other programs write them: several lines, settings, hours left out, names, notes and styles."""
    files = {
        "vtt": "\ufeffWEBVTT - a title\nKind: captions\n\nSTYLE\n::cue {color: red}\n\nNOTE a\nremark\n\nfirst\n"
        "00:01.000 --> 00:02.500 align:start line:0%\nA <b>dog</b> &amp;\na &lt;cat&gt;\n\n"
        "01:00:00.000 --> 01:00:01.000\n<v Ann>hello</v>\n",
        "srt": "1\r\n00:00:01,000 --> 00:00:02,500\r\nA dog\r\nbarks\r\n\r\n"
        "2\r\n01:00:00,000 --> 01:00:01,000\r\nend\r\n",
    }
    for name, text in files.items():
        path = tmp_path / f"a.{name}"
        path.write_text(text, encoding="utf-8", newline="")
        with av.open(str(path)) as container:
            wanted = [
                (float(p.pts * p.time_base), float((p.pts + p.duration) * p.time_base))
                for p in container.demux()
                if p.size and p.pts is not None and p.duration is not None
            ]
        found = read(name, path.read_bytes(), path.name)
        assert [(one.start_seconds, one.end_seconds) for one in found] == wanted == [(1, 2.5), (3600, 3601)]
    assert [one.text for one in read("vtt", files["vtt"].encode(), "")] == ["A dog & a <cat>", "hello"]
    assert [one.text for one in read("srt", files["srt"].encode(), "")] == ["A dog barks", "end"]


def test_audacity_with_frequencies_and_decimal_commas() -> None:
    text = "1,500000\t2,000000\tcat\n\\\t100.0\t2000.0\n0.5\t1.5\tdog\tand more\n"
    assert read("audacity", text.encode(), "a.txt") == [Stretch(0.5, 1.5, "dog and more"), Stretch(1.5, 2.0, "cat")]


def test_elan_with_other_tiers() -> None:
    two = tier("events", "bark") + tier("events 2", "meow") + tier("words", "hello")
    assert [one.text for one in read("elan", eaf(two), "a.eaf")] == ["bark", "meow"]
    assert read("elan", eaf(tier("words", "hello") + tier("empty")), "a.eaf") == [Stretch(1.0, 2.5, "hello")]
    wide = '<?xml version="1.0" encoding="UTF-16"?>' + eaf(tier("words", "naïve 犬")).decode()
    assert read("elan", wide.encode("utf-16"), "a.eaf") == [Stretch(1.0, 2.5, "naïve 犬")]


WRONG = [
    ("audacity", b"1.0 2.0 dog\n", "a file, line 1: found '1.0 2.0 dog'; expected start, end and label with tabs"),
    ("audacity", b"1.0\t1.0\tdog\n", "'dog' is a point in time"),
    ("audacity", b"2.0\t1.0\tdog\n", "starts at 2 s and ends at 1 s"),
    ("audacity", b"nan\t1.0\tdog\n", "line 1: the start is 'nan', which is no number; expected seconds"),
    ("audacity", b"1\t2\ta\n3\tx\tb\n", "a file, line 2: the end is 'x', which is no number; expected seconds"),
    ("audacity", b"1\t1e999\tdog\n", "line 1: the end is '1e999', which is no number"),
    ("audacity", b"-1\t1.0\tdog\n", "starts at -1 s"),
    ("audacity", b"1\t1e9\tdog\n", "before 1,000,000 s"),
    ("audacity", b"1\t2\t \x01 \n", "has no label"),
    ("audacity", b"1\t2\t" + b"x" * 1001, "a label of 1,001 characters"),
    ("audacity", b"\xff\xfe\xff", "is not UTF-8 text"),
    ("audacity", b"1\t2\tdog\x00", "null character"),
    ("srt", b"1\n00:00:01,000 -> 00:00:02,000\ndog\n", "line 1: found '1'; expected a cue"),
    ("srt", b"1\n00:00:01,000 --> 00:61:02,000\ndog\n", "'00:00:01,000 --> 00:61:02,000'; expected times"),
    ("srt", b"1\n00:00:01,000 --> 00:00:02,000\n\n", "has no label"),
    ("srt", b"1\n00:00:03,000 --> 00:00:02,000\ndog\n", "line 2: the event starts at 3 s and ends at 2 s"),
    ("vtt", b"00:01.000 --> 00:02.000\ndog\n", "expected WEBVTT"),
    ("vtt", b"WEBVTTX\n", "expected WEBVTT"),
    ("vtt", b"WEBVTT\n\nsomething\nelse\n", "line 4: found 'else'; expected a cue"),
    ("vtt", b"WEBVTT\n\n0:1.000 --> 0:2.000\na\n0:3.000 --> 0:4.000\nb\n", "line 5: found '0:3.000 --> 0:4.000'"),
    ("srt", b"1\n0:1,000 --> 0:2,000\na --> b\n2\n0:3,000 --> 0:4,000\n", "0'; expected an empty line before each cue"),
    ("csv", b"a,b\n1,2\n", "no column is called 'a'"),
    ("csv", b"start_seconds,end_seconds,label\n1,2\n", "found 2 fields; expected 3"),
    ("csv", b"start_seconds,end_seconds,label\n1,x,dog\n", "end_seconds = 'x'; expected seconds"),
    ("csv", b"video,start_seconds,end_seconds,label\na.mp4,1,2,dog\nb.mp4,1,2,dog\n",
     "a file has events of 2 videos, such as 'a.mp4' and 'b.mp4'; expected one."),
    ("csv", b'start_seconds,end_seconds,label\n1,2,"dog\n', "not CSV"),
    ("csv", b"video,start_seconds,end_seconds,label,confidence,doubtful,error\na.mp4,,,,,,decoder crashed\n",
     "line 2: a.mp4 could not be read when this table was written"),
    ("json", b'[{"start_seconds": null, "end_seconds": null, "label": null, "error": "x"}]',
     "the video could not be read"),
    ("json", b'{"video": "a.mp4", "events": [], "error": "decoder crashed"}', "a.mp4 could not be read"),
    ("json", b"[1]", "expected an object with \"events\""),
    ("json", b"{", "not JSON"),
    ("json", b'[{"start_seconds": 1, "label": "dog"}]', "event 1: no 'end_seconds'"),
    ("json", b'[{"start_seconds": NaN, "end_seconds": 2, "label": "dog"}]', "NaN, which is no number"),
    ("json", b'[{"start_seconds": true, "end_seconds": 2, "label": "dog"}]', "expected seconds"),
    ("json", b"[" * 100_000, "more than 50 levels"),
    ("elan", b"not xml", "line 1: not XML"),
    ("elan", b"<a/>", "its root is <a>"),
    ("elan", eaf(tier("a", "x") + tier("b", "y")), "a file has 2 tiers with annotations ('a', 'b')"),
    ("elan", eaf(tier("events", "x", slots=("a", "c"))), "annotation a1: it has no time"),
    ("elan", eaf(tier("events", "x", slots=("b", "a"))), "starts at 2.5 s and ends at 1 s"),
    ("elan", eaf("", 'TIME_UNITS="PAL-frames"'), "its times are in 'PAL-frames'"),
    ("elan", eaf('<MEDIA_DESCRIPTOR TIME_ORIGIN="500"/>'), "time origin of a video in it is '500'"),
    ("elan", eaf('<TIER TIER_ID="w"><ANNOTATION><REF_ANNOTATION/></ANNOTATION></TIER>'), "has REF_ANNOTATION"),
    ("elan", eaf('<TIME_SLOT TIME_SLOT_ID="d" TIME_VALUE="-5"/>'), "has the time '-5'"),
    ("elan", b"<x>" * 100 + b"</x>" * 100, "more than 30 levels"),
    ("elan", b'<?xml version="1.0" encoding="klingon"?><a/>', "klingon"),
    ("mp3", b"", "There is no format 'mp3'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "sentence"), WRONG)
def test_what_is_wrong_is_a_sentence(name: str, content: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)) as caught:
        read(name, content, "a file")
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 500


def test_a_cue_may_follow_the_line_that_says_webvtt() -> None:
    """As in a browser: a line of times ends the header."""
    cues = b"00:01.000 --> 00:02.000\ndog\n\n00:03.000 --> 00:04.000\ncat\n"
    wanted = [Stretch(1.0, 2.0, "dog"), Stretch(3.0, 4.0, "cat")]
    for header in (b"WEBVTT\n", b"WEBVTT - a --> b\nKind: captions\n", b"WEBVTT\n\n", b"WEBVTT --> x\n\n"):
        assert read("vtt", header + cues, "a file") == wanted


TABLE = "video,start_seconds,end_seconds,label\n"


@pytest.mark.parametrize(
    ("named", "same"),
    [
        ("sub/a b.mp4", True),
        ("a b.mp4", True),
        ("/home/me/videos/sub/a b.mp4", True),
        (r"C:\videos\sub\a b.mp4", True),
        ("./sub/a b.mp4", True),
        ("../sub/a b.mp4", True),
        ("file:sub/a%20b.mp4", True),
        ("", True),
        ("other.mp4", False),
        ("other/a b.mp4", False),
        ("b.mp4", False),
        ("file:sub/a%0Ab.mp4", False),
        ("sub/a b.mp4/x", False),
    ],
)
def test_a_table_of_another_video_is_refused(named: str, same: bool) -> None:
    """Only what names a video is compared; a path counts as far as both have folders."""
    files = {"csv": (TABLE + f"{named},1,2,dog\n").encode()}
    if not named.startswith("file:"):
        event = {"start_seconds": 1, "end_seconds": 2, "label": "dog"}
        files["json"] = json.dumps({"video": named, "events": [event]}).encode()
    for name, content in files.items():
        assert read(name, content, "labels") == [Stretch(1.0, 2.0, "dog")]
        if same:
            assert read(name, content, "labels", "sub/a b.mp4") == [Stretch(1.0, 2.0, "dog")]
            continue
        with pytest.raises(DataError) as caught:
            read(name, content, "labels", "sub/a b.mp4")
        shown = "sub/a\\nb.mp4" if "%0A" in named else named
        assert str(caught.value).startswith(f"labels has events of '{shown}', and this is sub/a b.mp4; name that video")


def test_a_name_that_a_table_cannot_hold_is_that_of_the_same_video() -> None:
    for video in ("a\nb.mp4", "a\udcff.mp4", " a.mp4", "file:a.mp4", "é" * 100 + ".mp4"):
        content = (TABLE + csv_line([file_cell(f"videos/{video}"), 1, 2, "dog"])).encode()
        assert read("csv", content, "labels", for_terminal(video)) == [Stretch(1.0, 2.0, "dog")]
    long = "x" * 200 + ".mp4"
    assert read("csv", (TABLE + csv_line([long, 1, 2, "dog"])).encode(), "labels", long[-120:])


def test_bombs_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    laughs = eaf("&l9;", start=f'<!DOCTYPE a [<!ENTITY l0 "lol">{entities}]>')
    outside = eaf("&x;", start='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>')
    begun = time.process_time()
    for content in (laughs, outside, eaf("", start='<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd">')):
        with pytest.raises(DataError, match="document type"):
            read("elan", content, "a.eaf")
    for name in READABLE:
        with pytest.raises(DataError, match="bigger than 16 MiB"):
            read(name, b" " * (17 << 20), "a file")
    monkeypatch.setattr(_read, "_MOST", 1000)
    with pytest.raises(DataError, match="more than 1,000 events"):
        read("audacity", b"1\t2\ta\n" * 1001, "a file")
    assert time.process_time() - begun < 60


@pytest.mark.parametrize("name", READABLE)
@given(content=st.one_of(st.binary(max_size=80), TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_bytes_are_read_or_refused(name: str, content: bytes) -> None:
    starts = {"vtt": b"WEBVTT\n\n", "csv": HEADING.encode(), "elan": b"<ANNOTATION_DOCUMENT>"}
    for start in (b"", starts.get(name, b"")):
        with suppress(DataError):
            read(name, start + content, "a file")
