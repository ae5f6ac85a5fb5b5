"""AVE's annotation files: the official ones, and small ones with every oddity that the format allows."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avpea import data
from avpea.data.readers import ave
from avpea.errors import DataError, ExperimentError
from tests.data.data_factory import HEADER, ROWS, write_ave
from tests.tiny import section

OFFICIAL_ROWS_PER_CLASS = (
    *(188, 176, 171, 184, 188, 175, 178, 187, 172, 163, 182, 138, 102, 99),
    *(186, 176, 160, 183, 100, 83, 69, 160, 60, 64, 180, 109, 154, 156),
)


def read(root: Path, segments: int = 10) -> Any:  # annotations of events
    return data.read(section("data", "ave", root=str(root), segments=segments))


# --- official files


def test_official_splits_and_classes(shared_data: Path) -> None:
    official = read(shared_data / "annotations" / "AVE")
    assert {split: len(samples) for split, samples in official.splits.items()} == {
        "train": 3339,
        "val": 402,
        "test": 402,
    }
    assert (official.name, official.labels.names, official.labels.background) == ("AVE", ave.AVE_CLASSES, 28)
    assert len({sample.key for sample in official.samples}) == 4143
    assert len({sample.video_id for sample in official.samples}) == 4097


def test_official_background_shares(shared_data: Path) -> None:
    official = read(shared_data / "annotations" / "AVE")
    shares = {
        split: round(100 * official.labels.background_share(samples), 1) for split, samples in official.splits.items()
    }
    assert shares == {"train": 16.9, "val": 18.2, "test": 17.8}
    full = [s for s in official.splits["test"] if official.labels.background not in s.labels]
    assert len(full) == 261


def test_official_rows_per_class(shared_data: Path) -> None:
    folder = shared_data / "annotations" / "AVE"
    with_header, without = (ave.parse(folder / f"Annotations{end}.txt") for end in ("", "_github_noheader"))
    assert with_header == without
    counts = Counter(row.category for row in with_header)
    assert tuple(counts[name] for name in ave.AVE_CLASSES) == OFFICIAL_ROWS_PER_CLASS


def test_official_notes(shared_data: Path) -> None:
    official = read(shared_data / "annotations" / "AVE")
    overlaps = official.videos_in_two_splits()
    assert {pair: len(ids) for pair, ids in overlaps.items()} == {"train/val": 10, "train/test": 8}
    assert len(official.repeated_ids()) == 45
    text = " ".join(official.notes)
    assert "Videos in both train and val: 10 (" in text
    assert "Videos in both train and test: 8 (" in text
    assert "Church bell VWi2ENBuTbw" in text
    empty = next(s for s in official.splits["train"] if s.video_id == "VWi2ENBuTbw")
    assert set(empty.labels) == {28}


def test_official_order_whatever_the_order_of_the_files(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "annotations" / "AVE"
    for name in ("trainSet.txt", "valSet.txt", "testSet.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    lines = (folder / "Annotations.txt").read_text().splitlines()
    (tmp_path / "Annotations.txt").write_text("\n".join(reversed(lines[1:])))
    assert read(tmp_path).labels.names == ave.AVE_CLASSES


def test_ave_mini(shared_data: Path) -> None:
    mini = read(shared_data / "ave-mini")
    assert mini.name == "ave-mini"
    assert {split: len(samples) for split, samples in mini.splits.items()} == {
        "train": 392,
        "val": 84,
        "test": 112,
    }
    listed = (shared_data / "ave-mini" / "categories.txt").read_text().splitlines()
    assert list(mini.labels.names) == listed
    shares = {split: round(mini.labels.background_share(samples), 3) for split, samples in mini.splits.items()}
    assert shares == {"train": 0.402, "val": 0.361, "test": 0.404}
    assert all(sample.video.is_file() for sample in mini.samples)
    assert mini.notes == ()


# --- names, ids and files


@pytest.mark.parametrize("header", [True, False])
def test_small_set(tmp_path: Path, header: bool) -> None:
    found = read(write_ave(tmp_path / "mine", header=header), segments=4)
    assert found.name == "mine"
    assert found.labels.names == ("Frying (food)", "Male speech, man speaking", "Bark")
    first, male, bark = found.splits["train"]
    assert first.labels == (0, 0, 0, 3)
    assert (male.labels, bark.labels) == ((3, 1, 3, 3), (3, 2, 3, 3))
    assert (male.video, male.video_id) == (bark.video, bark.video_id)
    assert first.key == "train-0000--a_b"
    assert first.video == tmp_path / "mine" / "AVE" / "-a.b.mp4"
    assert len({s.key for s in found.samples}) == 5
    assert found.splits["val"][0].labels == (3, 3, 3, 3)
    assert any("Rows without length" in note and "Bark valid" in note for note in found.notes)
    assert any("1 video id has more than one row" in note for note in found.notes)


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    write_ave(tmp_path)
    plain = read(tmp_path)
    for path in tmp_path.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read(tmp_path) == plain


def test_categories_file_gives_the_order(tmp_path: Path) -> None:
    names = ("Bark", "Unused", "Male speech, man speaking", "Frying (food)")
    assert read(write_ave(tmp_path, categories=names)).labels.names == names


@pytest.mark.parametrize(
    ("categories", "message"),
    [(["Bark"], "does not list Frying"), (["Bark", "Cat", "Bark"], "lists Bark twice")],
)
def test_wrong_categories_file(tmp_path: Path, categories: list[str], message: str) -> None:
    write_ave(tmp_path, categories=categories)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["AVE/--t.mp4", "videos/--t.mp4", "--t.mp4"], "AVE/--t.mp4"),
        (["videos/--t.webm", "--t.mp4"], "videos/--t.webm"),
        (["--t.MKV"], "--t.MKV"),
        (["AVE/--t.webm", "AVE/--t.mp4"], "AVE/--t.mp4"),
        (["AVE/--t.txt"], "AVE/--t.mp4"),
    ],
)
def test_where_videos_are_found(tmp_path: Path, files: list[str], chosen: str) -> None:
    write_ave(tmp_path)
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert read(tmp_path).splits["test"][0].video == tmp_path / chosen


def test_notes_tell_what_does_not_fit(tmp_path: Path) -> None:
    rows = {**ROWS, "test": ["Bark&valid&good&0&9"]}
    write_ave(tmp_path, rows)
    with (tmp_path / "Annotations.txt").open("a") as file:
        file.write("Bark&nowhere&good&0&1\n")
    with (tmp_path / "valSet.txt").open("a") as file:
        file.write("Bark&only-here&good&0&1\n")
    text = " ".join(read(tmp_path, segments=5).notes)
    assert "Videos in both val and test: 1 (valid)" in text
    assert "1 event reaches beyond the 5 seconds of a sample: valid" in text
    assert "Annotations.txt does not have: only-here" in text
    assert "1 row of Annotations.txt is in no split: nowhere" in text


# --- errors


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Bark,x,good,0,1", "found 1 fields in 'Bark,x,good,0,1'; expected 5"),
        ("Bark&x&good&0&1&2", "found 6 fields"),
        ("Bark&x&good&zero&1", "found 'zero' to '1'; expected start and end in whole seconds"),
        ("Bark&x&good&-1&1", "found '-1' to '1'"),
        ("Bark&x&good&0.5&1", "found '0.5' to '1'"),
        ("Bark&x&good&4&2", "starts at 4 and ends at 2; expected start <= end"),
        ("&x&good&0&1", "empty category or video id"),
        ("Bark&&good&0&1", "empty category or video id"),
        ("Bark&../../etc/x&good&0&1", "expected a file name without folder"),
    ],
)
def test_malformed_row_names_file_and_line(tmp_path: Path, line: str, found: str) -> None:
    write_ave(tmp_path)
    path = tmp_path / "valSet.txt"
    path.write_text(f"Bark&fine&good&0&1\n\n{line}\n")
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert f"{path}, line 3: " in str(error.value)
    assert found in str(error.value)


@pytest.mark.parametrize("content", ["", HEADER + "\n"])
def test_file_without_rows(tmp_path: Path, content: str) -> None:
    write_ave(tmp_path)
    (tmp_path / "testSet.txt").write_text(content)
    with pytest.raises(DataError, match=r"testSet\.txt holds no rows"):
        read(tmp_path)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    write_ave(tmp_path)
    (tmp_path / "testSet.txt").write_bytes(b"caf\xe9&")
    with pytest.raises(DataError, match=r"testSet\.txt is not UTF-8 text"):
        read(tmp_path)


def test_missing_files_are_named_with_the_layout(tmp_path: Path) -> None:
    write_ave(tmp_path / "AVE_Dataset")
    with pytest.raises(DataError, match=r"no folder .*nowhere.*AVE/<VideoID>\.mp4"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no Annotations\.txt, trainSet\.txt.*found in .*AVE_Dataset"):
        read(tmp_path)
    (tmp_path / "AVE_Dataset" / "valSet.txt").unlink()
    with pytest.raises(DataError, match=r"has no valSet\.txt\. A data set in AVE's layout"):
        read(tmp_path / "AVE_Dataset")


@pytest.mark.parametrize("others", [None, "", HEADER + "\n"])
def test_a_set_to_evaluate_on_has_a_test_split_only(tmp_path: Path, others: str | None) -> None:
    """Files of the other splits are missing, or hold no rows."""
    (tmp_path / "testSet.txt").write_text("Bark&a&good&0&2\nChurch bell&b&good&1&3\n")
    for name in ("trainSet.txt", "valSet.txt", "Annotations.txt"):
        if others is not None:
            (tmp_path / name).write_text(others)
    found = read(tmp_path, segments=3)
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 0, "val": 0, "test": 2}
    assert found.labels.names == ("Bark", "Church bell")
    assert [sample.labels for sample in found.splits["test"]] == [(0, 0, 2), (2, 1, 1)]
    assert found.notes == ("There are no train rows.", "There are no val rows.")


def test_read_needs_a_root_and_a_known_name() -> None:
    with pytest.raises(DataError, match=r"data\.root is empty.*--data\.root"):
        data.read(section("data", "ave"))
    with pytest.raises(ExperimentError, match=r"No reader is called 'aev'.*Did you mean 'ave'"):
        data.read(section("data", "aev", root="x"))


def test_a_sample_has_a_label_for_each_segment(tmp_path: Path) -> None:
    sample = read(write_ave(tmp_path)).splits["train"][0]
    with pytest.raises(ValueError, match="10 labels for 4 segments"):
        replace(sample, segments=4)


def test_what_labels_nothing_is_named(tmp_path: Path) -> None:
    rows = {
        "train": ["Bark&a&good&0&3", "Bark&b&good&2&2", "bark&c&good&12&14"],
        "val": [],
        "test": ["Bark&d&good&0&1"],
    }
    write_ave(tmp_path, {**rows, "val": rows["test"]})
    found = read(tmp_path)
    assert found.lost == ("b: 'Bark' 2-2 s has no length", "c: 'bark' 12-14 s begins after the 10 s of a sample")
    assert any("look alike: 'Bark' and 'bark'" in note for note in found.notes)
    write_ave(tmp_path, {**rows, "val": ["Background&e&good&0&1"]})
    with pytest.raises(DataError, match=r"Annotations\.txt, line 5: the label 'Background' is reserved"):
        read(tmp_path)
    write_ave(tmp_path, {**rows, "val": ["Bark&e&good&0.5&1"]})
    with pytest.raises(DataError, match=r"in whole seconds, 0 or more\. For fractions"):
        read(tmp_path)
