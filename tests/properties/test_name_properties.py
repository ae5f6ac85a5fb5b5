"""Names of files in our tables: whatever a file is called, our readers get it back, and no spreadsheet a formula."""

import csv
import io
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from avpea.data.readers._table import read_rows
from avpea.formats import Stretch, csv_line, file_cell, read
from avpea.serve.exports import Reviewed, save_manifest
from tests.properties.kinds import HOSTILE

# What a system lets a file be called: any bytes but / and null.
PIECES = (b"\xff", b"\xed\xa0\x80", b"=1", b"+1", b"-1", b"@a", b"'", b'"', b"file:", b"%0A", b"%", b"\\", b"\t", b"\r",
          b"\x85", b".", *(text.encode("utf-8", "ignore") for text in HOSTILE))  # fmt: skip
NAMES = (
    st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), min_size=1, max_size=4)
    .map(lambda pieces: os.fsdecode(b"".join(pieces).replace(b"\0", b"").replace(b"/", b"")))
    .filter(lambda name: name not in ("", ".", ".."))
)
PATHS = st.lists(NAMES, min_size=1, max_size=2).map("/".join)


@given(PATHS, st.text(max_size=5).filter(lambda text: text.strip() == text != "" and text.isprintable()))
def test_a_row_is_read_back_as_it_was_written(tmp_path: Path, name: str, label: str) -> None:
    line = csv_line([file_cell(name), 0.5, 2.0, label])
    assert line.count("\n") == 1
    assert "\r" not in line
    (cells,) = csv.reader(io.StringIO(line, newline=""), strict=True)
    assert cells[0][:1] not in tuple("=+-@\t＝＋－＠")
    path = tmp_path / "events.csv"
    path.write_bytes((csv_line(["video", "start_seconds", "end_seconds", "label"]) + line).encode())
    (row,), _ = read_rows(path)
    assert (row.video, row.start_seconds, row.end_seconds, row.label) == (name, 0.5, 2.0, label)
    assert read("csv", path.read_bytes(), "events.csv") == [Stretch(0.5, 2.0, label)]


@given(st.lists(PATHS, min_size=1, max_size=4, unique=True))
def test_a_manifest_of_corrections_names_the_same_videos(tmp_path: Path, names: list[str]) -> None:
    path = save_manifest(tmp_path, [Reviewed(name, [Stretch(0.0, 1.0, "dog")][: len(name) % 2]) for name in names])
    rows, _ = read_rows(path)
    assert [row.video for row in rows] == names
    assert path.read_bytes().count(b"\n") == len(names) + 1
